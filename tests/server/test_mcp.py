"""An assistant gets what the library and the model say, by tools that reach nothing else."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp import MCPError
from support.assistant import Assistant, assisted, find_session, launch
from support.cli import refused, run
from support.shapes import write_shapes
from support.videos import write_video

from r2tuning import Grounder, Library
from r2tuning.datasets.annotations import Annotation
from r2tuning.output.media.cut import cut
from r2tuning.server.collection import make_id
from r2tuning.video import probe

Shapes = dict[Path, list[Annotation]]
PATIENCE = 120.0
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "mcp.md"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a video that is in no library, and what a client must not reach beside it."""
    base = tmp_path_factory.mktemp("assistant")
    folder = base / "other"
    folder.mkdir()
    write_shapes(folder / "new.mp4", [91000004])
    write_video(folder / "long.mp4", frames=1000, fps=1)
    write_video(base / "secret.mp4", frames=20, fps=2)
    (folder / "link.mp4").symlink_to(base / "secret.mp4")
    (folder / "notes.mp4").write_text("no video")
    os.mkfifo(folder / "pipe.mp4")
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.path.realpath(tmp_path_factory.mktemp("assistant") / "clips"))


@pytest.fixture(scope="module")
def assistant(base: Path, filled: Library, outside: Path, clips: Path) -> Iterator[Assistant]:
    errors = base / "errors.txt"
    with (
        errors.open("w") as file,
        assisted(file, filled.folder, "--root", base / "videos", "--root", outside, "--clips", clips) as found,
    ):
        yield found
    assert errors.read_text() == ""


@pytest.fixture(scope="module")
def first(shapes: Shapes) -> tuple[Path, str]:
    """A video of the library, and a query that it shows."""
    path, annotations = next(iter(shapes.items()))
    return path, annotations[0].query


def test_the_tools_say_what_they_take_and_give(assistant: Assistant) -> None:
    tools = assistant.list_tools()
    assert list(tools) == ["search_library", "find_moments", "describe_video", "cut_clip"]
    for name, tool in tools.items():
        assert len(tool.description or "") > 60
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is (name != "cut_clip")
        for field, schema in tool.input_schema["properties"].items():
            assert "description" in schema or (name, field) == ("cut_clip", "end"), (name, field)
        assert tool.input_schema["additionalProperties"] is False
        assert tool.output_schema is not None
        assert tool.output_schema["type"] == "object"


def test_a_search_is_that_of_the_library(
    assistant: Assistant, filled: Library, shapes: Shapes, base: Path, first: tuple[Path, str]
) -> None:
    queries = [annotations[0].query for annotations in shapes.values()]
    found = assistant.call("search_library", queries=queries, top=3)["searches"]
    for query, page in zip(queries, found, strict=True):
        expected = filled.search(query, top=3).to_dict()
        assert {**page, "hits": [], "verdict": ""} == {**expected, "hits": [], "verdict": ""}
        for mine, theirs in zip(page["hits"], expected["hits"], strict=True):
            name = str(Path(theirs["video"]).relative_to(base))
            assert mine == theirs | {"video": make_id(theirs["video"]), "name": name, "copies": []}
    (page,) = assistant.call("search_library", queries=[first[1]], within="videos/2023")["searches"]
    assert (page["videos"], page["hits"]) == (0, [])


def test_what_no_video_shows_is_said(assistant: Assistant, filled: Library, shapes: Shapes) -> None:
    absent = "a pink cube dives into a lake of lava"
    queries = [one.query for annotations in shapes.values() for one in annotations]
    shown = next(query for query in queries if filled.search(query).present)
    for query, verdict in ((absent, "Probably not in your videos; these are"), (shown, "Probably in your videos.")):
        (page,) = assistant.call("search_library", queries=[query])["searches"]
        assert page["present"] is filled.search(query).present
        assert page["verdict"].startswith(verdict)
    video = filled.search(shown).hits[0].video
    found = assistant.call("find_moments", video=video, queries=[absent, shown])["answers"]
    assert [answer["present"] for answer in found] == [False, True]
    assert found[0]["notes"][0]["text"].startswith("Probably not in this video")


@pytest.mark.parametrize("way", ["id", "name", "last part", "path", "relative"])
def test_moments_of_the_library_are_those_of_the_model(
    assistant: Assistant, first: tuple[Path, str], base: Path, way: str
) -> None:
    path, query = first
    ways = {
        "id": make_id(str(path)),
        "name": str(path.relative_to(base)),
        "last part": path.name,
        "path": str(path),
        "relative": f"videos/2024/../2024/{path.name}",
    }
    (answer,) = assistant.call("find_moments", video=ways[way], queries=[query], top=3)["answers"]
    right = Grounder.from_pretrained("demo").ground(path, query, top_k=3).to_dict()
    assert answer.keys() == (right.keys() | {"name"}) - {"saliency"}
    assert (answer["video"], answer["name"]) == (ways["id"], ways["name"])
    assert (answer["query"], answer["present"], answer["duration"]) == (query, right["present"], right["duration"])
    assert answer["presence"] == pytest.approx(right["presence"], abs=0.02)  # the library rounds to 8 bits
    best, other = answer["moments"][0], right["moments"][0]
    assert [best["start"], best["end"]] == pytest.approx([other["start"], other["end"]], abs=0.3)
    assert best["score"] == pytest.approx(other["score"], abs=0.02)
    assert assistant.progress == []


def test_a_file_that_is_not_in_the_library_is_encoded_with_progress_once(assistant: Assistant, outside: Path) -> None:
    path, queries = outside / "new.mp4", ["a black heart gets bigger", "a red circle"]
    (first,) = assistant.call("find_moments", video="other/new.mp4", queries=queries[:1])["answers"]
    counts = [done for done, _ in assistant.progress]
    assert counts == sorted(set(counts))
    assert {expected for _, expected in assistant.progress} == {round(probe(path).duration / 2)}
    again = assistant.call("find_moments", video=first["video"], queries=queries)["answers"]
    assert assistant.progress == []
    expected = Grounder.from_pretrained("demo").ground(path, queries, top_k=5)
    for mine, theirs in zip(again, expected, strict=True):
        right = theirs.to_dict()
        right["saliency"] = None
        assert mine | {"saliency": None} == right | {"video": make_id(str(path)), "name": "other/new.mp4"}


def test_a_call_can_be_cancelled(assistant: Assistant, outside: Path) -> None:
    asked = {"video": "other/long.mp4", "queries": ["a red circle"]}

    async def give_up() -> int:
        asking = asyncio.create_task(assistant.ask("find_moments", asked))
        while not assistant.progress or assistant.progress[-1][1] is None:
            assert not asking.done()
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return int(assistant.progress[-1][0])

    done = assistant.do(give_up)
    assert 0 < done < probe(outside / "long.mp4").duration / 2
    # The process that encoded is another one now: it has forgotten what it had, and works.
    assert assistant.call("find_moments", video="other/new.mp4", queries=["a red circle"])["answers"]
    assert assistant.progress


def test_a_description_has_facts_state_and_the_best_seconds(
    assistant: Assistant, first: tuple[Path, str], base: Path
) -> None:
    path, query = first
    found = assistant.call("describe_video", video=path.name, query=query, top=2, seconds=4, summary=8)
    info, status = probe(path), path.stat()
    assert found["file"] == {
        "bytes": status.st_size,
        "duration": info.duration,
        "start": 0,
        "width": info.width,
        "height": info.height,
        "frame_rate": 1,
        "variable_frame_rate": False,
        "codec": "h264",
        "has_audio": False,
    }
    assert (found["library"]["state"], found["library"]["name"]) == ("ready", str(path.relative_to(base)))
    answer = Grounder.from_pretrained("demo").ground(path, query)
    best = answer.saliency.times[int(np.argmax(answer.saliency.scores))]
    assert len(found["highlights"]) == 2
    peak = found["highlights"][0]
    assert peak["start"] <= best <= peak["end"]
    assert peak["end"] - peak["start"] == pytest.approx(4, abs=1e-3)
    assert 0 < sum(shot["end"] - shot["start"] for shot in found["summary"]) <= 8 + 1e-6
    assert found["notes"] == []
    # This library cannot say what a video shows without a query, but a file can be asked.
    found = assistant.call("describe_video", video=path.name)
    assert (found["file"]["codec"], found["highlights"]) == ("h264", [])
    assert "without a query" in found["notes"][0]
    assert str(base) not in json.dumps(found)
    found = assistant.call("describe_video", video="other/new.mp4", top=1)
    assert (found["library"], len(found["highlights"]), found["notes"]) == (None, 1, [])


def test_a_clip_is_that_of_the_command_line(
    assistant: Assistant, first: tuple[Path, str], clips: Path, tmp_path: Path
) -> None:
    path = first[0]
    found = assistant.call("cut_clip", video=path.name, start=10, end=16.5, name="goal")
    assert assistant.progress[-1] == (7, 7)
    begin = cut(str(path), 10, 16.5, tmp_path / "right.mp4")
    assert (found["path"], found["start"], found["name"]) == (
        str(clips / "goal.mp4"),
        begin,
        f"videos/2024/{path.name}",
    )
    assert found["duration"] == probe(tmp_path / "right.mp4").duration
    content = (clips / "goal.mp4").read_bytes()
    assert content == (tmp_path / "right.mp4").read_bytes()
    assert found["bytes"] == len(content)
    # Nothing is replaced: a name that is taken is refused, and names made of times count up.
    assistant.refused(
        "cut_clip", "goal.mp4: exists; choose another name", video=path.name, start=1, end=2, name="goal.mp4"
    )
    assert (clips / "goal.mp4").read_bytes() == content
    names = [Path(assistant.call("cut_clip", video=path.name, start=1, end=3)["path"]).name for _ in range(2)]
    assert names == [f"0{number}-{path.stem}-0m01.0s-0m03.0s.mp4" for number in (1, 2)]
    assert {part.suffix for part in clips.iterdir()} == {".mp4"}


@pytest.mark.parametrize("tool", ["find_moments", "describe_video", "cut_clip"])
@pytest.mark.parametrize(
    "given",
    [
        "../secret.mp4",
        "other/../secret.mp4",
        "other/link.mp4",
        "SECRET",
        "/etc/passwd",
        "/proc/self/environ",
        "other",
        "other/pipe.mp4",
        "other/notes.mp4",
        "other/new.mp4\0.txt",
        "<img src=x onerror=alert(1)>",
        "0123456789abcdef",
        "%2e%2e/secret.mp4",
        "~/secret.mp4",
        "file:///etc/passwd",
        "https://example.org/a.mp4",
        "a" * 4000,
        "\ud800.mp4".encode("utf-8", "replace").decode(),
    ],
)
def test_nothing_but_videos_below_a_root_is_read(
    assistant: Assistant, outside: Path, clips: Path, tool: str, given: str
) -> None:
    path = str(outside.parent / "secret.mp4") if given == "SECRET" else given
    more: dict[str, Any] = {"queries": ["a"]} if tool == "find_moments" else {}
    more |= {"start": 0, "end": 1, "name": "stolen"} if tool == "cut_clip" else {}
    text = assistant.refused(tool, video=path, **more)
    assert len(text) <= 1000
    assert str(outside.parent) not in text.replace(path, "")
    assert not (clips / "stolen.mp4").exists()


@pytest.mark.parametrize(
    "name", ["../a", "/tmp/a", "b/../../a", "a\\b", "a\0b", ".hidden", "dangling", "a" * 255, "..", "%2e%2e%2fa"]
)
def test_clips_stay_in_their_folder(
    assistant: Assistant, first: tuple[Path, str], clips: Path, outside: Path, name: str
) -> None:
    clips.mkdir(exist_ok=True)
    link = clips / "dangling.mp4"
    if not link.is_symlink():
        link.symlink_to(outside.parent / "written.mp4")
    before = sorted(clips.iterdir())
    assistant.refused(
        "cut_clip", "exists" if name == "dangling" else "name", video=first[0].name, start=1, end=2, name=name
    )
    assert sorted(clips.iterdir()) == before
    assert not (outside.parent / "written.mp4").exists()
    assert not list(outside.parent.rglob("a.mp4"))
    link.unlink()


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ({"start": 5, "end": 5}, "end must be after start"),
        ({"start": 6, "end": 5}, "end must be after start"),
        ({"start": 1e7, "end": 2e7}, "shows nothing from 10000000.000 s"),
        ({"start": -9, "end": -8}, "shows nothing from"),
        ({"start": 0, "end": 1e12}, "end: Input should be less than or equal to"),
        ({"start": "0", "end": 1}, "start: Input should be a valid number"),
        ({"start": None, "end": 1}, "start: "),
        ({"end": 1}, "start: Field required"),
        ({"start": 0, "end": 1, "force": True}, "force: Extra inputs are not permitted"),
    ],
)
def test_wrong_times_are_refused(
    assistant: Assistant, first: tuple[Path, str], clips: Path, times: dict[str, Any], text: str
) -> None:
    assistant.refused("cut_clip", text, video=first[0].name, **times)
    assert not list(clips.glob("*.part"))


def test_wrong_questions_are_refused(assistant: Assistant, first: tuple[Path, str]) -> None:
    video = first[0].name
    assistant.refused("find_moments", "queries", video=video, queries=[])
    assistant.refused("find_moments", "top", video=video, queries=["a"], top=0)
    assistant.refused("find_moments", "query", video=video, queries=[" "])
    assistant.refused("search_library", "after goes with one query", queries=["a", "b"], after="1-2-3")
    assistant.refused("search_library", "is no page of hits", queries=["a"], after="x")
    assistant.refused("describe_video", "video: Field required")
    with pytest.raises(MCPError, match="no_tool: is no tool; there are search_library, find_moments"):
        assistant.call("no_tool")


def test_a_replaced_video_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    path = write_video(tmp_path / "videos" / "a.mp4", frames=20, fps=2)
    library = Library(tmp_path / "library", model="demo")
    library.add(path)
    path.unlink()
    write_video(path, frames=30, fps=2)
    with (tmp_path / "errors.txt").open("w") as errors, assisted(errors, library.folder) as assistant:
        assistant.refused("cut_clip", "is not the video that was encoded", video="a.mp4", start=1, end=2)
        assistant.refused("find_moments", "is not in the library, and no --root was given", video="b", queries=["a"])
        path.unlink()
        assistant.refused("cut_clip", "a.mp4: is not there any more", video="a.mp4", start=1, end=2)
        found = assistant.call("describe_video", video="a.mp4", query="a dog")
        assert (found["library"]["name"], found["file"]) == ("a.mp4", None)
        assert "is not there any more" in found["notes"][0]


def wait_until_alone(session: int) -> None:
    end = time.monotonic() + PATIENCE
    while left := find_session(session):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def talk(server: subprocess.Popen[str], *calls: tuple[str, dict[str, Any]]) -> None:
    """Opens a session by hand, and calls tools without waiting for answers."""
    assert server.stdin is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    messages: list[dict[str, Any]] = [
        {"id": 0, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
    ]
    for number, (name, arguments) in enumerate(calls, start=1):
        asked = {"name": name, "arguments": arguments, "_meta": {"progressToken": number}}
        messages.append({"id": number, "method": "tools/call", "params": asked})
    for message in messages:
        server.stdin.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")
    server.stdin.flush()


def read_until(server: subprocess.Popen[str], wanted: str) -> list[dict[str, Any]]:
    """The messages of a server up to one that has a key, or is of a method; each line must be one."""
    assert server.stdout is not None
    found = []
    for line in server.stdout:
        found.append(json.loads(line))
        assert found[-1]["jsonrpc"] == "2.0"
        if wanted in (found[-1].get("method"), str(found[-1].get("id"))):
            return found
    raise AssertionError((found, server.communicate()))


def test_stdout_has_nothing_but_the_protocol(tmp_path: Path, outside: Path) -> None:
    """Whatever models, decoders and encoders have to say."""
    server = launch(tmp_path / "library", "--model", "demo", "--root", outside)
    talk(
        server,
        ("search_library", {"queries": ["a"]}),
        ("find_moments", {"video": "other/notes.mp4", "queries": ["a"]}),
        ("cut_clip", {"video": "other/new.mp4", "start": 0, "end": 9, "fast": True}),
        ("describe_video", {"video": "other/new.mp4"}),
    )
    found = read_until(server, "4")
    while not {1, 2, 3, 4} <= {one.get("id") for one in found}:
        found += [json.loads(server.stdout.readline())] if server.stdout else []
    results = {one["id"]: one["result"] for one in found if "id" in one}
    assert [bool(results[number].get("isError")) for number in range(5)] == [False, True, True, False, False]
    rest, errors = server.communicate(timeout=PATIENCE)  # closes stdin, as a client does that goes away
    assert (server.returncode, rest, errors) == (0, "", "")
    wait_until_alone(server.pid)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stdin", "stdout", signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_client_that_goes_away_leaves_no_process(tmp_path: Path, outside: Path, how: str | signal.Signals) -> None:
    server = launch(tmp_path / "library", "--model", "demo", "--root", outside)
    talk(server, ("find_moments", {"video": "other/long.mp4", "queries": ["a red circle"]}))
    read_until(server, "notifications/progress")
    assert len(find_session(server.pid)) >= 2
    if isinstance(how, signal.Signals):
        server.send_signal(how)
        code = -how if how == signal.SIGKILL else 128 + how
        assert server.wait(PATIENCE) == code
        wait_until_alone(server.pid)
        _, errors = server.communicate(timeout=PATIENCE)
        assert errors == ("stopped\n" if how == signal.SIGINT else "")
    else:
        if how == "stdout":
            assert server.stdout is not None
            server.stdout.close()
            time.sleep(1)  # it goes on writing how far it is, most likely
            server.stdout = None
        _, errors = server.communicate(timeout=PATIENCE)
        assert server.returncode in ((0, 1) if how == "stdout" else (0,))
        assert errors == ""
        wait_until_alone(server.pid)
    assert sorted(path.name for path in outside.iterdir() if path.name.endswith(".part")) == []


def test_the_help_imports_neither_the_model_nor_the_protocol() -> None:
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from r2tuning.cli.main import app\n"
        "for arguments in (['--help'], ['mcp', '--help']):\n"
        "    result = CliRunner().invoke(app, arguments)\n"
        "    assert result.exit_code == 0 and 'assistant' in result.output, result.output\n"
        "assert not {'torch', 'mcp', 'fastapi', 'av'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_guide_has_a_configuration_that_works_and_names_every_tool(assistant: Assistant, tmp_path: Path) -> None:
    (configuration,) = re.findall(
        r"^```json\n(\{\n.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    started = json.loads(configuration)["mcpServers"]["r2tuning"]
    assert started["command"] == "r2tuning"
    (tmp_path / "videos").mkdir()
    arguments = [part.replace("/home/me", str(tmp_path)) for part in started["args"]]
    command = [sys.executable, "-m", "r2tuning", *arguments]
    environment = os.environ | {"R2TUNING_LIBRARY": str(tmp_path / "library")}
    done = subprocess.run(command, env=environment, input="", capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name, tool in assistant.list_tools().items():
        (row,) = [line for line in GUIDE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |")]
        for field in re.findall(r"`(\w+)`", row.split("|")[2]):
            assert field in tool.input_schema["properties"]


def test_what_cannot_be_served_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(run("mcp", tmp_path / "a", "--root", tmp_path / "none"), 1, "is no folder; give --root")
    refused(run("mcp", "s3://bucket/videos"), 2, "is in an object store")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    refused(run("mcp", tmp_path / "other"), 1, "has other files")
    monkeypatch.setitem(sys.modules, "mcp", None)  # importing it fails as if it were not there
    refused(run("mcp", tmp_path / "a"), 1, "mcp is not installed; pip install 'r2tuning[mcp]'")
    assert not (tmp_path / "a").exists()
