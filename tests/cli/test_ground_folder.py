"""``r2tuning ground FOLDER``: all its videos in one ranking, through a library that is cached."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from support.cli import refused, run
from support.shapes import write_shapes
from support.videos import write_video

from r2tuning import Library
from r2tuning.library import places
from r2tuning.library.places import cached_library

QUERY = "a red circle"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "folders"


@pytest.fixture(scope="module")
def videos(folder: Path) -> Path:
    folder = folder / "videos"
    (folder / "more").mkdir(parents=True)
    write_shapes(folder / "v0.mp4", [91000003])
    write_shapes(folder / "more" / "v1.mp4", [91000000])
    return folder


def test_a_folder_is_asked_as_a_library_is(videos: Path, cache: Path, tmp_path: Path) -> None:
    first = run("ground", videos, QUERY, "-m", "demo", "-k", 3, "--json", "-")
    assert first.exit_code == 0, first.output
    assert "2 videos to encode (2 new)" in first.stderr
    library = Library(tmp_path / "library", "demo")
    library.add(videos)
    expected = library.search(QUERY, top=3)
    found = json.loads(first.stdout)["hits"]
    assert [(hit["video"], hit["start"], hit["score"]) for hit in found] == [
        (hit.video, round(hit.moment.start, 3), round(hit.score, 6)) for hit in expected
    ]
    # Asked again, nothing is encoded; a query in an option, and how the folder is spelled, make no difference.
    again = run("ground", f"{videos / 'more' / '..'}/", "-q", QUERY, "-m", "demo", "-k", 3, "--json", "-")
    assert (again.exit_code, "encode" in again.stderr) == (0, False)
    assert [hit["score"] for hit in json.loads(again.stdout)["hits"]] == [hit["score"] for hit in found]
    assert len(list(cache.iterdir())) == 1
    table = run("ground", videos, QUERY, "-m", "demo", "-k", 3)
    assert table.stdout.startswith(f"Query: {QUERY}\nIn {videos}"[:30])
    assert "More: --after" not in table.stdout


def test_a_folder_is_followed(videos: Path, cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(videos, mine)
    ask = ("ground", mine, QUERY, "-m", "demo", "-k", 20, "--json", "-")
    assert json.loads(run(*ask).stdout)["videos"] == 2
    (mine / "v0.mp4").unlink()
    write_video(mine / "new.mp4", frames=20, fps=2)
    (mine / "bad.mp4").write_text("no video" * 100)
    result = run(*ask)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["videos"] == 2
    assert {Path(hit["video"]).name for hit in json.loads(result.stdout)["hits"]} <= {"v1.mp4", "new.mp4"}
    *_, left_out, error = result.stderr.splitlines()
    assert left_out.startswith(f"left out: {mine / 'bad.mp4'}")
    assert error == "error: 1 file could not be used, as listed above"


def test_where_no_video_can_be_used_nothing_is_shown(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bad.mp4").write_text("no video" * 100)
    for _ in range(2):
        result = run("ground", tmp_path / "mine", QUERY, "-m", "demo", "-o", tmp_path / "a.csv")
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"left out: {tmp_path / 'mine' / 'bad.mp4'}" in result.stderr
        assert not (tmp_path / "a.csv").exists()


def test_files_of_every_kind(videos: Path, cache: Path, tmp_path: Path) -> None:
    names = ("a.csv", "a.html", "a.mp4", "a.edl")
    options = [word for name in names for word in ("-o", tmp_path / name)]
    result = run(
        "ground", videos, "-q", QUERY, "-q", "a dog", "-m", "demo", "-k", 2, *options, "-o", "json:-", "--embed"
    )
    assert result.exit_code == 0, result.output
    assert {answer["query"] for answer in json.loads(result.stdout)} == {QUERY, "a dog"}
    assert {"a.csv", "a.html", "a.mp4"} <= {path.name for path in tmp_path.iterdir()}
    assert list(tmp_path.glob("a-v?.edl"))
    refused(run("ground", videos, QUERY, "-m", "demo", "-o", tmp_path / "a.csv"), 1, "a.csv exists")
    refused(run("ground", videos, QUERY, "-m", "demo", "-o", "csv:-", "--json", "-"), 2, "- would be written twice")


@pytest.mark.parametrize(
    "option", [("--fps", 2), ("--overlapping",), ("--present-only",), ("--video", "a.mp4"), ("--save-features", "a.st")]
)
def test_what_is_about_one_video_is_refused(videos: Path, option: tuple[object, ...]) -> None:
    refused(run("ground", videos, QUERY, *option), 2, str(option[0]), "is about videos one by one; give files, not")


def test_libraries_used_longest_ago_go(videos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached_library([videos], ["demo"]) == cached_library([f"{videos}/more/.."], ["demo"])
    kept = [cached_library([videos], [name]) for name in "abcd"]
    assert len(set(kept)) == 4
    now = time.time()
    for place, age in zip(kept, (9000, 8000, 7000, 10), strict=True):
        place.mkdir(parents=True)
        (place / "x").write_bytes(b"x" * 1000)
        os.utime(place, (now - age, now - age))
    monkeypatch.setattr(places, "MOST_CACHED", 2500)
    # The oldest is being used now; of the others, the oldest goes, and what was used an hour ago stays.
    cached_library([videos], ["a"])
    assert [place.exists() for place in kept] == [True, False, False, True]
    assert sorted(path.name for path in cache.iterdir()) == sorted([kept[0].name, kept[3].name])
