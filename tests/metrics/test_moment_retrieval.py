import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference_metrics import moment_metrics

from r2tuning.metrics import GroundTruth, Prediction
from r2tuning.metrics.moment_retrieval import detection_average_precision, match_moments, score_moments

# Starts and ends on a grid of 5 seconds, so that duplicates, ties of IoU and lengths on the edge of a range are common.
MOMENT = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda ends: [5.0 * end for end in sorted(ends)])
ANSWER = st.tuples(MOMENT, st.sampled_from([0.0, 0.5, 0.9])).map(lambda pair: [*pair[0], pair[1]])
QUERY = st.tuples(st.lists(ANSWER, max_size=12), st.lists(MOMENT, max_size=5))


def truth(qid: int, *windows: list[float]) -> GroundTruth:
    return GroundTruth(qid, 150, np.array(windows).reshape(-1, 2))


def answer(qid: int, *windows: list[float]) -> Prediction:
    return Prediction(qid, np.array(windows).reshape(-1, 3))


@settings(max_examples=150)
@given(st.lists(QUERY, min_size=1, max_size=5))
def test_agrees_with_loops(queries: list[tuple[list[list[float]], list[list[float]]]]) -> None:
    predictions = [answer(qid, *answers) for qid, (answers, _) in enumerate(queries)]
    ground_truth = [truth(qid, *true) for qid, (_, true) in enumerate(queries)]
    expected = moment_metrics(predictions, ground_truth)
    assert score_moments(predictions, ground_truth) == pytest.approx(expected, rel=0, abs=1e-12)


def test_one_true_moment_is_found_once() -> None:
    iou = np.array([[[0.9], [0.95]]])
    assert match_moments(iou, np.array([0.5])).tolist() == [[[0, -1]]]


def test_an_answer_takes_the_next_best_when_the_best_is_used() -> None:
    iou = np.array([[[0.9, 0.6], [0.8, 0.7]]])
    assert match_moments(iou, np.array([0.5, 0.75])).tolist() == [[[0, 1], [0, -1]]]


def test_average_precision_looks_to_the_right() -> None:
    found = np.array([[True, True, False], [False, True, True], [False, False, False]])
    # Second row: precision 0, 1/2, 2/3 becomes 2/3 from the right on; each hit is half of the recall.
    np.testing.assert_allclose(detection_average_precision(found, np.array([2, 2, 2])), [1, 2 / 3, 0], atol=1e-15)


def test_only_ten_answers_count() -> None:
    misses = [[0.0, 1.0, 0.9]] * 9
    hit = [100.0, 140.0, 0.5]
    assert score_moments([answer(1, *misses, hit)], [truth(1, [100, 140])])["MR-full-mAP"] == pytest.approx(0.1)
    assert score_moments([answer(1, *misses, misses[0], hit)], [truth(1, [100, 140])])["MR-full-mAP"] == 0


def test_recall_ranks_as_listed_and_precision_by_score() -> None:
    listed = [[0.0, 20.0, 0.1], [100.0, 140.0, 0.9]]
    metrics = score_moments([answer(1, *listed)], [truth(1, [100, 140])])
    assert (metrics["MR-full-R1@0.5"], metrics["MR-full-R5@0.5"], metrics["MR-full-mIoU"]) == (0, 1, 0)
    assert metrics["MR-full-mAP"] == 1


def test_recall_at_five_ignores_the_sixth() -> None:
    misses = [[0.0, 1.0, 0.9]] * 4
    hit = [100.0, 140.0, 0.5]
    assert score_moments([answer(1, *misses, hit)], [truth(1, [100, 140])])["MR-full-R5@0.95"] == 1
    assert score_moments([answer(1, *misses, misses[0], hit)], [truth(1, [100, 140])])["MR-full-R5@0.95"] == 0


def test_ranges_are_open_below_and_closed_above() -> None:
    for length, name in ((10, "short"), (10.5, "middle"), (30, "middle"), (30.5, "long"), (150, "long")):
        metrics = score_moments([answer(1, [0.0, length, 1.0])], [truth(1, [0, length])])
        assert {key.split("-")[1] for key in metrics} == {"full", name}
        assert metrics[f"MR-{name}-mAP"] == 1


def test_a_range_keeps_its_moments_and_all_answers() -> None:
    true = [truth(1, [0, 10], [50, 100]), truth(2, [0, 100])]
    answers = [answer(1, [50.0, 100.0, 0.9], [0.0, 10.0, 0.8]), answer(2, [0.0, 100.0, 1.0])]
    metrics = score_moments(answers, true)
    assert metrics["MR-full-mAP"] == 1
    # For the short moment, the answer that found the long one is a false positive ahead of it.
    assert metrics["MR-short-mAP"] == pytest.approx(0.5)
    assert metrics["MR-short-R1@0.3"] == 0
    assert metrics["MR-long-mAP"] == 1


def test_iou_equal_to_the_threshold_counts() -> None:
    metrics = score_moments([answer(1, [0.0, 14.0, 1.0])], [truth(1, [0, 20])])
    assert (metrics["MR-full-R1@0.7"], metrics["MR-full-R1@0.75"]) == (1, 0)
    assert (metrics["MR-full-mAP@0.7"], metrics["MR-full-mAP@0.75"]) == (1, 0)


def test_a_moment_of_no_length_counts_in_full_and_is_never_found() -> None:
    metrics = score_moments([answer(1, [5.0, 5.0, 1.0])], [truth(1, [5, 5])])
    assert set(metrics.values()) == {0.0}
    assert {key.split("-")[1] for key in metrics} == {"full"}
