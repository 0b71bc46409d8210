"""The 8-bit image tower against fp32: close features, told apart, made once."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import save_tiny_clip
from torch.nn.functional import cosine_similarity

from r2tuning.backbones import load_backbone
from r2tuning.errors import BackboneError

pytest.importorskip("onnxruntime", reason="the engine needs the extra onnx")
pytest.importorskip("onnx", reason="the engine needs the extra onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"), video_width=64)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 224, 224), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.mark.parametrize(("layers", "activation"), [(1, "quick_gelu"), (4, "quick_gelu"), (4, "gelu")])
def test_features_are_close_to_those_of_torch(
    folder: Path, frames: np.ndarray, layers: int, activation: str, tmp_path: Path
) -> None:
    clip = shutil.copytree(folder, tmp_path / "clip")
    config = json.loads((clip / "config.json").read_text())
    config["vision_config"]["hidden_act"] = activation
    (clip / "config.json").write_text(json.dumps(config))
    exact = load_backbone(clip, layers=layers).encode_frames(frames)
    coded = load_backbone(clip, layers=layers, engine="onnx-int8").encode_frames(frames)
    assert coded.shape == exact.shape == (5, layers, 17, 64)
    assert coded.dtype == exact.dtype
    assert cosine_similarity(coded, exact, dim=-1).min() > 0.999
    assert not torch.equal(coded, exact)


def test_batches_of_any_size(folder: Path, frames: np.ndarray) -> None:
    exact, coded = load_backbone(folder), load_backbone(folder, engine="onnx-int8")
    for count in (1, 3):
        values = coded.encode_frames(frames[:count])
        assert values.shape == (count, 4, 17, 64)
        assert (cosine_similarity(values, exact.encode_frames(frames[:count]), dim=-1) > 0.999).all()


def test_text_is_the_same_and_so_are_the_weights(folder: Path) -> None:
    one, other = load_backbone(folder), load_backbone(folder, engine="onnx-int8")
    assert one.fingerprint == other.fingerprint
    assert torch.equal(one.encode_queries(["a dog"])[0].values, other.encode_queries(["a dog"])[0].values)


def test_the_model_is_made_once_for_each_set_of_weights(folder: Path, cache: Path, tmp_path: Path) -> None:
    load_backbone(folder, engine="onnx-int8")
    (file,) = cache.iterdir()  # no part of a file is left
    made = file.stat().st_mtime_ns
    load_backbone(folder, engine="onnx-int8")
    assert file.stat().st_mtime_ns == made
    load_backbone(folder, layers=2, engine="onnx-int8")
    load_backbone(save_tiny_clip(tmp_path / "other", seed=1), engine="onnx-int8")
    assert len(list(cache.iterdir())) == 3


def test_a_damaged_model_is_made_again(folder: Path, cache: Path, frames: np.ndarray) -> None:
    expected = load_backbone(folder, engine="onnx-int8").encode_frames(frames)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert torch.equal(load_backbone(folder, engine="onnx-int8").encode_frames(frames), expected)


def test_what_cannot_run_is_said_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"onnx-int8: runs on the CPU only, not on meta; give --device cpu"):
        load_backbone(folder, device="meta", engine="onnx-int8")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "file"))
    with pytest.raises(BackboneError, match="set R2TUNING_CACHE to another folder"):
        load_backbone(folder, engine="onnx-int8")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackboneError, match=r"pip install 'r2tuning\[onnx\]'"):
        load_backbone(folder, engine="onnx-int8")
