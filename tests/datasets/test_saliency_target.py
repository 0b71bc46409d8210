"""Targets of training, against a frame-by-frame account of what the published models saw."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2tuning.datasets import Annotation, find_benchmark, mark_moments
from r2tuning.errors import DataError

QVHIGHLIGHTS, YOUTUBE, TVSUM = map(find_benchmark, ("qvhighlights", "youtube-highlights", "tvsum"))


def labelled(rows: list[list[float]]) -> Annotation:
    return Annotation(qid=1, vid="a", query="q", duration=2 * len(rows), saliency=np.array(rows, dtype=np.float64))


def widen_and_mark(moment: tuple[float, float], frames: int, fps: float) -> list[float]:
    """Swap, clamp, widen to one clip about the centre, then 1 where the clip starts inside."""
    start, end = sorted(min(max(time, 0), frames / fps) for time in moment)
    if end - start < 1 / fps:
        centre = min(max((start + end) / 2, 0.5 / fps), (frames - 0.5) / fps)
        start, end = centre - 0.5 / fps, centre + 0.5 / fps
    return [float(start <= frame / fps < end) for frame in range(frames)]


# Eighths of a second and rates that are powers of two: exact in binary, so no comparison hangs on rounding.
times = st.integers(-16, 200).map(lambda eighths: eighths / 8)


@given(st.tuples(times, times), st.integers(1, 12), st.sampled_from([0.5, 1.0, 2.0]))
def test_marks_what_widening_would(moment: tuple[float, float], frames: int, fps: float) -> None:
    target = mark_moments([moment], frames, fps)
    assert target.tolist() == widen_and_mark(moment, frames, fps)
    assert target.any()


def test_moments_add_up() -> None:
    assert mark_moments([(0, 4), (2, 6), (10, 11)], frames=6, fps=0.5).tolist() == [1, 1, 1, 0, 0, 1]


def test_qvhighlights_target() -> None:
    annotation = labelled([[4, 4, 4], [0, 0, 0], [1, 2, 3], [0, 0, 1]])
    target = QVHIGHLIGHTS.saliency_target(annotation, frames=4, fps=0.5)
    assert target.tolist() == [1, 0, 0.5, 1 / 12]
    assert QVHIGHLIGHTS.positive_frames(annotation, target).tolist() == [True, False, True, True]


def test_qvhighlights_without_ratings_marks_moments() -> None:
    annotation = Annotation(qid=1, vid="a", query="q", duration=8, moments=((2, 6),))
    target = QVHIGHLIGHTS.saliency_target(annotation, frames=4, fps=0.5)
    assert target.tolist() == [0, 1, 1, 0]
    assert QVHIGHLIGHTS.positive_frames(annotation, target).tolist() == [False, True, True, False]


def test_tvsum_target_and_its_median() -> None:
    annotation = labelled([[1] * 20, [2] * 20, [3] * 20, [5] * 20])
    target = TVSUM.saliency_target(annotation, frames=4, fps=0.5)
    assert target.tolist() == [0, 0.25, 0.5, 1]
    assert TVSUM.positive_frames(annotation, target).tolist() == [False, False, True, True]
    odd = np.array([0.25, 0.5, 0.5, 0.75, 0.0])
    assert TVSUM.positive_frames(annotation, odd).tolist() == [False, False, False, True, False]
    assert not TVSUM.positive_frames(annotation, np.full(4, 0.25)).any()


def test_youtube_target() -> None:
    annotation = labelled([[-1], [0], [1]])
    target = YOUTUBE.saliency_target(annotation, frames=3, fps=0.6)
    assert target.tolist() == [0, 0.5, 1]
    assert YOUTUBE.positive_frames(annotation, target).tolist() == [False, False, True]


def test_labels_and_video_may_differ_a_little() -> None:
    annotation = labelled([[3] * 20] * 10)
    assert len(TVSUM.saliency_target(annotation, frames=6, fps=0.5)) == 6
    assert len(TVSUM.saliency_target(annotation, frames=14, fps=0.5)) == 10
    for frames in (0, 5, 15):
        with pytest.raises(DataError, match=f"^a: {frames} frames for 10 rows of labels; sample the video at the rate"):
            TVSUM.saliency_target(annotation, frames=frames, fps=0.5)
    with pytest.raises(DataError, match="4 frames for 3 rows"):
        YOUTUBE.saliency_target(labelled([[-1], [0], [1]]), frames=4, fps=0.6)


def test_nothing_to_learn_from_is_refused() -> None:
    withheld = Annotation(qid=9, vid="a", query="q", duration=8)
    with pytest.raises(DataError, match="a: query 9 has no labels to train on"):
        QVHIGHLIGHTS.saliency_target(withheld, frames=4, fps=0.5)
