"""Maps never change an order, not even of neighbouring numbers, and leave dropped moments at 0."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2tuning.decoding.calibration import Calibration, PresenceMap, ScoreMap, find_evidence, log_odds, sigmoid

slopes, offsets = st.floats(0.125, 4), st.floats(-4, 4)
unit = st.lists(st.floats(2**-20, 1, width=32), min_size=2, max_size=20, unique=True)


def calibration(slope: float, offset: float) -> Calibration:
    score_map = ScoreMap(slope=slope, offset=offset)
    return Calibration(moments=score_map, saliency=score_map, presence=None)


@given(unit, slopes, offsets)
def test_no_two_moments_change_their_order_or_become_equal(scores: list[float], slope: float, offset: float) -> None:
    found = calibration(slope, offset).calibrate_moments(np.sort(np.array(scores)))
    assert ((found > 0) & (found <= 1)).all()
    # Above 1 - 1e-6 to the power of the slope, fp64 itself has no room.
    assert (np.diff(found[found < 1 - 1e-14]) > 0).all()
    assert (np.diff(found) >= 0).all()


@given(st.lists(st.floats(-1, 1, width=16), min_size=2, max_size=20, unique=True), slopes, offsets)
def test_no_two_frames_change_their_order_or_become_equal(scores: list[float], slope: float, offset: float) -> None:
    found = calibration(slope, offset).saliency.apply(np.sort(np.array(scores, np.float32)))
    assert found.dtype == np.float64
    assert ((found > 0) & (found < 1)).all()
    assert (np.diff(found) > 0).all()


def test_dropped_moments_stay_at_zero() -> None:
    found = calibration(0.5, 3).calibrate_moments(np.array([0.9, 0.0]))
    assert found[1] == 0
    assert found[0] == pytest.approx(1 / (1 + np.exp(-(0.5 * np.log(9) + 3))))


def test_without_a_map_moments_are_left_alone() -> None:
    scores = np.array([0.25, 0.5])
    none = Calibration(moments=None, saliency=ScoreMap(slope=1, offset=0), presence=None)
    assert none.calibrate_moments(scores).tolist() == scores.tolist()
    assert none.find_presence(scores, scores) is None


@given(st.floats(-30, 17))
def test_log_odds_are_the_inverse_of_the_sigmoid(value: float) -> None:
    assert float(log_odds(sigmoid(np.array(value)))) == pytest.approx(value, abs=1e-6)


def test_presence_weighs_the_best_moment_and_the_two_highest_frames() -> None:
    presence = PresenceMap(moment=0.5, saliency=2, offset=-1, threshold=0.25)
    whole = Calibration(moments=None, saliency=ScoreMap(slope=1, offset=0), presence=presence)
    expected = 1 / (1 + np.exp(-(0.5 * np.log(0.75 / 0.25) + 2 * 0.5 - 1)))
    found = whole.find_presence(np.array([0.25, 0.75]), np.array([-1.0, 0.25, 0.75], np.float32))
    assert found == pytest.approx(expected)
    head = PresenceMap(moment=0, saliency=0, head=2, offset=1, threshold=0.25)
    whole = Calibration(moments=None, saliency=ScoreMap(slope=1, offset=0), presence=head)
    assert whole.find_presence(np.array([0.25]), np.array([0.5]), -1.5) == pytest.approx(1 / (1 + np.exp(2)))


@pytest.mark.parametrize("scores", [[], [0.0], [1.0]])
def test_evidence_is_always_finite(scores: list[float]) -> None:
    assert np.isfinite(find_evidence(np.array(scores), np.array([0.5]))).all()
