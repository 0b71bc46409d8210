import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2tuning.intervals import temporal_iou

MOMENTS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 10], [0, 10], 1.0),
        ([0, 10], [5, 15], 1 / 3),
        ([0, 10], [2, 4], 0.2),
        ([0, 10], [10, 20], 0.0),
        ([0, 10], [40, 50], 0.0),
        ([5, 5], [0, 10], 0.0),
        ([5, 5], [5, 5], 0.0),
    ],
)
def test_known_overlaps(a: list[float], b: list[float], expected: float) -> None:
    assert temporal_iou(np.array([a], dtype=float), np.array([b], dtype=float)).tolist() == [[expected]]


@given(MOMENTS, MOMENTS)
def test_symmetric_and_within_0_and_1(a: list[list[float]], b: list[list[float]]) -> None:
    left, right = np.array(a), np.array(b)
    iou = temporal_iou(left, right)
    assert iou.shape == (len(a), len(b))
    np.testing.assert_allclose(iou, temporal_iou(right, left).T, rtol=0, atol=1e-12)
    assert (iou >= 0).all()
    assert (iou <= 1 + 1e-12).all()


def test_leading_dimensions_broadcast() -> None:
    rng = np.random.default_rng(0)
    predicted, true = np.sort(rng.random((4, 3, 2))), np.sort(rng.random((4, 5, 2)))
    batched = temporal_iou(predicted, true)
    assert batched.shape == (4, 3, 5)
    for index in range(4):
        assert (batched[index] == temporal_iou(predicted[index], true[index])).all()
