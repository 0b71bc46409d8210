"""The regression finds what a general optimizer finds, weights below 0 excluded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from r2tuning.decoding.calibration import sigmoid
from r2tuning.errors import MetricError
from r2tuning.evaluation.calibrate import fit_logistic


def loss(coefficients: np.ndarray, evidence: np.ndarray, right: np.ndarray, counts: np.ndarray) -> float:
    """Cross-entropy against Platt's targets, line by line."""
    positives = int(right.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (len(right) - positives + 2)
    total = 0.0
    for row, yes, count in zip(evidence, right, counts, strict=True):
        target, logit = (high if yes else low), float(row @ coefficients[:-1] + coefficients[-1])
        total += count * (np.logaddexp(0, logit) - target * logit)
    return total


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.booleans())
def test_nothing_is_likelier(seed: int, balanced: bool) -> None:
    random = np.random.default_rng(seed)
    evidence = random.normal(size=(40, 2)) * [1, 30] + [0, 500]
    right = random.uniform(size=40) < sigmoid(evidence @ [1.0, random.choice([-0.05, 0.02])] - 500 * 0.02)
    right[:2] = True, False
    weights, offset = fit_logistic(evidence, right, balanced=balanced)
    counts = np.where(right, 0.5 / right.mean(), 0.5 / (~right).mean()) if balanced else np.ones(40)
    # The other optimizer is given a better scale.
    scaled = (evidence - [0, 500]) / [1, 30]
    best = minimize(loss, np.zeros(3), (scaled, right, counts), "L-BFGS-B", bounds=[(0, None), (0, None), (None, None)])
    assert (weights >= 0).all()
    assert loss(np.array([*weights, offset]), evidence, right, counts) <= best.fun + 1e-6
    np.testing.assert_allclose(weights * [1, 30], best.x[:2], atol=2e-3)


def test_evidence_that_tells_all_apart_has_a_finite_answer() -> None:
    weights, offset = fit_logistic(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([False, False, True, True]))
    assert 0 < weights[0] < 10
    assert -weights[0] * 1.5 == pytest.approx(offset)


def test_the_same_twice_and_constants_do_no_harm() -> None:
    random = np.random.default_rng(1)
    value = random.normal(size=200)
    right = random.uniform(size=200) < sigmoid(2 * value)
    (alone,), offset = fit_logistic(value[:, None], right)
    weights, other = fit_logistic(np.column_stack([value, value, np.full(200, 7.0)]), right)
    assert weights[:2].sum() == pytest.approx(alone, rel=1e-6)
    assert weights[2] == 0
    assert other == pytest.approx(offset, rel=1e-6)


def test_balance_makes_numbers_of_either_kind_irrelevant() -> None:
    random = np.random.default_rng(2)
    evidence = np.concatenate([random.normal(1, 1, 3000), random.normal(-1, 1, 3000)])[:, None]
    right = np.arange(6000) < 3000
    few = np.r_[np.arange(3000), np.arange(3000, 3300)]
    (weight,), offset = fit_logistic(evidence[few], right[few], balanced=True)
    # Of two Gaussians 2 apart with variance 1 the log-odds are 2x.
    assert weight == pytest.approx(2, abs=0.2)
    assert offset == pytest.approx(0, abs=0.2)
    assert fit_logistic(evidence[few], right[few])[1] == pytest.approx(np.log(10), abs=0.3)


def test_the_wrong_way_round_means_nothing() -> None:
    (weight,), offset = fit_logistic(np.array([[3.0], [2.0], [1.0], [0.0]]), np.array([False, False, True, True]))
    assert weight == 0
    assert offset == pytest.approx(0)


@pytest.mark.parametrize("outcome", [True, False])
def test_one_kind_alone_is_refused(outcome: bool) -> None:
    with pytest.raises(MetricError, match=rf"{3 * outcome} of 3 are right"):
        fit_logistic(np.ones((3, 1)), np.full(3, outcome))
