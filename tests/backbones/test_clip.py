"""The towers against transformers' own hidden states, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import save_tiny_clip
from torch.nn.functional import cosine_similarity, normalize
from transformers import CLIPModel

from r2tuning.backbones import load_backbone
from r2tuning.backbones.base import choose_engine
from r2tuning.errors import BackboneError, QueryError
from r2tuning.types import CLIP_PREPROCESSING


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> CLIPModel:
    return CLIPModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 224, 224), dtype=np.uint8)


@pytest.mark.parametrize("layers", [1, 4, 5])
def test_image_tower_equals_transformers_hidden_states(
    folder: Path, reference: CLIPModel, frames: np.ndarray, layers: int
) -> None:
    values = load_backbone(folder, layers=layers).encode_frames(frames)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (CLIP_PREPROCESSING.mean, CLIP_PREPROCESSING.std))
    pixels = (torch.from_numpy(frames) / 255 - mean) / std
    with torch.no_grad():
        hidden = reference.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    assert values.shape == (5, layers, 17, 32)
    for k in range(layers):
        torch.testing.assert_close(values[:, k], hidden[k - layers], atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [1, 4])
def test_text_tower_equals_transformers_hidden_states(folder: Path, reference: CLIPModel, layers: int) -> None:
    backbone = load_backbone(folder, layers=layers)
    queries = ["a dog", "the cat jumps over a long fence", "x"]
    for query, features in zip(queries, backbone.encode_queries(queries), strict=True):
        ids = torch.tensor([backbone._files.tokenizer.encode(query).ids])
        with torch.no_grad():
            hidden = reference.text_model(input_ids=ids, output_hidden_states=True).hidden_states
        assert features.values.shape == (layers, ids.shape[1], 16)
        assert not features.truncated
        for k in range(layers):
            torch.testing.assert_close(features.values[k], hidden[k - layers][0], atol=1e-5, rtol=0)


def test_joint_vectors_equal_those_of_transformers(folder: Path, reference: CLIPModel, frames: np.ndarray) -> None:
    backbone = load_backbone(folder, layers=2)
    queries = ["a dog", "the cat jumps over a long fence", "word " * 60]
    seen, said = backbone.embed_frames(backbone.encode_frames(frames)), backbone.embed_queries(queries)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (CLIP_PREPROCESSING.mean, CLIP_PREPROCESSING.std))
    with torch.no_grad():
        pixels = (torch.from_numpy(frames) / 255 - mean) / std
        images = reference.get_image_features(pixel_values=pixels).pooler_output
        texts = [
            reference.get_text_features(input_ids=torch.tensor([backbone._tokenize(query)[0]])).pooler_output
            for query in queries
        ]
    torch.testing.assert_close(seen, normalize(images, dim=-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(said, normalize(torch.cat(texts), dim=-1), atol=1e-5, rtol=0)
    assert cosine_similarity(seen[0], seen[1], dim=0) < 0.9999  # the comparison can fail


def test_products_in_bf16_stay_near(folder: Path, frames: np.ndarray) -> None:
    exact = load_backbone(folder).encode_frames(frames)
    near = load_backbone(folder, engine="torch-bf16").encode_frames(frames)
    assert near.dtype == exact.dtype
    assert cosine_similarity(near, exact, dim=-1).min() > 0.9999
    assert not torch.equal(near, exact)


@pytest.mark.parametrize(
    ("has_units", "width", "chosen"), [(True, 768, "torch-bf16"), (True, 160, "torch"), (False, 768, "torch")]
)
def test_bf16_is_chosen_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, has_units: bool, width: int, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_units)
    assert choose_engine(torch.device("cpu"), width) == chosen
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")  # as in versions of PyTorch that cannot tell
    assert choose_engine(torch.device("cpu"), width) == "torch"


def test_the_engine_is_chosen_if_none_is_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2tuning.backbones.base.choose_engine", lambda device, width: "torch-bf16")
    assert load_backbone(folder).engine == "torch"
    assert load_backbone(folder, engine=None).engine == "torch-bf16"
    assert load_backbone(folder, engine=None, dtype=torch.float32).engine == "torch"


def test_towers_that_are_released_are_read_again(folder: Path, frames: np.ndarray) -> None:
    backbone = load_backbone(folder)
    seen, (said,) = backbone.encode_frames(frames), backbone.encode_queries(["a dog"])
    backbone.release()
    assert torch.equal(backbone.encode_frames(frames), seen)
    assert torch.equal(backbone.encode_queries(["a dog"])[0].values, said.values)


def test_batches_do_not_matter(folder: Path, frames: np.ndarray) -> None:
    backbone = load_backbone(folder)
    whole = backbone.encode_frames(frames)
    parts = torch.cat([backbone.encode_frames(frames[:2]), backbone.encode_frames(frames[2:])])
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=0)
    together = backbone.encode_queries(["short", "a much longer sentence than that"])
    torch.testing.assert_close(together[0].values, backbone.encode_queries(["short"])[0].values, atol=1e-5, rtol=0)


def test_a_long_query_is_cut_and_says_so(folder: Path) -> None:
    backbone = load_backbone(folder)
    long, short = backbone.encode_queries(["word " * 60, "word"])
    assert long.truncated
    assert long.values.shape[1] == 77
    assert not short.truncated
    ids, _ = backbone._tokenize("word " * 60)
    assert ids[0] == backbone._files.tokenizer.token_to_id("<|startoftext|>")
    assert ids[-1] == backbone._files.tokenizer.token_to_id("<|endoftext|>")


@pytest.mark.parametrize("query", ["", "  \n\t"])
def test_an_empty_query_is_an_error(folder: Path, query: str) -> None:
    with pytest.raises(QueryError, match="query is empty"):
        load_backbone(folder).encode_queries(["fine", query])


def test_a_query_may_hold_anything(folder: Path) -> None:
    backbone = load_backbone(folder)
    strange, plain = backbone.encode_queries(["a \ud800 dog\0 🐕", "a ? dog\0 🐕"])
    assert torch.equal(strange.values, plain.values)
    assert strange.text == "a \ud800 dog\0 🐕"


def test_no_queries_are_fine(folder: Path) -> None:
    assert load_backbone(folder).encode_queries([]) == []


def test_frames_of_another_size_or_type_are_refused(folder: Path) -> None:
    backbone = load_backbone(folder)
    with pytest.raises(ValueError, match=r"takes uint8 \[n, 3, 224, 224\]"):
        backbone.encode_frames(np.zeros((1, 3, 336, 336), np.uint8))
    with pytest.raises(ValueError, match=r"torch.float32"):
        backbone.encode_frames(np.zeros((1, 3, 224, 224), np.float32))


def test_another_image_size_and_patch(tmp_path: Path) -> None:
    backbone = load_backbone(save_tiny_clip(tmp_path, image_size=336, patch=112), layers=2)
    assert (backbone.preprocessing.size, backbone.tokens_per_frame) == (336, 10)
    assert backbone.encode_frames(np.zeros((1, 3, 336, 336), np.uint8)).shape == (1, 2, 10, 32)


def test_the_fingerprint_tells_weights_apart(folder: Path, tmp_path: Path) -> None:
    one = load_backbone(folder)
    assert load_backbone(folder, dtype=torch.float16).fingerprint == one.fingerprint
    assert load_backbone(save_tiny_clip(tmp_path, seed=1)).fingerprint != one.fingerprint


def test_more_layers_than_there_are(folder: Path) -> None:
    with pytest.raises(BackboneError, match=r"last 6 layers, its image tower has 5"):
        load_backbone(folder, layers=6)


def test_damaged_folders_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        return save_tiny_clip(tmp_path / name)

    cases = {}
    cases["no config.json"] = broken("a")
    (cases["no config.json"] / "config.json").unlink()
    cases["of type 'bert'"] = broken("b")
    (cases["of type 'bert'"] / "config.json").write_text(json.dumps({"model_type": "bert"}))
    cases["no tokenizer"] = broken("c")
    (cases["no tokenizer"] / "tokenizer.json").unlink()
    cases["cannot be loaded"] = broken("d")
    weights = cases["cannot be loaded"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    cases["not JSON"] = broken("e")
    (cases["not JSON"] / "config.json").write_text("{")
    for message, path in cases.items():
        with pytest.raises(BackboneError, match=message) as caught:
            load_backbone(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_missing_weights_are_not_left_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_tiny_clip(tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["vision_model.encoder.layers.3.mlp.fc1.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"1 weights are missing, such as .*layers\.3\.mlp\.fc1\.weight"):
        load_backbone(folder)


def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackboneError, match=r"no such folder, and no backbone of that name; known are ViT-B/32"):
        load_backbone("./nowhere")
