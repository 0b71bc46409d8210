"""Where a CLIP comes from: a folder, this package, the cache, or a hub that may not be there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from demo_assets import place_demo
from hub import serve_hub, use_hub
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tiny_clip import save_tiny_clip

from r2tuning.backbone import ClipBackbone
from r2tuning.backbone.loading import load_clip
from r2tuning.backbone.registry import find_folder, hub_name
from r2tuning.errors import BackboneError, DownloadError

KEY = "vision_model.encoder.layers.0.mlp.fc1.weight"


def test_fp16_weights_become_fp32_ones(tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path)
    halves = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"float32"', '"float16"'))
    state = load_clip(str(folder)).model.state_dict()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert torch.equal(state[KEY], halves[KEY].float())


def test_the_embedded_clip_has_the_same_name_wherever_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place_demo(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert hub_name("Demo") == "r2tuning/demo"
    assert find_folder("demo") == find_folder("r2tuning/demo") == tmp_path / "clip"
    assert find_folder("./demo") == Path("demo")
    use_hub(monkeypatch, "http://127.0.0.1:9")
    for name in ("demo", "r2tuning/demo"):
        backbone = ClipBackbone.load(name)
        assert backbone.name == "r2tuning/demo"
        assert backbone.dtype == torch.float32


def test_what_was_fetched_once_is_used_without_any_request(tmp_path: Path) -> None:
    clip = save_tiny_clip(tmp_path / "clip")
    files = {f"someone/clip/{path.name}": path.read_bytes() for path in clip.iterdir()}
    files["someone/clip/preprocessor_config.json"] = b'{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}'
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    code = "from r2tuning.backbone.loading import load_clip; print(load_clip('someone/clip').std[0])"
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


def test_an_unreachable_hub_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(DownloadError) as caught:
        load_clip("someone/not-cached")
    assert str(caught.value) == (
        "someone/not-cached: not in the cache, and not to be had at http://127.0.0.1:9 ([Errno 111] Connection "
        "refused); connect to the network once, or give a local CLIP folder with --backbone"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        load_clip("someone/not-cached")


def test_what_the_hub_has_not() -> None:
    with serve_hub({}) as hub, pytest.MonkeyPatch.context() as patch:
        use_hub(patch, hub.url)
        with pytest.raises(DownloadError, match=rf"not to be had at {hub.url} \(.*404"):
            load_clip("someone/nothing")
    with pytest.raises(BackboneError, match=r"known are .*, demo$"):
        load_clip("nothing")
