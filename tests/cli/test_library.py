"""``r2tuning library``: what its commands print, write and refuse."""

import json
import math
import re
import shutil
from pathlib import Path

import av
import pytest
from support.cli import refused, run
from support.shapes import write_shapes
from support.videos import write_video

from r2tuning.cli.options import find_folder
from r2tuning.intervals import merge_spans


@pytest.fixture(scope="module")
def videos(folder: Path) -> Path:
    folder = folder / "videos"
    folder.mkdir()
    for number, seed in enumerate((91000003, 91000000)):  # 98 and 70 seconds
        write_shapes(folder / f"v{number}.mp4", [seed])
    return folder


@pytest.fixture(scope="module")
def library(folder: Path, videos: Path) -> Path:
    place = folder / "library"
    added = run("library", "add", videos, "--library", place, "--model", "demo")
    assert added.exit_code == 0, added.output
    assert added.stdout == f"{place}: 2 videos encoded, 2.8 min, {added.stdout.split('min, ')[1]}"
    assert added.stdout.endswith(" MB; files: 2 new\n")
    assert "2 videos to encode (2 new)" in added.stderr
    return place


def test_search_prints_a_table_and_json(library: Path, videos: Path, tmp_path: Path) -> None:
    table = run("library", "search", "a red circle", "--library", library, "-n", 3)
    assert table.exit_code == 0, table.output
    assert table.stdout.startswith(f"Query: a red circle\nLibrary: {library}"[:20])
    assert "v0.mp4" in "".join(table.stdout.split())
    found = json.loads(run("library", "search", "a red circle", "--library", library, "-n", 3, "--json", "-").stdout)
    assert (found["query"], found["videos"], len(found["hits"])) == ("a red circle", 2, 3)
    for hit in found["hits"]:
        assert {"video", "start", "end", "score"} <= hit.keys()
        assert Path(hit["video"]).parent == videos
        assert 0 <= hit["start"] < hit["end"] <= 98
    assert run("library", "search", "a red circle", "--library", library, "--json", tmp_path / "a.json").exit_code == 0
    assert json.loads((tmp_path / "a.json").read_text())["hits"][:3] == found["hits"]
    page = ("library", "search", "a red circle", "--library", library, "-n", 3, "--json", "-", "--after", found["next"])
    assert json.loads(run(*page).stdout)["hits"] == json.loads((tmp_path / "a.json").read_text())["hits"][3:6]


def test_search_writes_files_and_clips(library: Path, tmp_path: Path) -> None:
    files = [word for name in ("a.csv", "a.srt", "a.html") for word in ("-o", tmp_path / name)]
    done = run("library", "search", "a dog", "--library", library, "-n", 4, *files, "--clips", tmp_path / "clips")
    assert done.exit_code == 0, done.output
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert {"a.csv", "a.html", "a-v0.srt"} <= made
    assert len([name for name in made if name.endswith(".mp4")]) == 4


def test_one_page_and_one_reel_about_all_videos(library: Path, videos: Path, tmp_path: Path) -> None:
    page, reel = tmp_path / "page.html", tmp_path / "reel.mp4"
    files = ("--report", page, "--reel", reel, "-o", tmp_path / "a.json", "--pad", 1)
    queries = ("a red circle", "a dog")
    done = run("library", "search", *queries, "--library", library, "-n", 3, *files)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "page.html", "reel.mp4"]
    (data,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', page.read_text(encoding="utf-8"))
    told = json.loads(data)
    answers = json.loads((tmp_path / "a.json").read_text())
    assert json.loads(told["files"][0]["text"]) == answers
    assert {answer["query"] for answer in answers} == set(queries)
    assert sum(len(answer["moments"]) for answer in answers) == 6
    assert [told["videos"][of]["name"] for of in told["of"]] == [Path(answer["video"]).name for answer in answers]
    # One frame a second: of each video, those within a second of a moment, whatever the query, once. The frame that is
    # on the screen when a span begins belongs to it if the next one is over a quarter of a second away.
    shown = 0
    for video, last in (("v0.mp4", 98), ("v1.mp4", 70)):
        moments = [moment for answer in answers if Path(answer["video"]).name == video for moment in answer["moments"]]
        for start, end in merge_spans([(moment["start"] - 1, moment["end"] + 1) for moment in moments]):
            first = max(0, math.ceil(start - 0.0005))
            shown += min(last, math.ceil(end - 0.0005)) - first + (first - start > 0.25 and first > 0)
    with av.open(str(reel)) as container:
        assert sum(1 for _ in container.decode(video=0)) == shown


def test_a_video_that_is_gone_is_left_out_of_what_shows_it(videos: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    shutil.copytree(videos, copies)
    place = tmp_path / "library"
    assert run("library", "add", copies, "--library", place, "--model", "demo").exit_code == 0
    (copies / "v1.mp4").unlink()
    files = ("--reel", tmp_path / "reel.mp4", "-o", tmp_path / "a.csv", "--clips", tmp_path / "clips")
    done = run("library", "search", "a red circle", "--library", place, "-n", 40, *files)
    assert done.exit_code == 1
    *_, left_out, error = done.stderr.splitlines()
    assert left_out.startswith(f"left out: {copies / 'v1.mp4'}")
    assert error == "error: 1 of 2 videos could not be used; they are listed above"
    assert "v1.mp4" in (tmp_path / "a.csv").read_text()
    assert (tmp_path / "reel.mp4").exists()
    assert [path.name for path in (tmp_path / "clips").iterdir()] == ["v0"]


def test_filters_and_dates(library: Path, videos: Path) -> None:
    search = ("library", "search", "a dog", "--library", library, "--json", "-")
    assert {Path(h["video"]).name for h in json.loads(run(*search, "--in", "*v1*").stdout)["hits"]} == {"v1.mp4"}
    assert json.loads(run(*search, "--since", "2999-01-01").stdout)["hits"] == []
    assert json.loads(run(*search, "--min-duration", 80).stdout)["videos"] == 1
    nothing = run("library", "search", "a dog", "--library", library, "--since", "2999-01-01")
    assert "No moments: no video fits" in nothing.stdout
    refused(run(*search, "--since", "yesterday"), 2, "yesterday is no date; write it as 2024-05-31")


def test_list_info_and_check(library: Path, videos: Path) -> None:
    listed = run("library", "list", "--library", library)
    assert listed.stdout == f"ready          98.0 s  {videos / 'v0.mp4'}\nready          70.0 s  {videos / 'v1.mp4'}\n"
    files = json.loads(run("library", "list", "--library", library, "--json").stdout)["files"]
    assert [(file["state"], file["duration"]) for file in files] == [("ready", 98.0), ("ready", 70.0)]
    shown = run("library", "info", "--library", library).stdout
    assert "files     2 (0 missing, 0 could not be used)\n" in shown
    assert "model     demo, r2tuning/demo, engine torch\n" in shown
    assert run("library", "check", "--library", library).stdout == f"{library}: nothing is wrong\n"


def test_what_cannot_be_used_is_listed_and_ends_in_an_error(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.mp4").write_text("no video" * 100)
    write_video(tmp_path / "in" / "good.mp4", frames=20, fps=2)
    done = run("library", "add", tmp_path / "in", "--library", tmp_path / "l", "-m", "demo")
    assert done.exit_code == 1
    assert "2 videos to encode (2 new)" in done.stderr
    assert "1 video encoded" in done.stdout
    *_, left_out, error = done.stderr.splitlines()
    assert left_out.startswith(f"left out: {tmp_path / 'in' / 'bad.mp4'}")
    assert error == "error: 1 file could not be used, as listed above"
    removed = run("library", "remove", tmp_path / "in", "--library", tmp_path / "l")
    assert removed.stdout == f"{tmp_path / 'l'}: 2 files taken out\n"
    refused(run("library", "search", "a dog", "--library", tmp_path / "no"), 1, "has no library; make one with")
    refused(run("library", "remove", "--library", tmp_path / "l"), 2, "say what to take out, or give --missing")


def test_where_the_library_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_folder(str(tmp_path)) == str(tmp_path)
    monkeypatch.setenv("R2TUNING_LIBRARY", str(tmp_path / "mine"))
    assert find_folder(None) == str(tmp_path / "mine")
    assert find_folder(str(tmp_path)) == str(tmp_path)
    monkeypatch.delenv("R2TUNING_LIBRARY")
    assert Path(find_folder(None)).parts[-2:] == ("r2tuning", "library")
