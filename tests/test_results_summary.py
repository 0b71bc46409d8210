"""Summaries keep to their budget, take whole shots where they can, and no choice of these is worth more."""

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.groundings import make_grounding
from support.videos import write_video

from r2tuning.errors import VideoError
from r2tuning.results import LONGEST, Grounding, choose_shots, cut_shots, summarize
from r2tuning.types import Moment


def spans_of(moments: list[Moment]) -> list[tuple[float, float]]:
    return [(round(m.start, 3), round(m.end, 3)) for m in moments]


def test_the_best_whole_shots_that_fit_in_time_order() -> None:
    # clips of 2 s; shots of 4, 6, 4 and 6 s with means 0.25, 0.9, 0.5, 0.6
    answer = make_grounding([0.25] * 2 + [0.9] * 3 + [0.5] * 2 + [0.6] * 3, (), duration=20.0, start=3.0)
    shots = [(3.0, 7.0), (7.0, 13.0), (13.0, 17.0), (17.0, 23.0)]
    summary = choose_shots(answer, shots, 40.0)
    assert spans_of(summary.shots) == [(3, 23)]
    # a quarter of 12 s is 3 s, so the shots are halved
    summary = choose_shots(answer, shots, 12.0)
    assert spans_of(summary.shots) == [(7, 13), (17, 23)]
    assert [shot.score for shot in summary.shots] == pytest.approx([0.9, 0.6])
    assert (summary.budget, summary.length) == (12.0, pytest.approx(12.0))


def test_a_clip_that_a_cut_divides_counts_for_both_shots() -> None:
    answer = make_grounding([0.1, 1.0, 0.4], (), duration=6.0)
    (shot,) = choose_shots(answer, [(0.0, 2.5), (2.5, 6.0)], 6.0).shots
    assert shot == Moment(0.0, 6.0, pytest.approx(0.5))
    (shot,) = choose_shots(answer, [(3.0, 5.0)], 6.0).shots
    assert shot == Moment(3.0, 5.0, pytest.approx(0.7))


def test_a_long_shot_is_taken_in_parts() -> None:
    answer = make_grounding([0.1] * 20 + [0.8] * 10 + [0.1] * 20, (), duration=100.0)
    assert spans_of(choose_shots(answer, [(0.0, 100.0)], 20.0).shots) == [(40, 60)]
    lengths = np.diff(cut_shots([(0.0, 100.0), (100.0, 101.0)], answer, 1000.0), axis=1)
    assert lengths.max() <= LONGEST


def test_where_nothing_fits_the_best_is_cut_to_the_budget() -> None:
    answer = make_grounding([0.1, 0.7, 0.3], (), duration=30.0)
    shots = [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]
    summary = choose_shots(answer, shots, 4.0)  # a sampled frame stands for 10 s
    assert spans_of(summary.shots) == [(13, 17)]
    assert summary.length == pytest.approx(4.0)


def test_where_nothing_is_above_zero_the_least_bad_shot_is_shown() -> None:
    answer = make_grounding([-0.5, -0.25, -0.5], (), duration=6.0)
    summary = choose_shots(answer, [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)], 6.0)
    assert summary.shots == [Moment(2.0, 4.0, -0.25)]


def test_a_budget_of_the_whole_video_takes_all_that_is_worth_anything() -> None:
    answer = make_grounding([0.3, 0.2, -0.1, 0.4], (), duration=1.37)
    shots = [(0.0, 0.3425), (0.3425, 0.685), (0.685, 1.0275), (1.0275, 1.37)]
    assert spans_of(choose_shots(answer, shots, 1.37).shots) == [(0, 0.685), (1.028, 1.37)]


def test_shots_of_another_video_are_refused() -> None:
    answer = make_grounding(start=500.0)
    with pytest.raises(VideoError, match="has nothing at the times of the answer"):
        choose_shots(answer, [(0.0, 70.0)], 10.0)


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
    answer = make_grounding([height / 8 for height in heights], (), duration=duration)
    summary = choose_shots(answer, shots, budget)
    assert summary.length <= budget + 1e-6
    assert summary.shots
    for one, other in pairwise(summary.shots):
        assert one.end < other.start
    # by sampling the curve 1000 times a second, and trying every choice of the same pieces
    pieces = cut_shots(shots, answer, budget).tolist()
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
    found = sum(worth(shot.start, shot.end) for shot in summary.shots)
    assert best <= 0 or found >= best - 0.01 * len(pieces)


def test_a_video_is_summed_up_by_its_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=60, fps=10)
    answer = make_grounding([0.1, 0.9, 0.2], (), duration=6.0, video=str(path))
    assert summarize(answer).budget == pytest.approx(0.9)
    assert summarize(answer, ratio=0.5).budget == pytest.approx(3.0)
    summary = summarize(answer, seconds=2)
    assert spans_of(summary.shots) == [(2, 4)]
    assert summarize(answer, seconds=100).budget == 6.0
    with pytest.raises(VideoError, match="does not exist"):
        summarize(make_grounding(video=str(tmp_path / "no.mp4")))


@pytest.mark.parametrize(
    "wrong", [{"ratio": 0}, {"ratio": 1.5}, {"seconds": 0}, {"seconds": float("nan")}, {"ratio": 0.5, "seconds": 3}]
)
def test_wrong_budgets_are_refused(wrong: dict[str, float]) -> None:
    answer: Grounding = make_grounding()
    with pytest.raises(ValueError, match="ratio"):
        summarize(answer, **wrong)
