"""The command starts, says where it is, and ends in order."""

import signal
import socket
from pathlib import Path

import pytest
import typer
from support.cli import refused, run
from support.server import launch
from support.videos import write_video

from r2tuning import Library
from r2tuning.cli.serve import parse_size


def test_it_makes_a_library_says_where_it_is_and_ends(tmp_path: Path) -> None:
    library = tmp_path / "new" / "library"
    server = launch(library, "--model", "demo")
    assert server.address == f"http://127.0.0.1:{server.client.port}/"
    shown = server.client.get("/library").check(200)
    assert (shown["name"], shown["files"], shown["max_upload"]) == ("library", 0, 4 * 10**9)
    # Only the process that answers has PyTorch, so that the server starts at once and stays small.
    assert "libtorch" not in Path(f"/proc/{server.process.pid}/maps").read_text()
    code, errors = server.stop(signal.SIGINT)
    assert (code, errors.splitlines()) == (130, ["Loading the model…", "stopped"])
    run("library", "check", "--library", library)  # it is a library as any other


def test_the_address_comes_when_questions_are_answered(filled: Library, tmp_path: Path) -> None:
    server = launch(filled.folder)
    assert server.client.send("GET", "/ready").check(200) == {"ready": True, "waiting": 0, "problem": ""}
    server.stop()
    Library(tmp_path / "library", model="demo").add(write_video(tmp_path / "a.mp4", frames=20, fps=2))
    server = launch(tmp_path / "library", "--model", tmp_path / "none")
    assert "none" in server.client.send("GET", "/ready").check(503)["problem"]  # it says so rather than wait
    server.stop()


def test_other_addresses_need_a_token(tmp_path: Path) -> None:
    server = launch(tmp_path / "library", "--host", "0.0.0.0", "--allow-host", "videos.example")
    client = server.client
    assert len(client.token) >= 32
    assert client.get("/library").status == 200
    assert client.get("/library", Host="videos.example").status == 200
    client.get("/library", Authorization=None).refused(401)
    client.get("/library", Host="0.0.0.0").refused(421)
    server.stop()


def test_what_cannot_be_served_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(run("serve", tmp_path / "a", "--port", port), 1, f"127.0.0.1:{port}: cannot be listened on")
    refused(run("serve", tmp_path / "a", "--host", "192.0.2.1", "--port", 0), 1, "192.0.2.1", "check --host")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    refused(run("serve", tmp_path / "other", "--port", 0), 1, "has other files")
    refused(run("serve", tmp_path / "a", "--port", 0, "--root", tmp_path / "none"), 1, "is no folder")
    refused(run("serve", "s3://bucket/videos"), 2, "is in an object store")
    refused(run("serve", tmp_path / "a", "--max-upload", "much"), 2, "much is no size")
    refused(run("serve", tmp_path / "a", "--token", "short"), 2, "8 to 200 letters")
    assert not (tmp_path / "a" / "catalog.sqlite").exists()


@pytest.mark.parametrize("text", ["", "0", "GB", "-1", "4 PB", "1e9", "4GBB"])
def test_sizes_are_numbers_with_a_unit(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no size"):
        parse_size(text)
