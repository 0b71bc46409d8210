"""Animated pictures and contact sheets show the frames they say."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from support.groundings import make_grounding
from support.videos import read_index, write_flashes, write_video

from r2tuning.errors import OutputError, VideoError
from r2tuning.output.media.gif import write_gif
from r2tuning.output.media.sheet import write_sheet


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 seconds at 25 fps, 640 × 480."""
    return write_video(tmp_path_factory.mktemp("pictures") / "a.mp4", frames=300, fps=25, size=(640, 480))


def read_gif(path: Path) -> tuple[list[int], list[int], tuple[int, int]]:
    """Numbers of the frames, milliseconds each is shown, and the size."""
    with Image.open(path) as picture:
        frames = [(np.asarray(f.convert("RGB")), f.info["duration"]) for f in ImageSequence.Iterator(picture)]
        assert picture.info["loop"] == 0  # for ever
    height, width = frames[0][0].shape[:2]
    side, left, top = min(width, height), max(width - height, 0) // 2, max(height - width, 0) // 2
    numbers = [read_index(image[top : top + side, left : left + side].transpose(2, 0, 1)) for image, _ in frames]
    return numbers, [duration for _, duration in frames], (width, height)


def test_a_gif_has_ten_frames_per_second(video: Path, tmp_path: Path) -> None:
    write_gif(str(video), 2, 4, tmp_path / "a.gif")
    numbers, lengths, size = read_gif(tmp_path / "a.gif")
    # The frame that is on the screen at 2.0 s, 2.1 s, …
    assert numbers == [50 + int(place * 2.5) for place in range(20)]
    assert set(lengths) == {100}
    assert size == (480, 360)


def test_a_gif_is_turned_upright_and_not_enlarged(tmp_path: Path) -> None:
    for rotation in (0, 90, 180, 270):
        path = write_video(tmp_path / f"{rotation}.mp4", frames=20, fps=10, size=(120, 160), rotation=rotation)
        write_gif(str(path), 0.5, 1.5, tmp_path / f"{rotation}.gif")
        numbers, _, size = read_gif(tmp_path / f"{rotation}.gif")
        assert numbers == list(range(5, 15))
        assert size == (120, 160)


def test_a_gif_of_few_frames_and_of_many_seconds(tmp_path: Path) -> None:
    write_flashes(tmp_path / "slow.mp4", frames=14, fps=1, sound=None)
    write_gif(str(tmp_path / "slow.mp4"), 2, 13, tmp_path / "a.gif")
    numbers, lengths, _ = read_gif(tmp_path / "a.gif")
    shown = [number for number, length in zip(numbers, lengths, strict=True) for _ in range(length // 100)]
    assert shown == [number for number in range(2, 12) for _ in range(10)]


def test_what_is_no_gif(video: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"must end in \.gif"):
        write_gif(str(video), 0, 1, tmp_path / "a.png")
    (tmp_path / "a.gif").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_gif(str(video), 0, 1, tmp_path / "a.gif")
    with pytest.raises(VideoError, match="shows nothing"):
        write_gif(str(video), 50, 51, tmp_path / "b.gif")


def find_marks(path: Path) -> list[list[int]]:
    """The numbers of the frames in each row of a sheet: dark squares of one height."""
    image = np.asarray(Image.open(path).convert("RGB"))
    grey = (np.abs(image.astype(int) - 96) < 12).all(axis=-1)  # what is beside the marks
    rows = np.flatnonzero(grey.sum(axis=1) > 20)
    found = []
    for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
        if len(run) < 60:  # text
            continue
        top, bottom = int(run[0]), int(run[-1]) + 1
        columns = np.flatnonzero(grey[top:bottom].mean(axis=0) > 0.9)
        bars = [(int(bar[0]), int(bar[-1]) + 1) for bar in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)]
        marks = []
        for left, right in zip(bars[::2], bars[1::2], strict=True):
            square = image[top:bottom, left[1] : right[0]]
            side = min(square.shape[:2])
            marks.append(read_index(square[:side, :side].transpose(2, 0, 1)))
        found.append(marks)
    return found


def test_a_sheet_has_a_row_of_frames_for_each_moment(video: Path, tmp_path: Path) -> None:
    answers = [
        make_grounding(video=str(video), moments=((1.0, 5.0, 0.9), (8.0, 8.08, 0.5))),
        make_grounding(video=str(video), query="狗 $x$ \ud800 </b>", moments=((6.0, 7.0, 0.25),)),
        make_grounding(video=str(video), moments=()),
    ]
    write_sheet(answers, tmp_path / "a.png")
    # In the middle of each quarter: 1.5, 2.5, 3.5 and 4.5 s. A moment of two frames shows both.
    assert find_marks(tmp_path / "a.png") == [[37, 62, 87, 112], [200, 201], [153, 159, 165, 171]]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 1000
    write_sheet(answers, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for label in ("a red circle falls", "0:01.0 to 0:05.0", "0:01.5", "a.mp4", "(no moment found)"):
        assert label in text
    with pytest.raises(OutputError, match="exists"):
        write_sheet(answers, tmp_path / "a.png")
    with pytest.raises(VideoError, match="does not exist"):
        write_sheet([make_grounding(video=str(tmp_path / "none.mp4"))], tmp_path / "b.png")


def test_frames_of_a_turned_video_are_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=40, fps=10, size=(160, 120), rotation=90)
    write_sheet([make_grounding(video=str(path), moments=((0.0, 4.0, 1.0),))], tmp_path / "a.png")
    assert find_marks(tmp_path / "a.png") == [[5, 15, 25, 35]]
