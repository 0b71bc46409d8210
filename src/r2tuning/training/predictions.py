"""Answers as files: JSON Lines in the keys of QVHighlights, which other systems write too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from r2tuning.datasets import Annotation
from r2tuning.datasets.entries import Entry, read_json
from r2tuning.datasets.schema import Fields, Qid, Text, check
from r2tuning.errors import DataError
from r2tuning.metrics import Prediction
from r2tuning.metrics.records import QueryId


def _check_order(moment: list[float]) -> list[float]:
    if moment[1] < moment[0]:
        raise ValueError("the start is after the end; swap the two")
    return moment


ScoredMoment = Annotated[list[float], Field(min_length=3, max_length=3), AfterValidator(_check_order)]


class MomentAnswer(Fields):
    """A line about moments, and highlights where the system gives them."""

    qid: Qid
    pred_relevant_windows: list[ScoredMoment]
    pred_saliency_scores: list[float] | None = None


class SaliencyAnswer(Fields):
    """A line about a video's highlights; one of ``qid`` and ``vid`` says which."""

    qid: Qid | None = None
    vid: Text | None = None
    pred_saliency_scores: list[float]


def read_predictions(path: str | Path, annotations: Sequence[Annotation], *, moments: bool) -> list[Prediction]:
    """Reads and checks the answers of any system.

    Args:
        path: A ``.jsonl`` file, an object per query: ``qid`` and ``pred_relevant_windows`` (``[start, end, score]``,
            seconds, best first), ``pred_saliency_scores`` where there are any. Without moments ``qid`` or ``vid``, and
            ``pred_saliency_scores``. Other keys are ignored.
        annotations: Of the same queries; they say what query a ``vid`` stands for.
        moments: Whether the benchmark asks for moments.

    Returns:
        In the order of the file.

    Raises:
        DataError: If the file cannot be read; at the first line that is wrong, as ``file:line: field: what``.
    """
    queries = {annotation.vid: annotation.qid for annotation in annotations}
    places: dict[QueryId, str] = {}
    predictions = []
    for entry in read_json(Path(path)):
        prediction = _read_moments(entry) if moments else _read_saliency(entry, queries)
        if prediction.qid in places:
            raise DataError(f"{entry.place}: qid: {prediction.qid!r} is already that of {places[prediction.qid]}")
        places[prediction.qid] = entry.place
        predictions.append(prediction)
    return predictions


def format_predictions(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, most: int | None = None
) -> str:
    """Answers as `read_predictions` and the benchmarks' own evaluators read them.

    Args:
        predictions: Answers.
        annotations: Of the same queries in the same order.
        most: Most moments of a query to write; None for all.

    Returns:
        One line per query; moments are left out where no answer has any.

    Example:
        >>> truth = Annotation(qid=1, vid="a", query="a dog", duration=4)
        >>> print(format_predictions([Prediction(1, [[0, 2, 0.5]], [0.25, 0.5])], [truth]), end="")
        {"qid": 1, "query": "a dog", "vid": "a", "pred_relevant_windows": [[0.0, 2.0, 0.5]], "pred_saliency_scores": [0.25, 0.5]}
    """  # noqa: E501  (a line of the file)
    moments = any(len(prediction.windows) for prediction in predictions)
    lines = []
    for prediction, annotation in zip(predictions, annotations, strict=True):
        line: dict[str, object] = {"qid": prediction.qid, "query": annotation.query, "vid": annotation.vid}
        if moments:
            line["pred_relevant_windows"] = prediction.windows[:most].tolist()
        if prediction.saliency is not None:
            line["pred_saliency_scores"] = prediction.saliency.tolist()
        lines.append(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines)


def _read_moments(entry: Entry) -> Prediction:
    fields = check(entry, MomentAnswer)
    windows = np.array(fields.pred_relevant_windows, dtype=np.float64).reshape(-1, 3)
    saliency = fields.pred_saliency_scores
    return Prediction(fields.qid, windows, None if saliency is None else np.array(saliency, dtype=np.float64))


def _read_saliency(entry: Entry, queries: dict[str, QueryId]) -> Prediction:
    fields = check(entry, SaliencyAnswer)
    if fields.qid is not None:
        qid = fields.qid
    elif fields.vid is None:
        raise DataError(f"{entry.place}: qid: is missing, and so is vid; give one of them")
    elif fields.vid in queries:
        qid = queries[fields.vid]
    else:
        raise DataError(f"{entry.place}: vid: {fields.vid!r} is not in the ground truth; remove the line")
    return Prediction(qid, np.empty((0, 3)), np.array(fields.pred_saliency_scores, dtype=np.float64))
