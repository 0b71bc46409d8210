"""Spans joined into one video: every frame once, in order, and sound that stays where it belongs."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import see_and_hear, write_flashes

from r2tuning.errors import OutputError, VideoError
from r2tuning.intervals import merge_spans
from r2tuning.output.media.cut import join
from r2tuning.video import probe

FPS = 30000 / 1001


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Eleven seconds with a flash and a beep in each, and when its frames are shown."""
    path = tmp_path_factory.mktemp("reel") / "a.mp4"
    times = write_flashes(path, frames=330, fps=Fraction(30000, 1001), gop=30)
    return path, times


def test_ten_spans_stay_in_sync_to_the_end(video: tuple[Path, list[float]], tmp_path: Path) -> None:
    path, shown = video
    spans = [(second - 0.137, second + 0.291) for second in range(1, 11)]
    asked = [number for number, time in enumerate(shown) if any(start <= time < end for start, end in spans)]
    calls: list[tuple[int, int]] = []
    join(str(path), spans, tmp_path / "reel.mp4", force=False, progress=lambda *call: calls.append(call))
    reel = see_and_hear(tmp_path / "reel.mp4")
    assert reel.frames == asked
    assert reel.times == pytest.approx([place / FPS for place in range(len(asked))], abs=0.001)
    assert len(reel.flashes) == len(reel.beeps) == 10
    assert np.abs(np.subtract(reel.beeps, reel.flashes)).max() < 0.02
    assert reel.sound == pytest.approx((0, len(asked) / FPS), abs=0.03)
    assert calls == [(number, len(asked)) for number in range(1, len(asked) + 1)]
    assert not probe(tmp_path / "reel.mp4").variable_frame_rate


def test_spans_come_in_the_order_of_time_and_what_they_share_once(
    video: tuple[Path, list[float]], tmp_path: Path
) -> None:
    path, shown = video
    join(str(path), [(4, 4.5), (1, 2), (4.3, 5), (2, 2.2)], tmp_path / "reel.mp4", force=False)
    asked = [number for number, time in enumerate(shown) if 1 <= time < 2.2 or 4 <= time < 5]
    assert see_and_hear(tmp_path / "reel.mp4").frames == asked


def test_joins_do_not_click(tmp_path: Path) -> None:
    write_flashes(tmp_path / "hum.mp4", frames=100, hum=True)
    join(
        str(tmp_path / "hum.mp4"),
        [(s, s + 0.2) for s in (0.5, 1.04, 1.68, 2.44, 3.08)],
        tmp_path / "r.mp4",
        force=False,
    )
    with av.open(str(tmp_path / "r.mp4")) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.abs(samples).max() > 0.4
    assert np.abs(np.diff(samples)).max() < 0.05  # the hum itself rises by 0.007 from sample to sample


def test_ctrl_c_leaves_nothing(video: tuple[Path, list[float]], tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 20:
            assert len(list(tmp_path.iterdir())) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        join(str(video[0]), [(0, 1), (2, 3)], tmp_path / "reel.mp4", force=False, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_joined(video: tuple[Path, list[float]], tmp_path: Path) -> None:
    target = tmp_path / "reel.mp4"
    with pytest.raises(ValueError, match="there are no spans"):
        join(str(video[0]), [], target, force=False)
    with pytest.raises(ValueError, match="must end after it starts"):
        join(str(video[0]), [(0, 1), (3, 2)], target, force=False)
    with pytest.raises(VideoError, match="shows nothing from 50"):
        join(str(video[0]), [(0, 1), (50, 51)], target, force=False)
    with pytest.raises(VideoError, match="does not exist"):
        join(str(tmp_path / "none.mp4"), [(0, 1)], target, force=False)
    assert list(tmp_path.iterdir()) == []
    target.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        join(str(video[0]), [(0, 1)], target, force=False)
    join(str(video[0]), [(0, 0.1)], target, force=True)
    assert len(see_and_hear(target).frames) == 3


def test_spans_that_touch_become_one() -> None:
    assert merge_spans([(3, 4), (0, 1), (1, 2), (3.5, 3.6)]) == [(0, 2), (3, 4)]
