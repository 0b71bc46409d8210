"""Highlights are the peaks of the curve: highest first, apart from each other, and as long as asked."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.groundings import make_grounding

from r2tuning.types import Moment

heights = st.lists(st.integers(-8, 8), min_size=1, max_size=40)


def test_two_hills_come_highest_first_and_end_at_half_height() -> None:
    scores = [0.0, 0.25, 0.5, 0.25, 0.0, 0.375, 0.75, 0.75, 0.25, 0.0]
    result = make_grounding(scores, duration=20.0, start=5.0)
    assert result.highlights() == [Moment(15.0, 21.0, 0.75), Moment(7.0, 13.0, 0.5)]
    assert result.highlights(top=1) == [Moment(15.0, 21.0, 0.75)]


def test_a_shoulder_is_no_peak() -> None:
    result = make_grounding([0.25, 0.25, 1.0, 0.0], duration=4.0)
    assert result.highlights() == [Moment(2.0, 3.0, 1.0)]


@pytest.mark.parametrize("scores", [[], [0.0], [0.0, 0.0, 0.0], [-0.5, -0.25, -0.75]])
@pytest.mark.parametrize("seconds", [None, 3.0])
def test_nothing_above_zero_gives_no_highlights(scores: list[float], seconds: float | None) -> None:
    assert make_grounding(scores).highlights(5, seconds) == []


def test_a_single_frame_lasts_as_long_as_the_video() -> None:
    result = make_grounding([0.5], duration=0.04, start=1.0)
    assert result.highlights() == result.highlights(seconds=9) == [Moment(1.0, 1.04, 0.5)]


@given(heights, st.integers(1, 6))
def test_they_are_ordered_apart_inside_the_video_and_hold_their_height(values: list[int], top: int) -> None:
    scores = np.array(values) / 8
    result = make_grounding(scores.tolist(), duration=float(len(scores)), start=3.0)
    found = result.highlights(top)
    assert len(found) <= top
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert bool(found) == (scores.max() > 0)
    if found:
        assert found[0].score == scores.max()
    for peak in found:
        # clips last 1 s: frame f covers [3 + f, 4 + f]; 1e-9 covers the rounding of centres
        inside = scores[round(peak.start - 3) : round(peak.end - 3)]
        assert inside.max() == peak.score
        assert inside.min() >= peak.score / 2
        assert peak.start >= 3 - 1e-9
        assert peak.end <= 3 + len(scores) + 1e-9
    for one, other in pairwise(sorted(found, key=lambda p: p.start)):
        assert one.end <= other.start + 1e-9


def test_context_is_added_about_the_peak_and_moved_aside_at_the_ends() -> None:
    scores = [0.75, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 1.0]
    result = make_grounding(scores, (), duration=20.0)
    # peaks are [18, 20], [0, 2] and [10, 12]
    assert result.highlights(seconds=6) == [Moment(14.0, 20.0, 1.0), Moment(0.0, 6.0, 0.75), Moment(8.0, 14.0, 0.5)]
    # 7 s about the last one would begin at 7.5: it gives way to the best, and still holds its top
    assert result.highlights(seconds=7) == [Moment(13.0, 20.0, 1.0), Moment(0.0, 7.0, 0.75)]
    assert result.highlights(seconds=6.5)[2:] == [Moment(7.0, 13.5, 0.5)]
    # a longer one than the video is the video
    assert result.highlights(seconds=60) == [Moment(0.0, 20.0, 1.0)]


def test_a_long_peak_is_cut_so_that_it_keeps_its_top() -> None:
    scores = [0.0, 1.0, 0.75, 0.75, 0.75, 0.75, 0.75, 0.0]  # lasts [2, 14], its highest clip is [2, 4]
    result = make_grounding(scores, (), duration=16.0)
    assert result.highlights(seconds=4) == [Moment(2.0, 6.0, 1.0)]
    assert result.highlights(seconds=1) == [Moment(3.0, 4.0, 1.0)]


@given(heights, st.integers(1, 6), st.floats(0.25, 50))
def test_all_last_as_long_as_asked(values: list[int], top: int, seconds: float) -> None:
    scores = np.array(values) / 8
    duration = 2.0 * len(scores)
    result = make_grounding(scores.tolist(), duration=duration, start=-1.0)
    peaks, found = result.highlights(len(scores)), result.highlights(top, seconds)
    assert bool(found) == bool(peaks)
    assert found[:1] == [] or found[0].score == peaks[0].score
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    for highlight in found:
        assert highlight.end - highlight.start == pytest.approx(min(seconds, duration))
        assert -1 - 1e-9 <= highlight.start <= highlight.end <= duration - 1 + 1e-9
        # one of the clips of that height is in it, as far as it fits
        clips = np.flatnonzero(scores == highlight.score) * 2.0 - 1
        shared = np.minimum(clips + 2, highlight.end) - np.maximum(clips, highlight.start)
        assert shared.max() >= min(seconds, 1.0) - 1e-6
    for one, other in pairwise(sorted(found, key=lambda p: p.start)):
        assert one.end <= other.start + 1e-9


def test_the_second_of_two_equal_tops_counts_where_the_first_is_taken() -> None:
    """[0, 5] is about the best top, at 2.5 s. Of the hill [4, 7], the top at 4.5 s lies in it, not that at 6.5 s."""
    scores = np.array([0, 0, 4, 0, 3, 2, 3, 0, 0, 0]) / 8
    result = make_grounding(scores.tolist(), (), duration=10.0)
    assert result.highlights(seconds=5) == [Moment(0.0, 5.0, 0.5), Moment(5.0, 10.0, 0.375)]


@given(heights, st.floats(0.25, 12))
@example([0, 0, 4, 0, 3, 2, 3, 0, 0, 0], 5.0)
def test_only_peaks_without_room_are_passed_over(values: list[int], seconds: float) -> None:
    scores = np.array(values) / 8
    result = make_grounding(scores.tolist(), (), duration=float(len(scores)))
    found = result.highlights(len(scores), seconds)
    for peak in result.highlights(len(scores)):
        if any(highlight.score == peak.score for highlight in found):
            continue  # of equal peaks, one is there
        better = [highlight for highlight in found if highlight.score > peak.score]
        for top in np.flatnonzero(scores == peak.score) + 0.5:
            if not peak.start < top < peak.end or any(h.start < top < h.end for h in better):
                continue
            low = max([0.0, *(h.end for h in better if h.end <= top)])
            high = min([float(len(scores)), *(h.start for h in better if h.start >= top)])
            assert high - low < min(seconds, len(scores))


@pytest.mark.parametrize(("top", "seconds"), [(0, None), (3, 0.0), (3, -1.0), (3, float("nan"))])
def test_what_cannot_be_is_refused(top: int, seconds: float | None) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        make_grounding().highlights(top, seconds)
