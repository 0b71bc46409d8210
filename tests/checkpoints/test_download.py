import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from support.golden import official_state_dict
from support.hub import Hub, serve_hub, use_hub

from r2tuning.checkpoints.folder import load_config, load_state
from r2tuning.checkpoints.published import find_published
from r2tuning.checkpoints.resolve import fetch_published
from r2tuning.errors import CheckpointError, DownloadError

NAME = "charades-sta"
FILE = "yeliudev/R2-Tuning/checkpoints/r2_tuning_charades-1de02112.pth"
URL = "https://huggingface.co/yeliudev/R2-Tuning/resolve/main/checkpoints/r2_tuning_charades-1de02112.pth"


@pytest.fixture(scope="module")
def weights():
    buffer = io.BytesIO()
    torch.save({"meta": {}, "state_dict": official_state_dict("grounding")}, buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(weights):
    with serve_hub({FILE: weights}) as hub:
        yield hub


@pytest.fixture
def entry(weights):
    """The published files cannot be here: seeded weights take one's place, under their own hash."""
    return replace(find_published(NAME), sha256_prefix=hashlib.sha256(weights).hexdigest()[:8])


@pytest.fixture(autouse=True)
def _settings(hub, monkeypatch, tmp_path):
    """What HF_ENDPOINT and HF_HOME set; the hub client reads them once, when it is imported."""
    use_hub(monkeypatch, hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "ours"))


def count_downloads(hub: Hub) -> int:
    """GETs of the file alone: the hub client also asks for things of its own."""
    return sum(request.method == "GET" and request.path.endswith(".pth") for request in hub.requests)


def left_in_hub_cache(tmp_path: Path) -> list[Path]:
    """Everything of the file that the hub client keeps: blobs, also incomplete ones, and links to them."""
    return [p for p in tmp_path.glob("hf/models--*/**/*") if p.parent.name == "blobs" or p.suffix == ".pth"]


def test_first_use_downloads_and_converts_and_later_use_asks_nobody(entry, hub, tmp_path):
    folder = fetch_published(entry)
    assert folder == tmp_path / "ours" / "checkpoints" / f"{NAME}-{entry.sha256_prefix}"
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    config = load_config(folder)
    assert (config.name, config.fps, config.decoding.nms, config.provenance.source) == (NAME, 1, "linear", URL)
    assert torch.equal(load_state(folder)["level_scale"], official_state_dict("grounding")["coef"])
    assert count_downloads(hub) == 1
    hub.requests.clear()
    assert fetch_published(entry) == folder
    assert hub.requests == []


def test_a_cut_connection_is_resumed(entry, hub, weights):
    hub.cut_after = 11_000_000  # the client keeps what it has in steps of 10 MiB
    assert len(weights) > hub.cut_after
    assert load_config(fetch_published(entry)).name == NAME
    assert hub.ranges == [f"bytes={10 * 2**20}-"]
    assert hub.cut_after is None


def test_wrong_content_is_refused_and_not_kept(entry, hub, weights, tmp_path):
    hub.files[FILE] = weights[:-1] + b"x"
    with pytest.raises(CheckpointError) as caught:
        fetch_published(entry)
    found = hashlib.sha256(hub.files[FILE]).hexdigest()[:8]
    assert str(caught.value) == (
        f"{NAME}: the downloaded file has SHA-256 {found}…, expected {entry.sha256_prefix}…; it was removed, try again"
    )
    assert left_in_hub_cache(tmp_path) == []
    assert not entry.cached_folder.exists()
    hub.files[FILE] = weights
    assert load_config(fetch_published(entry)).name == NAME


def test_a_half_written_conversion_is_not_used(entry, hub, monkeypatch):
    folder = entry.cached_folder
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"half")
    fetch_published(entry)
    assert load_state(folder).keys() > {"level_scale"}
    (folder / "config.json").unlink()
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_config(fetch_published(entry)).name == NAME  # converted again from the hub client's cache
    assert hub.requests == []


def test_without_hub_and_cache_the_error_says_what_to_do(entry, hub, monkeypatch, tmp_path):
    use_hub(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="Connection refused") as caught:
        fetch_published(entry)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"offline mode is on \(HF_HUB_OFFLINE\);") as offline:
        fetch_published(entry)
    for error in (caught, offline):
        text = str(error.value)
        assert text.startswith(f"{NAME}: cannot be downloaded: ")
        assert text.endswith(f"; connect and try again, or fetch {URL} by other means and pass its path with --model")
        assert "\n" not in text
    assert left_in_hub_cache(tmp_path) == []
    assert hub.requests == []


def test_what_the_hub_answers_is_told(entry, hub):
    hub.files.clear()
    with pytest.raises(DownloadError, match=f"{hub.url} answered 404;"):
        fetch_published(entry)
    hub.status = 503
    with pytest.raises(DownloadError, match=f"{hub.url} answered 503;"):
        fetch_published(entry)


def test_the_environment_is_honoured(entry, hub, tmp_path):
    code = (
        "import dataclasses; from r2tuning.checkpoints.resolve import fetch_published, find_published; "
        f"entry = dataclasses.replace(find_published('{NAME}'), sha256_prefix='{entry.sha256_prefix}'); "
        "print(fetch_published(entry))"
    )
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "R2TUNING_CACHE": str(tmp_path / "chosen")}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    folder = subprocess.check_output([sys.executable, "-c", code], env=kept | settings, text=True).strip()
    assert folder == str(tmp_path / "chosen" / "checkpoints" / f"{NAME}-{entry.sha256_prefix}")
    assert json.loads((Path(folder) / "config.json").read_text())["name"] == NAME
    assert any((tmp_path / "home").glob("hub/models--*/blobs/*"))
    assert count_downloads(hub) == 1
