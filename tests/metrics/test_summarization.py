import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from r2tuning.metrics import kendall_tau, spearman_rho

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.floats(-1, 1, width=16)), min_size=2, max_size=40)


@given(PAIRS)
def test_agree_with_scipy(pairs: list[tuple[int, float]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:  # undefined, where scipy says nan
        assert kendall_tau(x, y) == spearman_rho(x, y) == 0
        return
    assert kendall_tau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, rel=0, abs=1e-12)
    assert spearman_rho(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, rel=0, abs=1e-12)


@pytest.mark.parametrize("length", [1023, 1024, 1025])
def test_agree_with_scipy_around_a_power_of_two(length: int) -> None:
    rng = np.random.default_rng(length)
    x, y = rng.random(length), rng.integers(1, 6, length).astype(float)
    assert kendall_tau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, rel=0, abs=1e-12)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=15))
def test_tau_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    signs = [(np.sign(a - c), np.sign(b - d)) for (a, b), (c, d) in itertools.combinations(pairs, 2)]
    agreement = sum(x * y for x, y in signs)
    untied = sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs)
    x, y = np.array(pairs, dtype=float).T
    assert kendall_tau(x, y) == pytest.approx(agreement / untied**0.5 if untied else 0, rel=0, abs=1e-12)
