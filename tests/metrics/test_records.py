import math
import re
from typing import Any

import numpy as np
import pytest

from r2tuning.errors import MetricError
from r2tuning.metrics import GroundTruth, Prediction

TRUTH: dict[str, Any] = {
    "qid": 7,
    "query": "a dog",
    "duration": 150,
    "vid": "x",
    "relevant_windows": [[2, 6]],
    "relevant_clip_ids": [1, 2],
    "saliency_scores": [[4, 0, 2], [3, 3, 3]],
}
ANSWER: dict[str, Any] = {"qid": 7, "pred_relevant_windows": [[2, 6, 0.5]], "pred_saliency_scores": [0.1, 0.2]}


def test_reads_a_ground_truth() -> None:
    record = GroundTruth.from_json(TRUTH)
    assert (record.qid, record.query, record.duration) == (7, "a dog", 150)
    assert record.windows.tolist() == [[2, 6]]
    assert record.clip_ids is not None
    assert record.saliency is not None
    assert (record.clip_ids.dtype, record.clip_ids.tolist()) == (np.int64, [1, 2])
    assert record.saliency.tolist() == [[4, 0, 2], [3, 3, 3]]


def test_what_is_unknown_may_be_null_or_left_out() -> None:
    null = dict.fromkeys(("query", "relevant_windows", "relevant_clip_ids", "saliency_scores"))
    for line in ({"qid": "a", "duration": 4.0}, {"qid": "a", "duration": 4.0, **null}):
        record = GroundTruth.from_json(line)
        assert record.windows.shape == (0, 2)
        assert (record.clip_ids, record.saliency, record.query) == (None, None, "")


def test_reads_a_prediction() -> None:
    record = Prediction.from_json(ANSWER)
    assert record.windows.tolist() == [[2, 6, 0.5]]
    assert record.saliency is not None
    assert record.saliency.tolist() == [0.1, 0.2]
    empty = Prediction.from_json({"qid": 7, "pred_relevant_windows": []})
    assert (empty.windows.shape, empty.saliency) == ((0, 3), None)


BAD_TRUTHS = {
    "a ground truth: 'qid' is missing; its keys are 'duration'": {"qid": ..., "query": ..., "vid": ...}
    | {"relevant_windows": ..., "relevant_clip_ids": ..., "saliency_scores": ...},
    "ground truth of query 7: 'duration' is missing": {"duration": None},
    "ground truth of query 7: duration is 0; give seconds above 0": {"duration": 0},
    "ground truth of query 7: duration is '150'; give seconds": {"duration": "150"},
    "ground truth of query [7]: the id is a list; give an integer or a string": {"qid": [7]},
    "ground truth of query 7: moment 2 starts at 9 s but ends at 8 s; swap": {"relevant_windows": [[0, 1], [9, 8]]},
    "ground truth of query 7: moments hold nan; give finite numbers": {"relevant_windows": [[0, math.nan]]},
    "ground truth of query 7: moments have shape [1, 3]; give [n, 2]": {"relevant_windows": [[0, 1, 1]]},
    "ground truth of query 7: moments are not numbers of shape [n, 2]": {"relevant_windows": [[0, 1], [2]]},
    "ground truth of query 7: clip ids and saliency labels come together": {"saliency_scores": None},
    "ground truth of query 7: 2 clip ids but 1 rows of labels": {"saliency_scores": [[1, 1, 1]]},
    "ground truth of query 7: saliency labels have shape [2, 2]; give [n, 3]": {"saliency_scores": [[1, 1], [1, 1]]},
    "ground truth of query 7: clip id 75 is not one of the 75 2-second clips": {"relevant_clip_ids": [1, 75]},
    "ground truth of query 7: clip id -1 is not one": {"relevant_clip_ids": [-1, 3]},
    "ground truth of query 7: clip id 1.5 is not one": {"relevant_clip_ids": [1.5, 3]},
}
BAD_ANSWERS = {
    "prediction for query 7: 'pred_relevant_windows' is missing; its keys are": {"pred_relevant_windows": ...},
    "prediction for query 7: moments hold nan; give finite": {"pred_relevant_windows": [[0, 1, math.nan]]},
    "prediction for query 7: moments hold inf; give finite": {"pred_relevant_windows": [[0, math.inf, 1]]},
    "prediction for query 7: moment 1 starts at 3 s but ends at 2 s": {"pred_relevant_windows": [[3, 2, 1]]},
    "prediction for query 7: moments have shape [1, 2]; give [n, 3]": {"pred_relevant_windows": [[3, 4]]},
    "prediction for query 7: saliency scores hold nan; give finite": {"pred_saliency_scores": [0.1, math.nan]},
    "prediction for query 7: saliency scores have shape [1, 2]; give [n]": {"pred_saliency_scores": [[0.1, 0.2]]},
}


def change(line: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (line | changes).items() if value is not ...}


@pytest.mark.parametrize(("message", "changes"), BAD_TRUTHS.items(), ids=BAD_TRUTHS)
def test_bad_ground_truth_is_refused(message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(MetricError, match="^" + re.escape(message)) as caught:
        GroundTruth.from_json(change(TRUTH, changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("message", "changes"), BAD_ANSWERS.items(), ids=BAD_ANSWERS)
def test_bad_prediction_is_refused(message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(MetricError, match="^" + re.escape(message)) as caught:
        Prediction.from_json(change(ANSWER, changes))
    assert "\n" not in str(caught.value)
