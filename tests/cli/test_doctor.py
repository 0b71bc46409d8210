"""``r2tuning doctor``: each broken set-up is named, with its remedy, and nothing that is broken ends it."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.cli import run
from support.files import read_only, small_disk
from support.hub import Hub, put_repository, serve_hub, use_cache, use_hub
from support.models import place_published
from test_house import EXTRAS as DECLARED

from r2tuning.checkpoints.published import REPOSITORY
from r2tuning.diagnosis import EXTRAS
from r2tuning.errors import DownloadError
from r2tuning.hub import reach_hub

DOCUMENT = Path(__file__).parents[2] / "docs" / "install.md"
CLIP = "openai/clip-vit-base-patch32"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub({f"{REPOSITORY}/README.md": b"models"}) as hub:
        yield hub


@pytest.fixture(autouse=True)
def _empty_machine(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_hub(monkeypatch, hub.url)
    use_cache(monkeypatch, tmp_path / "hf")
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("R2TUNING_LIBRARY", str(tmp_path / "library"))


def ask(*arguments: object, code: int) -> dict[str, list[dict[str, str]]]:
    """Findings by topic."""
    result = run("doctor", "--json", *arguments)
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert set(found) == {"ready", "model", "findings"}
    assert found["ready"] == (code == 0)
    topics: dict[str, list[dict[str, str]]] = {}
    for finding in found["findings"]:
        assert set(finding) == {"topic", "value", "level", "remedy"}
        # What is wrong has a remedy; what is fine has none.
        assert bool(finding["remedy"]) == (finding["level"] != "ok"), finding
        topics.setdefault(finding["topic"], []).append(finding)
    return topics


def test_the_demo_model_needs_nothing() -> None:
    found = ask("--model", "demo", code=0)
    assert found["model"][0] == {
        "topic": "model",
        "value": "demo and its backbone are on this machine",
        "level": "ok",
        "remedy": "",
    }
    assert found["video"][0]["value"].endswith("decodes H.264, HEVC, VP9, AV1; encodes H.264, AAC")
    assert {f"extra {extra.name}" for extra in EXTRAS} <= set(found)


def test_every_extra_for_users_is_looked_at_with_all_that_only_it_installs() -> None:
    # The first two come with Matplotlib and the hub's client; the last stands for what another extra has.
    brought = {"pillow", "h11", "r2tuning"}
    for_users = {name: lines for name, lines in DECLARED.items() if name not in ("dev", "docs")}
    assert {extra.name: set(extra.modules) for extra in EXTRAS} == {
        name: {re.split(r"[^\w-]", line)[0] for line in lines} - brought for name, lines in for_users.items()
    }


def test_a_missing_model_can_be_fetched_from_a_hub_that_answers(hub: Hub) -> None:
    found = ask(code=0)
    assert found["hub"][0]["value"] == f"{hub.url} answers"
    (model,) = found["model"]
    assert model["level"] == "note"
    assert model["value"] == f"qvhighlights needs qvhighlights (~11 MB) and {CLIP} (~605 MB) from the hub"
    assert model["remedy"] == "r2tuning prepare qvhighlights fetches it now"


def test_an_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it fails as if it were not there
    (finding,) = ask("--model", "demo", code=0)["extra cluster"]
    assert finding["value"] == "ray not installed (encode on a Ray cluster)"
    assert (finding["level"], finding["remedy"]) == ("note", "pip install 'r2tuning[cluster]'")


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    use_hub(monkeypatch, url)
    found = ask(code=1)
    assert found["hub"][0]["value"].startswith(f"not reached: {url} did not deliver it (")
    assert found["hub"][0]["remedy"] == "connect, or set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy"
    (model,) = found["model"]
    assert model["level"] == "error"
    assert "r2tuning prepare qvhighlights with a network" in model["remedy"]
    assert "--model demo needs no network" in model["remedy"]
    ask("--model", "demo", code=0)


def test_a_hub_that_is_silent_is_given_up() -> None:
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        use_hub(patch, url)
        with pytest.raises(DownloadError) as caught:
            reach_hub(REPOSITORY, limit=0.2)
    assert caught.value.reason.startswith(f"{url} did not ")


def test_offline_mode_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = ask(code=1)
    assert found["hub"][0]["value"] == "offline mode is on (HF_HUB_OFFLINE)"
    assert found["hub"][0]["remedy"] == "unset HF_HUB_OFFLINE to download models"


def test_a_hub_that_refuses(hub: Hub) -> None:
    hub.status = 403
    assert ask(code=1)["hub"][0]["value"] == f"not reached: {hub.url} answered 403"


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with read_only(tmp_path / "fixed") as fixed:
        monkeypatch.setenv("R2TUNING_CACHE", str(fixed / "r2tuning"))
        (finding,) = ask(code=1)["cache folder"]
        assert finding["value"].startswith(f"{fixed}/r2tuning: 0.0 MB, ")
        assert finding["value"].endswith(" GB free, not writable")
        assert (finding["level"], finding["remedy"]) == ("error", "set R2TUNING_CACHE to a folder that you can write")
        # Without anything to download it keeps no video from being grounded.
        assert ask("--model", "demo", code=0)["cache folder"][0]["level"] == "problem"


def test_no_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=1m") as small:
        use_cache(monkeypatch, small / "hub")
        (finding,) = ask(code=1)["hub's cache"]
        assert finding["value"] == f"{small}/hub: 0.0 MB, 0.0 GB free, but 616 MB are needed"
        assert finding["remedy"] == "free space, or set HF_HOME to a folder on another disk"
        (finding,) = ask("--model", "demo", code=0)["hub's cache"]
        assert finding["value"] == f"{small}/hub: 0.0 MB, 0.0 GB free, which is little"
        assert finding["level"] == "problem"


def test_a_cached_model_that_is_cut_off() -> None:
    weights = place_published("qvhighlights")
    (finding,) = ask(code=0)["cached model"]
    assert (finding["value"], finding["level"]) == (f"qvhighlights, {_megabytes(weights.parent)}", "ok")
    os.truncate(weights, weights.stat().st_size - 1)
    (finding,) = ask(code=1)["cached model"]
    assert finding["value"].startswith("qvhighlights is damaged: ")
    assert "model.safetensors: truncated or not a safetensors file" in finding["value"]
    assert finding["remedy"] == "r2tuning cache remove model:qvhighlights --yes, then r2tuning prepare qvhighlights"
    assert ask("--model", "demo", code=0)["cached model"][0]["level"] == "problem"


def _megabytes(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:,.1f} MB"


def test_a_cached_backbone_with_one_wrong_bit(tmp_path: Path) -> None:
    blobs = put_repository(tmp_path / "hf", CLIP, {"config.json": b"{}", "model.safetensors": bytes(1 << 21)})
    os.utime(blobs["model.safetensors"], (0, 0))
    (finding,) = ask(code=0)["cached backbone"]
    assert (finding["value"], finding["level"]) == ("ViT-B/32, 2.1 MB", "ok")
    # Looking at it is no use of it.
    assert blobs["model.safetensors"].stat().st_atime == 0
    with blobs["model.safetensors"].open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"\1")
    (finding,) = ask(code=1)["cached backbone"]
    assert finding["value"] == "ViT-B/32 is damaged: model.safetensors"
    assert finding["remedy"] == (
        "r2tuning cache remove backbone:ViT-B/32 --yes, then r2tuning prepare --backbone ViT-B/32"
    )
    assert ask("--model", "demo", code=0)["cached backbone"][0]["level"] == "problem"


@pytest.mark.parametrize("module", ["torch", "av", "huggingface_hub"])
def test_a_broken_library_is_a_finding(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("raise OSError('libbroken.so.1: cannot open shared object file')")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "r2tuning", "doctor", "--model", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stderr == ""
    topic = {"torch": "PyTorch", "av": "video", "huggingface_hub": "hub"}[module]
    (line,) = [line for line in done.stdout.splitlines() if f" {topic}: " in line]
    assert "cannot be used (libbroken.so.1: cannot open shared object file) -> pip install --force-reinstall " in line
    assert done.returncode == (0 if module == "huggingface_hub" else 1)
    assert "extra train: " in done.stdout


def test_an_unknown_model_is_a_finding() -> None:
    (finding,) = ask("--model", "qvhighlight", code=1)["model"]
    assert "did you mean qvhighlights?" in finding["value"]


def test_lines_for_people(tmp_path: Path) -> None:
    result = run("doctor", "--model", "demo")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-1] == "demo: a video can be grounded now"
    assert {line.split(" ", 1)[0] for line in lines[:-2]} <= {"ok", "note", "problem"}
    assert any(line.startswith(f"ok      library: {tmp_path}/library: 0.0 MB, ") for line in lines)
    place_published("qvhighlights").unlink()
    broken = run("doctor", "--model", "nothing")
    assert broken.exit_code == 1
    assert broken.stdout.splitlines()[-1] == "nothing: not ready: see the 1 error above"


def test_the_keys_of_the_json_are_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for key in ("ready", "model", "findings", "topic", "value", "level", "remedy"):
        assert re.search(rf"^\| `{key}` \|", text, re.MULTILINE), key
