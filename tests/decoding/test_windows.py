"""Long videos in windows: what is planted in a timeline must come out once, whole, and nothing else with it."""

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from r2tuning.decoding.decode import DecodingConfig, Moments, finish_moments
from r2tuning.decoding.windows import Window, merge_moments, merge_saliency, plan_windows
from r2tuning.intervals import elementwise_iou

SEEDS = st.integers(0, 2**31)


@given(frames=st.integers(1, 500), length=st.integers(1, 120))
@example(frames=75, length=75)
@example(frames=76, length=75)
@example(frames=500, length=1)
def test_windows_cover_the_video_half_overlapping(frames: int, length: int) -> None:
    windows = plan_windows(frames, length)
    assert windows[0].start == 0
    assert windows[-1].stop == frames
    assert {w.stop - w.start for w in windows} == {min(frames, length)}
    step = max(1, round(length / 2))
    gaps = [b.start - a.start for a, b in pairwise(windows)]
    assert all(gap == step for gap in gaps[:-1])
    assert all(0 < gap <= step for gap in gaps[-1:])


@given(frames=st.integers(1, 300), length=st.integers(1, 60), ratio=st.floats(0, 0.95))
def test_no_frame_is_left_out_at_any_overlap(frames: int, length: int, ratio: float) -> None:
    seen = {frame for w in plan_windows(frames, length, ratio) for frame in range(w.start, w.stop)}
    assert seen == set(range(frames))


@pytest.mark.parametrize("plan", [(0, 4), (4, 0), (4, 4, 1.0), (4, 4, -0.1)])
def test_refused_plans(plan: tuple[float, ...]) -> None:
    ratio = plan[2] if len(plan) > 2 else 0.5
    message = f"cannot plan windows of {plan[1]} frames over {plan[0]} with overlap {ratio}"
    with pytest.raises(ValueError, match=re.escape(message)):
        plan_windows(*plan)  # type: ignore[arg-type]


def test_a_video_that_fits_one_window_is_left_as_it_is() -> None:
    windows = plan_windows(40, 75)
    moments = np.array([[-3.0, 99.0, 0.2], [1.0, 2.0, 0.9], [1.0, 2.0, 0.9]])  # beyond the ends, unranked, double
    curve = np.array([0.25, -0.5, 1.0], dtype=np.float32)
    before = moments.copy(), curve.copy()
    np.testing.assert_array_equal(merge_moments(windows, [moments], 0.5), before[0])
    np.testing.assert_array_equal(merge_saliency(windows, [curve]), before[1])


@settings(max_examples=50)
@given(frames=st.integers(2, 200), length=st.integers(1, 60), seed=SEEDS)
def test_saliency_is_the_average_weighted_by_distance_to_the_edge(frames: int, length: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    windows = plan_windows(frames, length)
    curves = [random.uniform(-1, 1, w.stop - w.start).astype(np.float32) for w in windows]
    expected = []
    for frame in range(frames):
        total = weight = 0.0
        for window, curve in zip(windows, curves, strict=True):
            if window.start <= frame < window.stop:
                trust = min(frame - window.start + 1, window.stop - frame)
                total += trust * float(curve[frame - window.start])
                weight += trust
        expected.append(total / weight)
    merged = merge_saliency(windows, curves)
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged, expected, atol=1e-6)


@given(frames=st.integers(1, 200), length=st.integers(1, 60), level=st.floats(-1, 1, width=32))
def test_windows_that_agree_on_a_constant_leave_it(frames: int, length: int, level: float) -> None:
    windows = plan_windows(frames, length)
    curves = [np.full(w.stop - w.start, level, dtype=np.float32) for w in windows]
    np.testing.assert_allclose(merge_saliency(windows, curves), np.full(frames, level), atol=1e-6)


@dataclass(frozen=True)
class Timeline:
    """A long video with planted moments, in frames, and what its windows say of it."""

    frames: int
    fps: float
    planted: Moments
    windows: list[Window]
    found: list[Moments]


SCORES = 0.6, 0.95  # of planted moments
NOISE = 0.15  # scores of noise lie below
CLEAR = 0.2  # what scores more is reported as found


def plant_moments(random: np.random.Generator, frames: int, length: int) -> Moments:
    """Moments of 3 frames to 2.5 windows, anywhere, at least 3 frames apart."""
    rows, at = [], random.uniform(0, length / 2)
    while True:
        shortest, longest = ((3, length / 2), (length / 2, length), (length, 2.5 * length))[random.integers(3)]
        end = at + random.uniform(shortest, longest)
        if end > frames:
            return np.array(rows).reshape(-1, 3)
        rows.append((at, end, random.uniform(*SCORES)))
        at = end + random.uniform(3, length)


def look(random: np.random.Generator, window: Window, planted: Moments, fps: float, copies: int) -> Moments:
    """What a good model says of a window: what is planted there, cut at the edges, a little off; and low noise.

    Times are off by at most a frame (a twelfth of a short moment), scores by at most 15 %. Raw predictions repeat
    themselves, so each moment comes with ``copies`` of lower score.
    """
    rows = []
    for start, end, score in planted:
        a, b = max(start, window.start), min(end, window.stop)
        if b - a < 1:
            continue
        off = min(1, (b - a) / 12)
        for copy in range(1 + copies):
            confidence = random.uniform(0.85, 1) if copy == 0 else random.uniform(0.5, 0.8)
            rows.append((a + random.uniform(-off, off), b + random.uniform(-off, off), score * confidence))
    for _ in range(10):
        a, b = np.sort(random.uniform(window.start, window.stop, 2))
        rows.append((a, b, random.uniform(0, NOISE)))
    moments = np.array(rows)
    moments[:, :2] = (moments[:, :2] - window.start) / fps
    return moments[(-moments[:, 2]).argsort()]


def simulate(seed: int, copies: int) -> Timeline:
    random = np.random.default_rng(seed)
    length = int(random.integers(40, 120))
    frames = int(length * random.uniform(1.05, 8))
    fps = float(random.choice([0.5, 1, 2]))
    planted = plant_moments(random, frames, length)
    windows = plan_windows(frames, length)
    return Timeline(frames, fps, planted, windows, [look(random, w, planted, fps, copies) for w in windows])


def assert_found_once(planted: Moments, reported: Moments) -> None:
    """Every planted moment is among the clear ones exactly once, and nothing else is clear; both in frames."""
    clear = reported[reported[:, 2] > CLEAR]
    for moment in planted:
        near = elementwise_iou(moment, clear)
        assert (near >= 0.8).sum() == 1, f"planted {moment}, reported {clear[near > 0]}"
        assert (near >= 0.5).sum() == 1, f"planted {moment}, doubles {clear[near >= 0.5]}"
    assert len(clear) == len(planted), f"planted {planted}, reported {clear}"


def in_frames(moments: Moments, fps: float) -> Moments:
    return moments * np.array([fps, fps, 1.0])


@settings(max_examples=100)
@given(seed=SEEDS)
def test_planted_moments_come_out_once_and_whole(seed: int) -> None:
    timeline = simulate(seed, copies=0)
    before = [moments.copy() for moments in timeline.found]
    merged = merge_moments(timeline.windows, timeline.found, timeline.fps)
    assert_found_once(timeline.planted, in_frames(merged, timeline.fps))
    assert (np.diff(merged[:, 2]) <= 0).all()
    for moments, copy in zip(timeline.found, before, strict=True):
        np.testing.assert_array_equal(moments, copy)


@settings(max_examples=50)
@given(seed=SEEDS)
def test_repeated_raw_predictions_come_out_once_after_suppression(seed: int) -> None:
    timeline = simulate(seed, copies=3)
    merged = merge_moments(timeline.windows, timeline.found, timeline.fps)
    final = finish_moments(merged, timeline.frames / timeline.fps, DecodingConfig(nms="normal", nms_threshold=0.7))
    assert_found_once(timeline.planted, in_frames(final, timeline.fps))


def test_the_simulation_plants_what_the_tests_are_about() -> None:
    short = long = crossing = 0
    for seed in range(20):
        timeline = simulate(seed, copies=0)
        length = timeline.windows[0].stop
        for start, end, _ in timeline.planted:
            short += end - start < length / 2
            long += end - start > length
            crossing += any(start + 1 < w.stop < end - 1 for w in timeline.windows[:-1])
    assert min(short, long, crossing) >= 10


WINDOWS = plan_windows(100, 50)  # 0-50, 25-75, 50-100; a seam is 2 frames


def found(*moments: tuple[int, float, float, float]) -> list[Moments]:
    """Moments as (window, start, end, score) in frames of the whole video, at 1 fps."""
    return [
        np.array([(a - w.start, b - w.start, score) for j, a, b, score in moments if j == i]).reshape(-1, 3)
        for i, w in enumerate(WINDOWS)
    ]


def merge(*moments: tuple[int, float, float, float]) -> list[list[float]]:
    return merge_moments(WINDOWS, found(*moments), fps=1.0).round(6).tolist()


def test_a_moment_over_the_whole_video_is_one() -> None:
    assert merge((0, 5, 50, 0.7), (1, 25, 75, 0.8), (2, 50, 95, 0.6)) == [[5, 95, 0.8]]


def test_a_sliver_gives_way_to_the_window_that_sees_the_whole() -> None:
    assert merge((0, 45, 50, 0.9), (1, 45, 60, 0.6), (2, 50, 60, 0.7)) == [[45, 60, 0.9]]
    assert merge((0, 49, 50, 0.9), (1, 49, 60, 0.6)) == [[49, 60, 0.6]]


def test_a_small_share_in_the_overlap_is_enough_where_its_ends_are_near() -> None:
    assert merge((0, 10, 26, 0.9), (1, 25, 27.2, 0.8)) == [[10, 26, 0.9]]


def test_a_weak_piece_gives_way_to_a_strong_whole() -> None:
    assert merge((0, 30, 50, 0.3), (1, 30, 60, 0.9)) == [[30, 60, 0.9]]


def test_the_best_of_one_window_pairs_with_the_best_of_the_next() -> None:
    best, second = (30, 41, 0.9), (30, 40, 0.6)
    assert merge((0, *second), (0, *best), (1, *best), (1, *second)) == [[*best], [*second]]


def test_windows_that_saw_both_ends_differently_disagree() -> None:
    disagreeing = [[5, 40, 0.9], [29, 40, 0.8]]
    assert merge((0, *disagreeing[0]), (1, *disagreeing[1])) == disagreeing


def test_different_moments_stay_apart() -> None:
    apart = [[30, 36, 0.9], [38, 44, 0.8]]
    assert merge((0, *apart[0]), (0, *apart[1]), (1, *apart[0]), (1, *apart[1])) == apart
    # One ends where the windows part, the other begins there.
    apart = [[30, 47, 0.9], [52, 70, 0.8]]
    assert merge((0, *apart[0]), (1, *apart[0]), (1, *apart[1]), (2, *apart[1])) == apart


def test_a_weak_piece_does_not_stretch_a_strong_moment() -> None:
    assert merge((0, 30, 50, 0.9), (1, 30, 70, 0.1)) == [[30, 50, 0.9], [30, 70, 0.1]]
    assert merge((0, 5, 50, 0.9), (1, 25, 75, 0.1)) == [[5, 50, 0.9]]


def test_the_ends_of_the_video_are_no_seams() -> None:
    assert merge((0, -4, 1, 0.9), (2, 99.5, 108, 0.8)) == [[-4, 1, 0.9], [99.5, 108, 0.8]]


def test_a_moment_is_clipped_to_what_its_window_saw() -> None:
    assert merge((1, 20, 40, 0.9)) == [[25, 40, 0.9]]


def test_nothing_found_is_nothing() -> None:
    merged: NDArray[np.float64] = merge_moments(WINDOWS, found(), fps=1.0)
    assert merged.shape == (0, 3)


def test_moments_without_score_are_no_trouble() -> None:
    assert merge((0, 30, 40, 0.0), (1, 30, 40, 0.0)) == [[30, 40, 0.0]]
