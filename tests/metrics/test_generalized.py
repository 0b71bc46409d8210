"""Queries without an answer: set IoU, rejection and presence, against loops and examples by hand."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.reference_metrics import generalized_metrics, pairwise_auroc, stepwise_average_precision

from r2tuning.errors import MetricError
from r2tuning.metrics import GroundTruth, Prediction, auroc, average_precision, evaluate_grounding
from r2tuning.metrics.generalized import score_generalized

# A grid, so that equal overlaps, equal presence and presence at the threshold are common.
MOMENT = st.tuples(st.integers(0, 8), st.integers(1, 4)).map(lambda pair: [5.0 * pair[0], 5.0 * sum(pair)])
PRESENCE = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
QUERY = st.tuples(st.lists(MOMENT, max_size=7), st.lists(MOMENT, max_size=4), PRESENCE)
SCORES = st.lists(PRESENCE, min_size=1, max_size=12)


def truth(qid: int, *windows: list[float]) -> GroundTruth:
    return GroundTruth(qid, 150, np.array(windows).reshape(-1, 2))


def answer(qid: int, presence: float | None, *windows: list[float]) -> Prediction:
    return Prediction(qid, np.array([[*window, 0.5] for window in windows]).reshape(-1, 3), presence=presence)


@settings(max_examples=150)
@given(st.lists(QUERY, min_size=2, max_size=6), st.sampled_from([0.0, 0.5, 0.6]))
def test_agrees_with_loops(queries: list[tuple[list[list[float]], list[list[float]], float]], threshold: float) -> None:
    assume(0 < sum(bool(true) for _, true, _ in queries) < len(queries))
    predictions = [answer(qid, presence, *answers) for qid, (answers, _, presence) in enumerate(queries)]
    truths = [truth(qid, *true) for qid, (_, true, _) in enumerate(queries)]
    expected = generalized_metrics(predictions, truths, threshold)
    assert score_generalized(predictions, truths, threshold) == pytest.approx(expected, rel=0, abs=1e-12)


@given(SCORES, SCORES)
def test_presence_agrees_with_loops(positive: list[float], negative: list[float]) -> None:
    there, not_there = np.array(positive), np.array(negative)
    assert auroc(there, not_there) == pytest.approx(pairwise_auroc(positive, negative), rel=0, abs=1e-12)
    expected = stepwise_average_precision(positive, negative)
    assert average_precision(there, not_there) == pytest.approx(expected, rel=0, abs=1e-12)


def test_by_hand() -> None:
    """Four queries, rejected below 0.5.

    1. Two true moments, both found: IoU 1 and 0.5, and a third prediction beside. k=1: 1 / (1 + 2 - 1) = 0.5;
       k=3: 1.5 / (3 + 2 - 2) = 0.5; k=5 is the same.
    2. One true moment, rejected: 0.
    3. No answer, rejected: 1.
    4. No answer, not rejected: 0.
    G-mIoU is (0.5 + 0 + 1 + 0) / 4 = 0.375. Two are rejected, one of them rightly, of two without an answer: P and R
    are 0.5. Presence of present queries is 0.9 and 0.4, of absent ones 0.2 and 0.7: three of four pairs are in order.
    AP: the first positive has precision 1, the second 2 of 3; their mean is 5/6.
    """
    truths = [truth(1, [0, 10], [20, 40]), truth(2, [0, 10]), truth(3), truth(4)]
    predictions = [
        answer(1, 0.9, [0, 10], [30, 40], [50, 60]),
        answer(2, 0.4, [0, 10]),
        answer(3, 0.2, [0, 10]),
        answer(4, 0.7, [0, 10]),
    ]
    metrics = evaluate_grounding(predictions, truths)
    assert {name.removeprefix("GMR-"): value for name, value in metrics.items() if name.startswith("GMR-")} == {
        "G-mIoU@1": 37.5,
        "G-mIoU@3": 37.5,
        "G-mIoU@5": 37.5,
        "Rej-P": 50.0,
        "Rej-R": 50.0,
        "Rej-F1": 50.0,
        "AUROC": 75.0,
        "AP": 83.33,
    }
    # The other metrics are those of the queries that have an answer.
    assert metrics["MR-full-R1@0.5"] == 100.0
    assert evaluate_grounding(predictions, truths, presence_threshold=0.3)["GMR-Rej-P"] == 100.0


def test_a_first_answer_beside_everything_leaves_the_true_moment_to_the_second() -> None:
    """IoU 0 is no pair: (0 + 1) / (2 + 1 - 1)."""
    found = answer(1, 0.9, [50, 60], [0, 10])
    metrics = score_generalized([found, answer(2, 0.1)], [truth(1, [0, 10]), truth(2)], 0.5)
    assert metrics["G-mIoU@3"] == pytest.approx((0.5 + 1) / 2)


def test_no_moments_are_a_rejection() -> None:
    metrics = score_generalized([answer(1, 0.9), answer(2, 0.9)], [truth(1, [0, 10]), truth(2)], 0.5)
    assert (metrics["G-mIoU@1"], metrics["Rej-R"], metrics["Rej-P"]) == (0.5, 1.0, 0.5)


def test_a_missing_prediction_is_never_right() -> None:
    truths = [truth(1, [0, 10]), truth(2, [0, 10]), truth(3), truth(4)]
    given_ones = [answer(1, 0.9, [0, 10]), answer(3, 0.1)]
    metrics = evaluate_grounding(given_ones, truths, missing="zero")
    # Right about one of two each way. Missing ones count as presence 0 of query 2 and 1 of query 4.
    assert (metrics["GMR-G-mIoU@1"], metrics["GMR-Rej-P"], metrics["GMR-Rej-R"]) == (50.0, 50.0, 50.0)
    assert metrics["GMR-AUROC"] == 25.0


def test_only_where_some_queries_have_an_answer_and_some_have_none() -> None:
    metrics = evaluate_grounding([answer(1, 0.9, [0, 10]), answer(2, 0.1)], [truth(1, [0, 10]), truth(2, [0, 10])])
    assert not any(name.startswith("GMR") for name in metrics)
    with pytest.raises(MetricError, match="no moments and no labels"):
        evaluate_grounding([answer(1, 0.9), answer(2, 0.1)], [truth(1), truth(2)])


def test_unanswerable_queries_change_no_other_metric() -> None:
    labels = {"clip_ids": [0], "saliency": [[4, 4, 4]]}
    some = [GroundTruth(1, 20, [[0, 2]], **labels)]
    none = [*some, GroundTruth(2, 20, np.empty((0, 2)), [], [])]
    predictions = [Prediction(1, [[0, 2, 0.5]], [1.0] + [0.0] * 9), Prediction(2, [[0, 2, 0.5]], [0.5] * 10)]
    assert evaluate_grounding(predictions[:1], some) == evaluate_grounding(predictions, none)


def test_refuses() -> None:
    truths = [truth(1, [0, 10]), truth(2)]
    with pytest.raises(MetricError, match="1 of 2 predictions have presence; give it for all or for none"):
        evaluate_grounding([answer(1, 0.5), answer(2, None)], truths)
    with pytest.raises(MetricError, match=r"the presence threshold is 1\.5; give a number in \[0, 1\]"):
        evaluate_grounding([answer(1, 0.5), answer(2, 0.5)], truths, presence_threshold=1.5)
    for wrong in (1.5, -0.1, float("nan"), "high"):
        with pytest.raises(MetricError, match=r"query 1: presence is .*; give a number in \[0, 1\]"):
            Prediction(1, np.empty((0, 3)), presence=wrong)
    with pytest.raises(MetricError, match="no positives"):
        average_precision(np.array([]), np.array([0.5]))
