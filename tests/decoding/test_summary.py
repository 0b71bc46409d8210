"""Summaries keep to their budget, take whole shots where they can, and no choice of these is worth more."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from r2tuning.decoding.summary import LONGEST, SHORTEST, ScoredSpan, choose_items, choose_shots, cut_shots

Curve = tuple[NDArray[np.float64], NDArray[np.float32], tuple[float, float]]


def make_curve(scores: Sequence[float], duration: float, start: float = 0.0) -> Curve:
    """Times, scores and extent of a curve that has one score for every equal part of the video."""
    times = start + (np.arange(len(scores)) + 0.5) * duration / len(scores)
    return times, np.asarray(scores, np.float32), (start, start + duration)


def spans_of(shots: list[ScoredSpan]) -> list[tuple[float, float]]:
    return [(round(start, 3), round(end, 3)) for start, end, _ in shots]


def length_of(shots: list[ScoredSpan]) -> float:
    return sum(end - start for start, end, _ in shots)


def test_the_best_whole_shots_that_fit_in_time_order() -> None:
    # clips of 2 s; shots of 4, 6, 4 and 6 s with means 0.25, 0.9, 0.5, 0.6
    curve = make_curve([0.25] * 2 + [0.9] * 3 + [0.5] * 2 + [0.6] * 3, 20.0, 3.0)
    shots = [(3.0, 7.0), (7.0, 13.0), (13.0, 17.0), (17.0, 23.0)]
    summary = choose_shots(*curve, shots, 40.0)
    assert spans_of(summary) == [(3, 23)]
    # a quarter of 12 s is 3 s, so the shots are halved
    summary = choose_shots(*curve, shots, 12.0)
    assert spans_of(summary) == [(7, 13), (17, 23)]
    assert [score for *_, score in summary] == pytest.approx([0.9, 0.6])
    assert length_of(summary) == pytest.approx(12)


def test_a_clip_that_a_cut_divides_counts_for_both_shots() -> None:
    curve = make_curve([0.1, 1.0, 0.4], 6.0)
    (shot,) = choose_shots(*curve, [(0.0, 2.5), (2.5, 6.0)], 6.0)
    assert shot == (0.0, 6.0, pytest.approx(0.5))
    (shot,) = choose_shots(*curve, [(3.0, 5.0)], 6.0)
    assert shot == (3.0, 5.0, pytest.approx(0.7))


def test_a_long_shot_is_taken_in_parts() -> None:
    curve = make_curve([0.1] * 20 + [0.8] * 10 + [0.1] * 20, 100.0)
    assert spans_of(choose_shots(*curve, [(0.0, 100.0)], 20.0)) == [(40, 60)]
    lengths = np.diff(cut_shots([(0.0, 100.0), (100.0, 101.0)], (0.0, 101.0), 1000.0, 2.0), axis=1)
    assert lengths.max() <= LONGEST


def test_where_nothing_fits_the_best_is_cut_to_the_budget() -> None:
    curve = make_curve([0.1, 0.7, 0.3], 30.0)
    shots = [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]
    summary = choose_shots(*curve, shots, 4.0)  # a sampled frame stands for 10 s
    assert spans_of(summary) == [(13, 17)]
    assert length_of(summary) == pytest.approx(4.0)


def test_where_nothing_is_above_zero_the_least_bad_shot_is_shown() -> None:
    curve = make_curve([-0.5, -0.25, -0.5], 6.0)
    summary = choose_shots(*curve, [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)], 6.0)
    assert summary == [(2.0, 4.0, -0.25)]


def test_a_budget_of_the_whole_video_takes_all_that_is_worth_anything() -> None:
    curve = make_curve([0.3, 0.2, -0.1, 0.4], 1.37)
    shots = [(0.0, 0.3425), (0.3425, 0.685), (0.685, 1.0275), (1.0275, 1.37)]
    assert spans_of(choose_shots(*curve, shots, 1.37)) == [(0, 0.685), (1.028, 1.37)]


def test_shots_outside_the_extent_are_left_out() -> None:
    assert choose_shots(*make_curve([0.5, 0.5], 70.0, start=500.0), [(0.0, 70.0)], 10.0) == []


tenths = st.integers(1, 60).map(lambda n: n / 10)


@settings(max_examples=60)
@given(st.lists(tenths, min_size=1, max_size=7), st.lists(st.integers(-4, 8), min_size=1, max_size=12), st.data())
def test_no_choice_within_the_budget_is_worth_more(
    lengths: list[float], heights: list[int], data: st.DataObject
) -> None:
    edges = np.cumsum([0.0, *lengths]).round(1).tolist()
    shots, duration = list(pairwise(edges)), edges[-1]
    budget = round(data.draw(st.floats(0.05, 1)) * duration, 1)
    if budget <= 0:
        return
    curve = make_curve([height / 8 for height in heights], duration)
    summary = choose_shots(*curve, shots, budget)
    assert length_of(summary) <= budget + 1e-6
    assert summary
    for one, other in pairwise(summary):
        assert one[1] < other[0]
    # by sampling the curve 1000 times a second, and trying every choice of the same pieces
    pieces = cut_shots(shots, (0.0, duration), budget, duration / len(heights)).tolist()
    if len(pieces) > 9:
        return
    fine = np.array(heights)[(np.arange(round(duration * 1000)) * len(heights) // round(duration * 1000))] / 8

    def worth(start: float, end: float) -> float:
        return float(fine[round(start * 1000) : round(end * 1000)].sum()) / 1000

    def fits(chosen: tuple[list[float], ...]) -> bool:
        # lengths count in tenths of a second, rounded up
        return sum(np.ceil((end - start) * 10 - 1e-4) for start, end in chosen) <= budget * 10 + 1e-4

    choices = (c for count in range(len(pieces) + 1) for c in combinations(pieces, count))
    best = max(sum(worth(*piece) for piece in chosen) for chosen in choices if fits(chosen))
    found = sum(worth(start, end) for start, end, _ in summary)
    assert best <= 0 or found >= best - 0.01 * len(pieces)


def best_value(values: list[int], sizes: list[int], capacity: int) -> int:
    """Of all subsets that fit."""
    items = range(len(values))
    return max(
        sum(values[i] for i in chosen)
        for count in range(len(values) + 1)
        for chosen in combinations(items, count)
        if sum(sizes[i] for i in chosen) <= capacity
    )


@given(st.lists(st.tuples(st.integers(-3, 20), st.integers(1, 12)), max_size=9), st.integers(0, 40))
def test_the_knapsack_is_that_of_trying_every_choice(items: list[tuple[int, int]], capacity: int) -> None:
    values, sizes = [value for value, _ in items], [size for _, size in items]
    chosen = choose_items(values, sizes, capacity)
    assert chosen == sorted(set(chosen))
    assert sum(sizes[i] for i in chosen) <= capacity
    assert sum(values[i] for i in chosen) == best_value(values, sizes, capacity)
    assert all(values[i] > 0 for i in chosen)


def test_the_best_alone_may_not_be_among_the_best_together() -> None:
    assert choose_items([10.0, 9.0, 9.0], [5, 3, 3], 6) == [1, 2]
    assert choose_items([10.0, 9.0, 9.0], [5, 3, 3], 5) == [0]
    assert choose_items([1.0], [3], 2) == []
    assert choose_items([], [], 7) == []


@pytest.mark.parametrize(("sizes", "capacity"), [([0], 3), ([2, -1], 3), ([1, 1], -1)])
def test_what_cannot_be_is_refused(sizes: list[int], capacity: int) -> None:
    with pytest.raises(ValueError, match="sizes must be at least 1"):
        choose_items([1.0] * len(sizes), sizes, capacity)


@pytest.mark.parametrize("budget", [1e-300, 1e-17, 1e-9, 1e-4, 0.009])
def test_a_tiny_budget_still_shows_something(budget: float) -> None:
    """Late in a long video, so short a time is lost to rounding."""
    ((start, end, mean),) = choose_shots([99_995, 99_999], [0.25, 0.75], (99_993, 100_001), [(99_993, 100_001)], budget)
    assert end - start == pytest.approx(SHORTEST, abs=1e-9)
    assert mean == pytest.approx(0.75, abs=1e-6)
