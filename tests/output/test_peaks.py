from itertools import pairwise

import numpy as np
import pytest
from groundings import make_grounding
from hypothesis import given
from hypothesis import strategies as st

from r2tuning.output.peaks import find_peaks
from r2tuning.types import Moment


def test_two_hills_come_highest_first_and_end_at_half_height() -> None:
    scores = [0.0, 0.25, 0.5, 0.25, 0.0, 0.375, 0.75, 0.75, 0.25, 0.0]
    result = make_grounding(scores, duration=20.0, start=5.0)
    assert find_peaks(result, top=5) == [Moment(15.0, 21.0, 0.75), Moment(7.0, 13.0, 0.5)]
    assert find_peaks(result, top=1) == [Moment(15.0, 21.0, 0.75)]


def test_a_shoulder_is_no_peak() -> None:
    result = make_grounding([0.25, 0.25, 1.0, 0.0], duration=4.0)
    assert find_peaks(result, top=5) == [Moment(2.0, 3.0, 1.0)]


@pytest.mark.parametrize("scores", [[], [0.0], [0.0, 0.0, 0.0], [-0.5, -0.25, -0.75]])
def test_nothing_above_zero_gives_no_peaks(scores: list[float]) -> None:
    assert find_peaks(make_grounding(scores), top=5) == []


def test_a_single_frame_lasts_as_long_as_the_video() -> None:
    assert find_peaks(make_grounding([0.5], duration=0.04, start=1.0), top=5) == [Moment(1.0, 1.04, 0.5)]


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=40), st.integers(1, 6))
def test_peaks_are_ordered_apart_inside_the_video_and_hold_their_height(heights: list[int], top: int) -> None:
    scores = np.array(heights) / 8
    result = make_grounding(scores.tolist(), duration=float(len(scores)), start=3.0)
    peaks = find_peaks(result, top)
    assert len(peaks) <= top
    assert [p.score for p in peaks] == sorted((p.score for p in peaks), reverse=True)
    assert bool(peaks) == (scores.max() > 0)
    if peaks:
        assert peaks[0].score == scores.max()
    in_time = sorted(peaks, key=lambda p: p.start)
    for peak in peaks:
        # clips last 1 s: frame f covers [3 + f, 4 + f]; 1e-9 covers the rounding of centres
        inside = scores[round(peak.start - 3) : round(peak.end - 3)]
        assert inside.max() == peak.score
        assert inside.min() >= peak.score / 2
        assert peak.start >= 3 - 1e-9
        assert peak.end <= 3 + len(scores) + 1e-9
    for one, other in pairwise(in_time):
        assert one.end <= other.start + 1e-9
