"""AUROC is the share of pairs that are ordered rightly, and calibration errors are those of a literal loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2tuning.errors import MetricError
from r2tuning.metrics import auroc, expected_calibration_error, find_reliability

# Few values, so that ties are common.
scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12).map(np.array)
said = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30)


def count_pairs(positive: np.ndarray, negative: np.ndarray) -> float:
    won = 0.0
    for one in positive:
        for other in negative:
            won += 1.0 if one > other else 0.5 if one == other else 0.0
    return won / (len(positive) * len(negative))


@given(scores, scores)
def test_auroc_is_the_share_of_pairs_in_the_right_order(positive: np.ndarray, negative: np.ndarray) -> None:
    assert auroc(positive, negative) == pytest.approx(count_pairs(positive, negative), abs=1e-12)


def test_auroc_of_clear_cases() -> None:
    low, high = np.array([0.1, 0.2]), np.array([0.3, 0.4, 0.5])
    assert (auroc(high, low), auroc(low, high), auroc(low, low)) == (1, 0, 0.5)
    with pytest.raises(MetricError, match="0 positives and 2 negatives"):
        auroc(np.array([]), low)


@given(said)
def test_the_error_is_that_of_a_loop_over_tenths(pairs: list[tuple[float, bool]]) -> None:
    expected = 0.0
    for tenth in range(10):
        inside = [pair for pair in pairs if min(int(pair[0] * 10), 9) == tenth]
        if inside:
            gap = sum(p for p, _ in inside) / len(inside) - sum(right for _, right in inside) / len(inside)
            expected += abs(gap) * len(inside) / len(pairs)
    points = find_reliability(np.array([p for p, _ in pairs]), np.array([right for _, right in pairs]))
    assert expected_calibration_error(points) == pytest.approx(expected, abs=1e-12)
    assert points.shares.sum() == pytest.approx(1)
    assert (np.diff(points.predicted) > 0).all()


def test_weights_count_as_repetitions_do() -> None:
    probabilities, outcomes = np.array([0.15, 0.12, 0.8]), np.array([True, False, True])
    counts = np.array([3, 1, 2])
    weighted = find_reliability(probabilities, outcomes, counts / 10)
    repeated = find_reliability(probabilities.repeat(counts), outcomes.repeat(counts))
    for one, other in zip(vars(weighted).values(), vars(repeated).values(), strict=True):
        np.testing.assert_allclose(one, other)


def test_who_says_what_comes_true_has_no_error() -> None:
    random = np.random.default_rng(0)
    probabilities = random.uniform(size=100_000)
    assert (
        expected_calibration_error(find_reliability(probabilities, random.uniform(size=100_000) < probabilities)) < 0.01
    )


@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(MetricError, match="is no probability"):
        find_reliability(np.array([0.5, bad]), np.array([True, False]))


def test_numbers_must_agree() -> None:
    for count in (0, 2):
        with pytest.raises(MetricError, match=f"{count} probabilities for {0 if count == 0 else 1} outcomes"):
            find_reliability(np.full(count, 0.5), np.ones(min(count, 1), dtype=bool))
