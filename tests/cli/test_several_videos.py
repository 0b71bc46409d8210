"""``r2tuning ground``, ``highlights`` and ``summarize`` with several videos, folders and queries."""

import json
from pathlib import Path

import pytest
from support.cli import refused, run
from support.videos import write_video


@pytest.fixture(scope="module")
def videos(folder: Path) -> Path:
    """A folder with two videos of one name, 12 and 8 seconds, a hidden one, and a file that is no video."""
    videos = folder / "videos"
    (videos / "more" / ".trash").mkdir(parents=True)
    write_video(videos / "a.mp4", frames=120, fps=10)
    write_video(videos / "more" / "a.mkv", frames=80, fps=10)
    write_video(videos / "more" / ".trash" / "b.mp4", frames=8, fps=10)
    (videos / "notes.txt").write_text("not a video")
    return videos


def test_one_table_and_one_json_for_all(model: Path, videos: Path, tmp_path: Path) -> None:
    every = [videos / "a.mp4", videos / "more" / "a.mkv"]
    result = run("ground", *every, "-q", "a dog", "-q", "a cat", "-m", model, "-o", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("Query: a dog") == result.stdout.count("Query: a cat") == 2
    answers = json.loads((tmp_path / "a.json").read_text())
    assert [(a["video"], a["query"]) for a in answers] == [(str(v), q) for v in every for q in ("a dog", "a cat")]
    assert [round(answer["duration"]) for answer in answers] == [12, 12, 8, 8]
    for answer, video in zip(answers[::2], every, strict=True):
        alone = run("ground", video, "a dog", "-m", model, "--json", "-")
        assert json.loads(alone.stdout) == [answer]
    # Given twice, a video is searched once.
    assert run("ground", every[0], videos, "-q", "a dog", "-q", "a cat", "-m", model).stdout == result.stdout


def test_formats_about_one_video_get_a_file_for_each(model: Path, videos: Path, tmp_path: Path) -> None:
    options = [
        word for name in ("a.srt", "a.edl", "a.png", "a.html", "a.csv", "a.mp4") for word in ("-o", tmp_path / name)
    ]
    every = [videos / "a.mp4", videos / "more" / "a.mkv"]
    result = run("ground", *every, "-q", "a dog", "-m", model, *options, "--clips", tmp_path / "clips", "-k", 1)
    assert result.exit_code == 0, result.output
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == sorted(
        ["a.html", "a.csv", "a.mp4", *(f"a-a-{i}.{form}" for i in (1, 2) for form in ("srt", "edl", "png"))]
        + [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("clips/a-[12]/*.mp4")]
    )
    assert len(list(tmp_path.glob("clips/*/*.mp4"))) == 2
    refused(run("ground", videos, "-q", "a dog", "-m", model, "-o", "srt:-"), 1, "srt is about one video")
    refused(run("ground", *every, "-q", "a dog", "-m", model, "-o", tmp_path / "a.srt"), 1, "a-a-1.srt exists")


def test_one_bad_video_does_not_stop_the_others(model: Path, videos: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video at all\n" * 50)
    result = run("ground", videos / "a.mp4", bad, tmp_path / "no.mp4", "-q", "a dog", "-m", model, "--json", "-")
    assert result.exit_code == 1
    assert [answer["video"] for answer in json.loads(result.stdout)] == [str(videos / "a.mp4")]
    *_, first, second, last = result.stderr.splitlines()
    assert first.startswith(f"left out: {bad}")
    assert second.startswith(f"left out: {tmp_path / 'no.mp4'}")
    assert last == "error: 2 of 3 videos could not be used; they are listed above"
    result = run("ground", bad, tmp_path / "no.mp4", "-q", "a dog", "-m", model, "-o", tmp_path / "a.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("left out: ") == 2
    assert not (tmp_path / "a.json").exists()


def test_highlights_and_summaries(model: Path, videos: Path, tmp_path: Path) -> None:
    every = [videos / "a.mp4", videos / "more" / "a.mkv"]
    for words in ([videos, "-q", "a dog"], every, [videos]):
        query = "a dog" if "-q" in words else ""
        result = run("highlights", *words, "-m", model, "--json", "-")
        assert result.exit_code == 0, result.output
        assert [(a["video"], a["query"]) for a in json.loads(result.stdout)] == [(str(v), query) for v in every]
    result = run("summarize", *every, "-m", model, "--ratio", 0.5, "--json", "-", "-o", tmp_path / "s.mp4")
    assert result.exit_code == 0, result.output
    assert [summary["budget"] for summary in json.loads(result.stdout)] == pytest.approx([6, 4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s-a-1.mp4", "s-a-2.mp4"]


def test_queries_from_a_file(model: Path, videos: Path, tmp_path: Path) -> None:
    file = tmp_path / "queries.txt"
    file.write_bytes("\ufeffa dog\r\n\r\n  a cat \n".encode())
    result = run("ground", videos / "a.mp4", "--queries", file, "-q", "x", "-m", model, "--json", "-")
    assert [answer["query"] for answer in json.loads(result.stdout)] == ["x", "a dog", "a cat"]
    file.write_text("\n \n")
    refused(run("ground", videos, "--queries", file, "-m", model), 1, "queries.txt: has no queries")
    file.write_bytes(b"\xff\xfe\x00")
    refused(run("ground", videos, "--queries", file, "-m", model), 1, "not UTF-8")
    refused(run("ground", videos, "--queries", tmp_path / "no.txt", "-m", model), 1, "no.txt: cannot be read")


@pytest.mark.parametrize("command", ["ground", "highlights", "summarize"])
def test_a_file_among_the_queries_is_told(model: Path, videos: Path, command: str) -> None:
    one, other = videos / "a.mp4", videos / "more" / "a.mkv"
    result = run(command, one, other, "a dog", "-m", model)
    spelling = f'r2tuning {command} {one} {other} -q "a dog"'.replace(" ", "")
    assert result.exit_code == 2
    assert spelling in "".join(result.stderr.replace("│", " ").split())
    refused(run(command, one, "missing.MP4", "-m", model), 2, "missing.MP4 is a file")
    refused(run("ground", one, other, "-m", model), 2, "-q")


@pytest.mark.parametrize("place", ["https://example.org/a.mp4", "rtsp://camera/1", "-"])
def test_only_local_files(model: Path, place: str) -> None:
    refused(run("ground", place, "a dog", "-m", model), 1, "local files only")


def test_an_empty_folder(model: Path, tmp_path: Path) -> None:
    refused(run("ground", tmp_path, "a dog", "-m", model), 1, f"{tmp_path}: has no videos")
