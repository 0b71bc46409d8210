"""``r2tuning ground`` with clips, an animated picture and a contact sheet."""

from pathlib import Path

import pytest
import typer
from PIL import Image
from support.files import shared_file
from support.groundings import make_grounding
from support.videos import see_and_hear, write_flashes
from typer.testing import CliRunner

import r2tuning.output.media
from r2tuning.cli.main import app
from r2tuning.cli.outputs import check_clips, cut_clips, plan_outputs, write_outputs
from r2tuning.errors import OutputError, VideoError
from r2tuning.output.media import Footage
from r2tuning.output.registry import find_target
from r2tuning.results import Grounding


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 seconds at 25 fps."""
    path = tmp_path_factory.mktemp("cutting") / "a.mp4"
    write_flashes(path, frames=100)
    return path


@pytest.fixture
def answers(video: Path) -> list[Grounding]:
    return [
        make_grounding(query="A dog?", video=str(video), moments=((1.0, 2.0, 0.9), (0.0, 0.4, 0.5))),
        make_grounding(query="a/cat", video=str(video), moments=((3.0, 3.4, 0.8),)),
    ]


NAMES = ["01-a-dog-0m01.0s-0m02.0s.mp4", "02-a-dog-0m00.0s-0m00.4s.mp4", "03-a-cat-0m03.0s-0m03.4s.mp4"]


def cut(answers: list[Grounding], folder: Path, *, fast: bool = False, force: bool = False) -> None:
    cut_clips(answers, Footage(answers[0].video), folder, fast=fast, force=force)


def test_a_clip_for_every_moment(answers: list[Grounding], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_clips(tmp_path / "clips", fast=False)
    cut(answers, tmp_path / "clips")
    files = sorted((tmp_path / "clips").iterdir())
    assert [file.name for file in files] == NAMES
    spans = [(clip.frames[0], clip.frames[-1]) for clip in map(see_and_hear, files)]
    assert spans == [(25, 49), (0, 9), (75, 84)]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"Clips: 3 in {tmp_path / 'clips'}\n"


def test_fast_clips(answers: list[Grounding], tmp_path: Path) -> None:
    cut(answers, tmp_path / "clips", fast=True)
    clip = see_and_hear(tmp_path / "clips" / NAMES[0])
    assert clip.frames[0] == 24  # a key frame


def test_nothing_is_overwritten_and_the_others_are_cut(
    answers: list[Grounding], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAMES[0]).write_text("mine")
    with pytest.raises(OutputError, match="1 of 3 clips could not be cut"):
        cut(answers, tmp_path)
    assert (tmp_path / NAMES[0]).read_text() == "mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == NAMES
    assert f"not cut: {tmp_path / NAMES[0]} exists" in capsys.readouterr().err
    cut(answers, tmp_path, force=True)
    assert see_and_hear(tmp_path / NAMES[0]).frames == list(range(25, 50))


def test_ctrl_c_leaves_whole_clips_only(
    answers: list[Grounding], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = r2tuning.output.media.cut

    def interrupt(*arguments: object, **options: object) -> float:
        if list(tmp_path.iterdir()):
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(r2tuning.output.media, "cut", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cut(answers, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == NAMES[:1]


def test_a_video_that_is_gone_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="does not exist"):
        cut([make_grounding(video=str(tmp_path / "none.mp4"))], tmp_path / "clips")
    assert list(tmp_path.iterdir()) == []


def test_refused_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, message in [("file", "is a file: give a folder"), ("none/clips", "there is no folder")]:
        with pytest.raises(OutputError, match=message):
            check_clips(tmp_path / folder, fast=False)


def test_a_gif_for_each_query_with_a_moment_and_one_sheet(
    answers: list[Grounding], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = make_grounding(query="nothing", video=str(video), moments=())
    targets = [find_target(str(tmp_path / "a.gif")), find_target(f"sheet:{tmp_path / 's.png'}")]
    write_outputs([("a", [*answers, nothing])], targets, force=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a-1.gif", "a-2.gif", "s.png"]
    with Image.open(tmp_path / "a-1.gif") as picture:
        assert picture.n_frames == 10
    assert f"No {tmp_path / 'a-3.gif'}: there is no moment to show" in capsys.readouterr().err
    with pytest.raises(OutputError, match="no moment to show"):
        nothing.save(tmp_path / "b.gif")


def test_the_command_takes_the_options(tmp_path: Path) -> None:
    from support.models import save_tiny_model

    model = save_tiny_model(tmp_path)
    write_flashes(tmp_path / "a.mp4", frames=100)
    options = ["--model", str(model), "--top-k", "2", "--overlapping", "--clips", str(tmp_path / "clips"), "--fast"]
    options += ["-o", str(tmp_path / "a.gif"), "-o", f"sheet:{tmp_path / 'a.png'}"]
    result = CliRunner().invoke(app, ["ground", str(tmp_path / "a.mp4"), "a dog", "a cat", *options])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "clips").iterdir())) == 4
    assert (tmp_path / "a-1.gif").exists()
    assert (tmp_path / "a-2.gif").exists()
    assert (tmp_path / "a.png").exists()
    result = CliRunner().invoke(app, ["ground", str(tmp_path / "a.mp4"), "a dog", "--fast"])
    assert result.exit_code == 2
    assert "--clips" in result.stderr


def test_padded_clips_show_more_on_both_sides(answers: list[Grounding], tmp_path: Path) -> None:
    cut_clips(answers, Footage(answers[0].video), tmp_path / "clips", fast=False, force=False, pad=0.2)
    spans = [(clip.frames[0], clip.frames[-1]) for clip in map(see_and_hear, sorted((tmp_path / "clips").iterdir()))]
    assert spans == [(20, 54), (0, 14), (70, 89)]


def test_a_reel_joins_the_moments_of_all_queries(answers: list[Grounding], tmp_path: Path) -> None:
    reel = tmp_path / "reel.mp4"
    (target,) = plan_outputs(None, None, str(reel), force=False)
    write_outputs([("a", answers)], [target], force=False, pad=0.2)
    assert see_and_hear(reel).frames == [*range(15), *range(20, 55), *range(70, 90)]
    answers[0].save(tmp_path / "one.mp4")
    assert see_and_hear(tmp_path / "one.mp4").frames == [*range(10), *range(25, 50)]


def test_padding_needs_something_to_pad(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="it needs --clips DIR or --reel FILE"):
        check_clips(None, fast=False, pad=1.0)
    check_clips(None, fast=False, pad=1.0, targets=[find_target(str(tmp_path / "a.mp4"))])


def test_the_video_itself_is_never_replaced(answers: list[Grounding], video: Path) -> None:
    before = video.read_bytes()
    with pytest.raises(OutputError, match="is the video itself: choose another name"):
        answers[0].save(video, force=True)
    assert video.read_bytes() == before


def test_timecode_zero(tmp_path: Path) -> None:
    """``ffprobe -show_entries stream_tags=timecode 16…``: 10:00:00:00."""
    path = shared_file("bugs/16_timecode_10h.mov")
    result = make_grounding(query="A dog?", video=str(path), moments=((1.0, 2.0, 0.9),))
    for timecode, start in {"source": "10:00:01:00", "zero": "00:00:01:00"}.items():
        target = find_target(str(tmp_path / f"{timecode}.edl"))
        write_outputs([("a", [result])], [target], force=False, timecode=timecode)
        assert start in (tmp_path / f"{timecode}.edl").read_text()
