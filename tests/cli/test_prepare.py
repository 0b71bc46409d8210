"""``r2tuning prepare``: models and backbones are here when it is over, and nothing is fetched twice."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.cli import refused, run
from support.files import small_disk
from support.hub import Hub, serve_hub, use_cache, use_hub
from support.models import place_published, save_tiny_clip

from r2tuning.backbones import load_backbone
from r2tuning.checkpoints.published import find_published

CLIP = "openai/clip-vit-base-patch32"
OTHER = "someone/clip"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = save_tiny_clip(tmp_path_factory.mktemp("clip"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(clip: dict[str, bytes]) -> Iterator[Hub]:
    with serve_hub({f"{place}/{name}": content for place in (CLIP, OTHER) for name, content in clip.items()}) as hub:
        yield hub


@pytest.fixture(autouse=True)
def _empty_machine(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_hub(monkeypatch, hub.url)
    use_cache(monkeypatch, tmp_path / "hf")
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "ours"))


def test_what_is_missing_is_fetched_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place_published("qvhighlights")
    done = run("prepare")
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(f"Downloading {CLIP} (~605 MB); ")
    model, backbone = done.stdout.splitlines()
    assert model == f"qvhighlights: {find_published('qvhighlights').cached_folder}"
    name, _, folder = backbone.partition(": ")
    assert name == CLIP
    assert Path(folder).is_relative_to(tmp_path / "hf")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = run("prepare", "qvhighlights", "demo", "qvhighlights")
    assert again.exit_code == 0, again.output
    assert again.stderr == "Nothing to download: everything is on this machine.\n"
    assert [line.split(": ")[0] for line in again.stdout.splitlines()] == [
        "qvhighlights",
        "demo",
        CLIP,
        "r2tuning/demo",
    ]
    assert hub.requests == []
    assert load_backbone(CLIP).name == CLIP


def test_a_backbone_alone_and_in_place_of_the_models(hub: Hub) -> None:
    alone = run("prepare", "--backbone", OTHER)
    assert (alone.exit_code, alone.stderr) == (0, f"Downloading {OTHER} (size unknown); {alone.stderr.split('; ')[1]}")
    assert [line.split(": ")[0] for line in alone.stdout.splitlines()] == [OTHER]
    hub.requests.clear()
    place_published("qvhighlights")
    both = run("prepare", "qvhighlights", "--backbone", OTHER)
    assert both.exit_code == 0, both.output
    assert [line.split(": ")[0] for line in both.stdout.splitlines()] == ["qvhighlights", OTHER]
    assert hub.requests == []


def test_the_next_run_goes_on_where_one_was_stopped(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    weights = hub.files.pop(f"{OTHER}/model.safetensors")
    assert run("prepare", "--backbone", OTHER).exit_code == 1  # all else is here
    shutil.rmtree(tmp_path / "hf" / "models--someone--clip" / ".no_exist")
    hub.files[f"{OTHER}/model.safetensors"] = weights
    hub.cut_after, hub.status_after_cut = 4500, 503
    stopped = run("prepare", "--backbone", OTHER)
    assert stopped.exit_code == 1
    assert f"{OTHER}: cannot be downloaded: {hub.url} answered 503; connect" in stopped.stderr
    (part,) = (tmp_path / "hf").rglob("*.part")
    assert part.stat().st_size == 4000
    hub.status = None
    hub.requests.clear()
    assert run("prepare", "--backbone", OTHER).exit_code == 0
    assert hub.ranges == ["bytes=4000-"]
    assert list((tmp_path / "hf").rglob("*.part")) == []
    assert load_backbone(OTHER).name == OTHER


def test_content_that_is_not_what_the_hub_states_is_removed(hub: Hub, clip: dict[str, bytes], tmp_path: Path) -> None:
    assert run("prepare", "--backbone", OTHER).exit_code == 0
    (blob,) = [path for path in (tmp_path / "hf").rglob("blobs/*") if path.read_bytes() == clip["model.safetensors"]]
    # The beginning of another file, as a damaged disk would leave it.
    part = blob.with_name(f"model.safetensors.{blob.name[:8]}.part")
    blob.unlink()
    part.write_bytes(b"x" * 10)
    failed = run("prepare", "--backbone", OTHER)
    assert failed.exit_code == 1
    assert "model.safetensors: what was downloaded has hash " in failed.stderr
    assert not part.exists()
    assert run("prepare", "--backbone", OTHER).exit_code == 0


def test_one_that_cannot_be_fetched_does_not_keep_the_others(hub: Hub) -> None:
    done = run("prepare", "charades-sta")
    assert done.exit_code == 1
    assert f"Downloading charades-sta (~11 MB), {CLIP} (~605 MB), 616.0 MB in all; " in done.stderr
    assert done.stdout.startswith(f"{CLIP}: ")
    assert f"not prepared: charades-sta: cannot be downloaded: {hub.url} answered 404; connect and" in done.stderr
    assert done.stderr.endswith("error: 1 of 2 items could not be prepared, as listed above\n")


def test_what_is_unknown_is_refused_before_anything_is_fetched(hub: Hub) -> None:
    refused(run("prepare", "qvhighlights", "charade"), 1, "charade: neither", "did you mean charades-sta?")
    assert hub.requests == []


def test_no_room(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "small", "size=1m") as small:
        use_cache(monkeypatch, small)
        refused(run("prepare"), 1, f"{small}: needs 616.0 MB of disk, 1.0 MB are free; free the rest, or set HF_HOME")
    assert hub.requests == []
