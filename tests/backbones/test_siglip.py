"""SigLIP and SigLIP 2 of fixed resolution against transformers: towers, joint vectors, text, and what is refused."""

import json
import re
import shutil
import string
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import save_tiny_clip, save_tiny_siglip, siglip_tokenizer
from torch.nn.functional import cosine_similarity, normalize
from transformers import Siglip2Config, Siglip2Model, Siglip2Tokenizer, SiglipModel

from r2tuning.backbones import load_backbone
from r2tuning.checkpoints.published import DEMO_FOLDER
from r2tuning.errors import BackboneError
from r2tuning.types import Preprocessing

QUERIES = ["a dog", "The Cat jumps, over it", "x", "a dog " * 30]


@pytest.fixture(scope="module", params=[1, 2], ids=["siglip", "siglip2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_siglip(tmp_path_factory.mktemp("siglip"), version=request.param)


@pytest.fixture(scope="module")
def reference(folder: Path) -> SiglipModel:
    return SiglipModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), dtype=np.uint8)


def pad(folder: Path, query: str) -> torch.Tensor:
    """Token ids as SigLIP was trained on them, ``[1, 64]``: lower case, cut or padded to 64."""
    kind = json.loads((folder / "tokenizer.json").read_text())["model"]["type"]
    text = query.strip().lower()
    if kind == "Unigram":  # what transformers' SiglipTokenizer does to text
        text = re.sub(r"\s+", " ", text.translate(str.maketrans("", "", string.punctuation))).strip()
    ids = siglip_tokenizer(1 if kind == "Unigram" else 2).encode(text).ids
    ids = ids if len(ids) <= 64 else [*ids[:63], ids[-1]]
    return torch.tensor([ids + [1 if kind == "Unigram" else 0] * (64 - len(ids))])


@pytest.mark.parametrize("layers", [1, 4, 5])
def test_image_tower_equals_transformers_hidden_states(
    folder: Path, reference: SiglipModel, frames: np.ndarray, layers: int
) -> None:
    values = load_backbone(folder, layers=layers).encode_frames(frames)
    pixels = torch.from_numpy(frames) / 127.5 - 1
    with torch.no_grad():
        hidden = reference.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    assert values.shape == (5, layers, 17, 32)
    for k in range(layers):
        torch.testing.assert_close(values[:, k, 1:], hidden[k - layers], atol=1e-5, rtol=0)
        torch.testing.assert_close(values[:, k, 0], hidden[k - layers].mean(dim=1), atol=1e-5, rtol=0)


def test_text_tower_equals_transformers_hidden_states(folder: Path, reference: SiglipModel) -> None:
    for query, features in zip(QUERIES, load_backbone(folder).encode_queries(QUERIES), strict=True):
        ids = pad(folder, query)
        real = 64 if features.truncated else int((ids[0] != 1).sum()) + 1 if ids[0, -1] == 1 else int((ids != 0).sum())
        with torch.no_grad():
            hidden = reference.text_model(input_ids=ids, output_hidden_states=True).hidden_states
        assert features.values.shape == (4, real, 16)
        assert features.truncated == (query == QUERIES[-1])
        for k in range(4):
            torch.testing.assert_close(features.values[k], hidden[k - 4][0, :real], atol=1e-5, rtol=0)


def test_joint_vectors_equal_those_of_transformers(folder: Path, reference: SiglipModel, frames: np.ndarray) -> None:
    backbone = load_backbone(folder, layers=2)
    seen, said = backbone.embed_frames(backbone.encode_frames(frames)), backbone.embed_queries(QUERIES)
    with torch.no_grad():
        images = reference.get_image_features(pixel_values=torch.from_numpy(frames) / 127.5 - 1)
        texts = [reference.get_text_features(input_ids=pad(folder, query)) for query in QUERIES]
    torch.testing.assert_close(seen, normalize(images.pooler_output, dim=-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(said, normalize(torch.cat([x.pooler_output for x in texts]), dim=-1), atol=1e-5, rtol=0)
    assert cosine_similarity(seen[0], seen[1], dim=0) < 0.9999  # the comparison can fail


def test_a_sentence_does_not_depend_on_others(folder: Path) -> None:
    backbone = load_backbone(folder)
    together = backbone.encode_queries(QUERIES)
    for query, features in zip(QUERIES, together, strict=True):
        torch.testing.assert_close(features.values, backbone.encode_queries([query])[0].values, atol=1e-5, rtol=0)


def test_text_is_read_as_transformers_tokenizer_of_siglip2_reads_it(tmp_path: Path) -> None:
    folder = save_tiny_siglip(tmp_path)
    theirs = Siglip2Tokenizer.from_pretrained(folder, padding_side="right")
    for query in [*QUERIES, "İstanbul", "DOG's \t ball!", "你好 🎉"]:
        ours = load_backbone(folder)._files.tokenizer.encode(query.strip()).ids
        ids = theirs(query.strip(), add_special_tokens=False, verbose=False)["input_ids"]
        assert ours == [*ids, theirs.eos_token_id], query


def test_words_are_found_in_the_tokens(folder: Path) -> None:
    backbone = load_backbone(folder)
    query = "  A dog's  ball  İs red "
    words = backbone.split_words(query)
    assert [word for word, _ in words] == ["A", "dog's", "ball", "İs", "red"]
    tokens = backbone._files.tokenizer.encode(query.strip()).tokens
    spelled = ["".join(tokens[part]).replace("▁", "") for _, part in words]
    assert spelled[:1] + spelled[2:3] + spelled[4:] == ["a", "ball", "red"]
    assert spelled[1] in ("dogs", "dog's")
    assert backbone.encode_queries([query])[0].values.shape[1] == len(tokens)
    cut = backbone.split_words("a dog " * 60)
    assert cut[-1][1].stop <= 63


def test_what_a_backbone_says_of_itself(folder: Path) -> None:
    backbone = load_backbone(folder)
    resampling = "bicubic" if backbone._padding == 1 else "bilinear"  # type: ignore[attr-defined]
    assert backbone.preprocessing == Preprocessing(64, "squash", resampling, (0.5,) * 3, (0.5,) * 3)
    assert (backbone.summary, backbone.tokens_per_frame, backbone.max_query_tokens) == ("mean", 17, 64)
    assert (backbone.video_width, backbone.query_width) == (32, 16)


def test_products_in_bf16_and_int8_stay_near(
    frames: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "cache"))
    folder = save_tiny_siglip(tmp_path / "siglip", video_width=64)
    exact = load_backbone(folder).encode_frames(frames)
    for engine in ("torch-bf16", "onnx-int8"):
        if engine == "onnx-int8":
            pytest.importorskip("onnxruntime", reason="the engine needs the extra onnx")
        near = load_backbone(folder, engine=engine).encode_frames(frames)
        assert near.dtype == exact.dtype
        assert cosine_similarity(near, exact, dim=-1).min() > 0.999
        assert not torch.equal(near, exact)


def test_siglip2_of_fixed_resolution_may_call_itself_so(tmp_path: Path, frames: np.ndarray) -> None:
    folder = save_tiny_siglip(tmp_path)
    expected = load_backbone(folder).encode_frames(frames)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "siglip2"}))
    assert torch.equal(load_backbone(folder).encode_frames(frames), expected)


def test_what_is_refused(tmp_path: Path) -> None:
    plain = save_tiny_siglip(tmp_path / "plain")
    cases = {
        r"takes images of any shape \(NaFlex\).*give a SigLIP 2 of fixed resolution": "naflex",
        r"tokenizer only as spiece.model; add the tokenizer.json of the model that it was trained from": "spiece",
        r"its tokenizer has no <pad> to pad with": "pad",
        r"frames are scaled with Pillow's filter 1; only 2 \(bilinear\) and 3 \(bicubic\)": "filter",
        r"the tokenizer adds no end token": "end",
    }
    for name in cases.values():
        shutil.copytree(plain, tmp_path / name)
    tower = {"num_hidden_layers": 5, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    naflex = Siglip2Config(vision_config={**tower, "num_patches": 16}, text_config={**tower, "vocab_size": 500})
    Siglip2Model(naflex).save_pretrained(tmp_path / "naflex")
    (tmp_path / "spiece" / "tokenizer.json").rename(tmp_path / "spiece" / "spiece.model")
    processor = json.loads((plain / "preprocessor_config.json").read_text())
    (tmp_path / "filter" / "preprocessor_config.json").write_text(json.dumps(processor | {"resample": 1}))
    content = (plain / "tokenizer.json").read_text()
    (tmp_path / "pad" / "tokenizer.json").write_text(content.replace("<pad>", "<gap>"))
    without = json.loads(content) | {"post_processor": None}
    (tmp_path / "end" / "tokenizer.json").write_text(json.dumps(without))
    for message, name in cases.items():
        with pytest.raises(BackboneError, match=message) as caught:
            load_backbone(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_backbone_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_siglip(tmp_path / "siglip", version=1)
    shutil.copy(save_tiny_siglip(tmp_path / "other") / "tokenizer.json", folder)
    with pytest.raises(BackboneError, match=r"has a token \d+, but the text tower only \d+ tokens; use the tokenizer"):
        load_backbone(folder).encode_queries(["a dog 🎉"])
    clip = save_tiny_clip(tmp_path / "clip")
    shutil.copy(DEMO_FOLDER.parent / "clip" / "tokenizer.json", clip)
    with pytest.raises(BackboneError, match=r"clip: the tokenizer has a token \d+, but the text tower only"):
        load_backbone(clip)


def test_a_backbone_without_a_pooling_head_has_no_joint_vectors(tmp_path: Path, frames: np.ndarray) -> None:
    folder = save_tiny_siglip(tmp_path)
    weights = {
        n: x for n, x in load_file(folder / "model.safetensors").items() if not n.startswith("vision_model.head")
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    backbone = load_backbone(folder)
    features = backbone.encode_frames(frames)
    with pytest.raises(BackboneError, match=r"has no vision_model\.head\.[\w.]+, needed to compare frames with text"):
        backbone.embed_frames(features)


def test_towers_that_are_released_are_read_again(folder: Path, frames: np.ndarray) -> None:
    backbone = load_backbone(folder)
    before = backbone.embed_frames(backbone.encode_frames(frames)), backbone.embed_queries(["a dog"])
    backbone.release()
    assert torch.equal(backbone.embed_frames(backbone.encode_frames(frames)), before[0])
    assert torch.equal(backbone.embed_queries(["a dog"]), before[1])


def test_fingerprints_tell_families_apart(folder: Path, tmp_path: Path) -> None:
    assert load_backbone(folder).fingerprint != load_backbone(save_tiny_clip(tmp_path)).fingerprint
