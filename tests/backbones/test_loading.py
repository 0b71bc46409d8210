"""Where a CLIP comes from: a folder, this package, the cache, or a hub that may not be there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from support.hub import serve_hub, use_cache, use_hub
from support.models import place_demo, save_tiny_clip, save_tiny_siglip
from transformers import CLIPConfig, CLIPModel

from r2tuning.backbones import load_backbone
from r2tuning.backbones.loading import IMAGE
from r2tuning.backbones.registry import find_folder, hub_name
from r2tuning.errors import BackboneError, DownloadError
from r2tuning.types import CLIP_PREPROCESSING


def image_weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_backbone(folder).make_image_tower("torch").weights)


KEY = "vision_model.encoder.layers.0.mlp.fc1.weight"


def test_fp16_weights_become_fp32_ones(tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path)
    halves = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"float32"', '"float16"'))
    weights = image_weights(folder)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert torch.equal(weights[KEY.removeprefix(IMAGE)], halves[KEY].float())


def test_the_embedded_clip_has_the_same_name_wherever_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place_demo(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert hub_name("Demo") == "r2tuning/demo"
    assert find_folder("demo") == find_folder("r2tuning/demo") == tmp_path / "clip"
    assert find_folder("./demo") == Path("demo")
    use_hub(monkeypatch, "http://127.0.0.1:9")
    for name in ("demo", "r2tuning/demo"):
        backbone = load_backbone(name)
        assert backbone.name == "r2tuning/demo"
        assert backbone.dtype == torch.float32


def test_what_was_fetched_once_is_used_without_any_request(tmp_path: Path) -> None:
    clip = save_tiny_clip(tmp_path / "clip")
    files = {f"someone/clip/{path.name}": path.read_bytes() for path in clip.iterdir()}
    files["someone/clip/preprocessor_config.json"] = b'{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}'
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    code = "from r2tuning.backbones import load_backbone; print(load_backbone('someone/clip').preprocessing.std[0])"
    command = [sys.executable, "-c", code]
    with serve_hub(files) as hub:
        # The hub's client shows bars where stderr is no terminal only if told so by this variable.
        environment = {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "TQDM_POSITION": "-1"}
        first = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert first.stdout == "0.2\n"
        assert "model.safetensors: 100%" in first.stderr
        assert any(request.method == "GET" and request.path.endswith("model.safetensors") for request in hub.requests)
        hub.requests.clear()
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert (again.stdout, again.stderr) == ("0.2\n", "")
        assert hub.requests == []


def test_an_unreachable_hub_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(DownloadError) as caught:
        load_backbone("someone/not-cached")
    assert str(caught.value) == (
        "someone/not-cached: cannot be downloaded: http://127.0.0.1:9 did not deliver it ([Errno 111] Connection "
        "refused); connect to the network once, or give a local folder with --backbone"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        load_backbone("someone/not-cached")


def test_what_the_hub_does_not_have() -> None:
    with serve_hub({}) as hub, pytest.MonkeyPatch.context() as patch:
        use_hub(patch, hub.url)
        with pytest.raises(DownloadError, match=rf"cannot be downloaded: {hub.url} answered 404;"):
            load_backbone("someone/nothing")
    with pytest.raises(BackboneError, match=r"known are .*, demo$"):
        load_backbone("nothing")


@pytest.mark.parametrize("kind", ["bin", "old bin", "shards", "bin shards"])
def test_weights_in_other_files(kind: str, tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path)
    file = folder / "model.safetensors"
    weights = load_file(file)
    expected = image_weights(folder)
    halves = [dict(list(weights.items())[0::2]), dict(list(weights.items())[1::2])]
    names = [f"part-{number}.{'bin' if 'bin' in kind else 'safetensors'}" for number in (1, 2)]
    if kind in ("bin", "old bin"):
        torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=kind == "bin")
    else:
        for name, half in zip(names, halves, strict=True):
            torch.save(half, folder / name) if "bin" in kind else save_file(half, folder / name)
        index = {name: part for part, half in zip(names, halves, strict=True) for name in half}
        whole = "pytorch_model.bin" if "bin" in kind else "model.safetensors"
        (folder / f"{whole}.index.json").write_text(json.dumps({"weight_map": index}))
    file.unlink()
    found = image_weights(folder)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    (folder / (names[0] if "shards" in kind else "pytorch_model.bin")).unlink()
    with pytest.raises(BackboneError, match=r"has no complete weights; add model\.safetensors"):
        load_backbone(folder)


class Harmful:
    """Runs code where a pickle of it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_that_runs_code_is_refused(archive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = save_tiny_clip(tmp_path / "clip")
    weights: dict[str, object] = {**load_file(folder / "model.safetensors"), "more": Harmful()}
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=archive)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match="clip: cannot be loaded as a backbone") as caught:
        load_backbone(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harmed").exists()


def lay_out_as_openai(folder: Path) -> None:
    """Turns a tiny CLIP into what openai/clip-vit-base-patch32 holds on its main branch: files of 2021 and 2022."""
    config = json.loads((folder / "config.json").read_text())
    config |= {"text_config_dict": None, "vision_config_dict": None}
    # The token of an older tokenizer: transformers pools at the token of the highest number instead.
    config["text_config"] |= {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))
    words = json.loads((folder / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(words["model"]["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    processor = {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": list(CLIP_PREPROCESSING.mean),
        "image_std": list(CLIP_PREPROCESSING.std),
        "resample": 3,
        "size": 224,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    weights = load_file(folder / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    weights["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / "model.safetensors").unlink()
    for name in ("tf_model.h5", "flax_model.msgpack"):
        (folder / name).write_bytes(b"of another framework")


def test_a_repository_as_that_of_the_default_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = save_tiny_clip(tmp_path / "clip")
    pixels, queries = torch.zeros(1, 3, 224, 224, dtype=torch.uint8), ["a dog", "the cat jumps"]
    plain = load_backbone(clip)
    expected = plain.encode_frames(pixels), plain.embed_queries(queries)
    reference = CLIPModel.from_pretrained(clip).eval()
    lay_out_as_openai(clip)
    files = {f"someone/clip/{path.name}": path.read_bytes() for path in clip.iterdir()}
    use_cache(monkeypatch, tmp_path / "cache")
    with serve_hub(files) as hub:
        use_hub(monkeypatch, hub.url)
        backbone = load_backbone("someone/clip")
        fetched = {Path(request.path).name for request in hub.requests if request.method == "GET"}
        hub.requests.clear()
        load_backbone("someone/clip")  # that there are no safetensors is remembered
        assert hub.requests == []
    assert fetched == {"config.json", "preprocessor_config.json", "tokenizer.json", "pytorch_model.bin"}
    assert backbone.preprocessing == CLIP_PREPROCESSING
    assert backbone.fingerprint == plain.fingerprint
    assert torch.equal(backbone.encode_frames(pixels), expected[0])
    assert torch.equal(backbone.embed_queries(queries), expected[1])
    for query, vector in zip(queries, expected[1], strict=True):
        ids = torch.tensor([backbone._tokenize(query)[0]])
        with torch.no_grad():
            theirs = reference.get_text_features(input_ids=ids).pooler_output[0]
        torch.testing.assert_close(vector, theirs / theirs.norm(), atol=1e-5, rtol=0)


def test_a_short_name_is_a_repository_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {}
    for repository, version in (("google/siglip2-base-patch16-224", 2), ("google/siglip-base-patch16-224", 1)):
        for path in save_tiny_siglip(tmp_path / f"siglip{version}", version=version).iterdir():
            files[f"{repository}/{path.name}"] = path.read_bytes()
    tokenizer = files.pop("google/siglip-base-patch16-224/tokenizer.json")
    files["google/siglip-base-patch16-224/spiece.model"] = tokenizer
    use_cache(monkeypatch, tmp_path / "cache")
    with serve_hub(files) as hub:
        use_hub(monkeypatch, hub.url)
        backbone = load_backbone("siglip2-b/16")
        with pytest.raises(BackboneError, match=r"y as spiece\.model; add the tokenizer\.json"):
            load_backbone("SigLIP-B/16")
    assert backbone.name == "google/siglip2-base-patch16-224"
    assert backbone.fingerprint == load_backbone(tmp_path / "siglip2").fingerprint


def test_the_towers_shapes_are_read_as_transformers_reads_them(tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    old = {**config["vision_config"], "hidden_act": "gelu", "layer_norm_eps": 1e-6}
    for key in ("hidden_act", "layer_norm_eps", "model_type"):
        config["vision_config"].pop(key)
    (folder / "config.json").write_text(json.dumps(config))
    image = load_backbone(folder).image
    assert image.model_dump() == {key: getattr(CLIPConfig(**config).vision_config, key) for key in image.model_dump()}
    (folder / "config.json").write_text(json.dumps({**config, "vision_config_dict": old}))
    assert (load_backbone(folder).image.hidden_act, load_backbone(folder).image.layer_norm_eps) == (
        "gelu",
        1e-6,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"hidden_act": "relu"},
            r"config\.json: vision_config: hidden_act: is 'relu'; input should be 'quick_gelu', 'gelu' or ",
        ),
        ({"hidden_size": 0}, r"vision_config: hidden_size: is 0; input should be greater than or equal to 1"),
        ({"hidden_size": 48}, r"has shape \[32.*\], not \[48.*\] as config\.json says"),
    ],
)
def test_a_shape_that_cannot_be(change: dict[str, object], message: str, tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=message):
        load_backbone(folder)


def test_a_question_about_features_reads_no_image_tower_and_no_transformers(tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path)
    code = (
        "import sys\nfrom r2tuning.backbones import load_backbone\n"
        "clip = load_backbone(sys.argv[1])\nclip.encode_queries(['a dog'])\n"
        "print('_image_tower' in vars(clip), {'transformers', 'onnx', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout == "False set()\n"
