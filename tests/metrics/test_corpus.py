"""Search across videos: recall and gain against loops and examples by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.reference_metrics import corpus_metrics

from r2tuning.errors import MetricError
from r2tuning.metrics import CorpusPrediction, CorpusTruth, evaluate_corpus

VIDEO = st.sampled_from("abcd")
MOMENT = st.tuples(st.integers(0, 6), st.integers(0, 4)).map(lambda pair: [5.0 * pair[0], 5.0 * sum(pair)])
TRUE = st.tuples(VIDEO, MOMENT, st.sampled_from([0.5, 1.0, 2.0, 4.0]))
ANSWER = st.tuples(st.sampled_from("abcde"), MOMENT)
QUERY = st.tuples(st.lists(ANSWER, max_size=14), st.lists(TRUE, max_size=5), st.sets(st.sampled_from("de")))


def truth(qid: int, *rows: list[Any], ignored: tuple[str, ...] = ()) -> CorpusTruth:
    return CorpusTruth.from_json({"qid": qid, "relevant_corpus": list(rows), "ignored_videos": list(ignored)})


def answer(qid: int, *rows: list[Any]) -> CorpusPrediction:
    return CorpusPrediction.from_json({"qid": qid, "pred_corpus": [[*row, 1 - i / 100] for i, row in enumerate(rows)]})


@settings(max_examples=150)
@given(st.lists(QUERY, min_size=1, max_size=4))
def test_agrees_with_loops(queries: list[tuple[list[Any], list[Any], set[str]]]) -> None:
    predictions, truths = [], []
    for qid, (answers, true, ignored) in enumerate(queries):
        predictions.append(answer(qid, *([video, *moment] for video, moment in answers)))
        rows = [[video, *moment, grade] for video, moment, grade in true]
        truths.append(truth(qid, *rows, ignored=tuple(ignored - {row[0] for row in rows})))
    assume(any(len(one.windows) for one in truths))
    expected = {name: 100 * value for name, value in corpus_metrics(predictions, truths).items()}
    assert evaluate_corpus(predictions[::-1], truths) == pytest.approx(expected, rel=0, abs=0.005 + 1e-9)


def test_recall_by_hand() -> None:
    """TVR's rule: the right video and IoU ≥ t; a right answer in another video is right.

    Query 1: first the right times in a wrong video, then IoU 0.6 in one of two right videos. Query 2: IoU 0.5 exactly,
    first. Query 3: only the right video.
    """
    truths = [truth(1, ["a", 10, 20], ["b", 0, 10]), truth(2, ["a", 0, 20]), truth(3, ["a", 0, 10])]
    predictions = [
        answer(1, ["c", 10, 20], ["b", 0, 6]),
        answer(2, ["a", 0, 10]),
        answer(3, ["c", 0, 10], ["a", 50, 60]),
    ]
    metrics = evaluate_corpus(predictions, truths)
    assert [metrics[f"VCMR-R{top}@0.5"] for top in (1, 5, 10, 100)] == [33.33, 66.67, 66.67, 66.67]
    assert [metrics[f"VCMR-R{top}@0.7"] for top in (1, 5, 10, 100)] == [0.0] * 4
    assert [metrics[f"VR-R{top}"] for top in (1, 5)] == [33.33, 100.0]


def test_video_recall_counts_videos_and_moment_recall_moments() -> None:
    found = answer(1, *([["b", 0, 5 * n + 5] for n in range(5)]), ["a", 0, 10])
    metrics = evaluate_corpus([found], [truth(1, ["a", 0, 10])])
    assert (metrics["VCMR-R5@0.5"], metrics["VCMR-R10@0.5"], metrics["VR-R1"], metrics["VR-R5"]) == (0, 100, 0, 100)


def test_only_the_first_hundred_moments_count() -> None:
    for misses, expected in ((99, 100.0), (100, 0.0)):
        found = answer(1, *([["b", 0, 5]] * misses), ["a", 0, 10])
        assert evaluate_corpus([found], [truth(1, ["a", 0, 10])])["VCMR-R100@0.7"] == expected


def test_gain_by_hand() -> None:
    """TVR-Ranking's grades 4, 2 and 1: gains 15, 3 and 1, discounted by 1, 1/log2(3) = 0.6309 and 1/2.

    Listed: the moment of grade 2, the same one again (used up), then that of grade 4 with IoU 0.5: 3 + 15/2 = 10.5 at
    IoU ≥ 0.5 and 3 at IoU ≥ 0.7. Ideal: 15 + 3 * 0.6309 + 1 / 2 = 17.3928.
    """
    graded = truth(1, ["a", 0, 10, 4], ["b", 0, 10, 2], ["c", 0, 10, 1], ["d", 0, 10, 0])
    metrics = evaluate_corpus([answer(1, ["b", 0, 10], ["b", 0, 10], ["a", 0, 5], ["d", 0, 10])], [graded])
    ideal = 15 + 3 / np.log2(3) + 1 / 2
    assert metrics["NDCG10@0.5"] == metrics["NDCG40@0.3"] == round(100 * 10.5 / ideal, 2) == 60.37
    assert metrics["NDCG10@0.7"] == round(100 * 3 / ideal, 2) == 17.25


def test_the_ideal_ranking_is_as_long_as_the_ranking() -> None:
    """Twelve true moments, ten found: NDCG@10 is 1, and NDCG@20 is not."""
    true = truth(1, *([["a", 10 * n, 10 * n + 10] for n in range(12)]))
    metrics = evaluate_corpus([answer(1, *([["a", 10 * n, 10 * n + 10] for n in range(10)]))], [true])
    assert metrics["NDCG10@0.7"] == 100
    assert 80 < metrics["NDCG20@0.7"] < 100


def test_arguable_videos_are_neither_right_nor_wrong() -> None:
    found = answer(1, ["b", 0, 10], ["a", 0, 10])
    assert evaluate_corpus([found], [truth(1, ["a", 0, 10])])["VCMR-R1@0.5"] == 0
    metrics = evaluate_corpus([found], [truth(1, ["a", 0, 10], ignored=("b",))])
    assert {metrics["VCMR-R1@0.5"], metrics["VR-R1"], metrics["NDCG10@0.5"]} == {100.0}


def test_queries_without_an_answer_anywhere_are_not_scored() -> None:
    truths = [truth(1, ["a", 0, 10]), truth(2)]
    assert evaluate_corpus([answer(1, ["a", 0, 10]), answer(2, ["a", 0, 10])], truths)["VCMR-R1@0.5"] == 100
    with pytest.raises(MetricError, match=r"no moments in any video \(queries: 1\)"):
        evaluate_corpus([answer(2)], truths[1:])


def test_missing_predictions() -> None:
    truths = [truth(1, ["a", 0, 10]), truth(2, ["a", 0, 10])]
    with pytest.raises(MetricError, match=r"no prediction for 1 query \(2\) of 2"):
        evaluate_corpus([answer(1, ["a", 0, 10])], truths)
    metrics = evaluate_corpus([answer(1, ["a", 0, 10])], truths, missing="zero")
    assert set(metrics.values()) == {50.0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"qid": 1}, "'pred_corpus' is missing"),
        ({"qid": 1, "pred_corpus": "a"}, "moments are 'a'"),
        ({"qid": 1, "pred_corpus": [["a", 0, 1]]}, "give 4 values, the video first"),
        ({"qid": 1, "pred_corpus": [[0, 1, 2, "a"]]}, "are not numbers"),
        ({"qid": 1, "pred_corpus": [[0, 1, 2, 3]]}, "give a name for each"),
        ({"qid": 1, "pred_corpus": [["a", 5, 2, 1]]}, "starts at 5 s but ends at 2 s"),
    ],
)
def test_refuses_predictions(line: dict[str, Any], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        CorpusPrediction.from_json(line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"relevant_corpus": [["a", 0]]}, "give 3 or 4 values"),
        ({"relevant_corpus": [["a", 0, 1, -1]]}, "give each one above 0"),
        ({"relevant_corpus": [["a", 0, 1]], "ignored_videos": ["a"]}, "'a' has a moment and is ignored"),
    ],
)
def test_refuses_truth(line: dict[str, Any], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        CorpusTruth.from_json({"qid": 1, **line})
