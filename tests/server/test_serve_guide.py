"""The examples of the guide are run as they are written, against a real server."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.server import Client, running

from r2tuning.datasets.annotations import Annotation

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "serve.md"


def read_examples() -> str:
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


@pytest.mark.skipif(not shutil.which("jq") or not shutil.which("curl"), reason="the examples need curl and jq")
def test_the_examples_work(base: Path, shapes: dict[Path, list[Annotation]], small: Path, tmp_path: Path) -> None:
    shutil.copy(small, tmp_path / "trip.mp4")
    script = read_examples()
    assert script.count("curl") >= 14
    with running(tmp_path / "library", "--model", "demo", "--root", base / "videos") as server:
        script = script.replace("127.0.0.1:8420", f"127.0.0.1:{server.client.port}")
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, (done.stdout, done.stderr)
        lines = done.stdout.splitlines()
        assert "event: end" in lines
        assert "done" in lines
        assert "queued" in lines
        best = next(line for line in lines if re.match(r"0\.\d+ videos/2024/", line))
        assert best.split()[1] == "videos/2024/91000002.mp4"
        assert lines[-1] == "native"
        assert (tmp_path / "moments.csv").read_text().startswith("video,start,end,query")
        assert (tmp_path / "clips.zip").read_bytes().startswith(b"PK")
        assert (tmp_path / "beginning.bin").stat().st_size == 1000
        for picture in ("thumbnail.jpg", "strip.jpg"):
            assert (tmp_path / picture).read_bytes().startswith(b"\xff\xd8")


def test_the_table_has_every_address(client: Client) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for path in client.get("/openapi.json").check(200)["paths"]:
        last = re.sub(r"/\{\w+\}$", "", path).rpartition("/")[2]
        assert re.search(rf"`[^`\n]*\b{last}\b[^`\n]*`", text), path
