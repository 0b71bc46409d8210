"""Summaries end up in a `Summary` with its budget; how shots are chosen is tested in tests/decoding."""

from pathlib import Path

import pytest
from support.groundings import make_grounding
from support.videos import write_video

from r2tuning.errors import VideoError
from r2tuning.results import Grounding, summarize


def test_a_video_is_summed_up_by_its_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=60, fps=10)
    answer = make_grounding([0.1, 0.9, 0.2], (), duration=6.0, video=str(path))
    assert summarize(answer).budget == pytest.approx(0.9)
    assert summarize(answer, ratio=0.5).budget == pytest.approx(3.0)
    summary = summarize(answer, seconds=2)
    assert [(shot.start, shot.end) for shot in summary.shots] == [(2, 4)]
    assert summary.length == pytest.approx(2)
    assert summarize(answer, seconds=100).budget == 6.0
    with pytest.raises(VideoError, match="has nothing at the times of the answer"):
        summarize(make_grounding(start=500.0, video=str(path)))
    with pytest.raises(VideoError, match="does not exist"):
        summarize(make_grounding(video=str(tmp_path / "no.mp4")))


@pytest.mark.parametrize(
    "wrong", [{"ratio": 0}, {"ratio": 1.5}, {"seconds": 0}, {"seconds": float("nan")}, {"ratio": 0.5, "seconds": 3}]
)
def test_wrong_budgets_are_refused(wrong: dict[str, float]) -> None:
    answer: Grounding = make_grounding()
    with pytest.raises(ValueError, match="ratio"):
        summarize(answer, **wrong)
