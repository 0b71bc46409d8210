"""Files of predictions, ours or another system's, and their scores by the benchmark's metrics; without PyTorch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from r2tuning.datasets import Annotation, Benchmark, to_ground_truth
from r2tuning.datasets.entries import Entry, Fields, Qid, Text, check, read_json
from r2tuning.errors import DataError, MetricError
from r2tuning.intervals import FloatArray
from r2tuning.metrics import Prediction, evaluate_grounding, match_predictions, tvsum_top5_map, youtube_map
from r2tuning.metrics.evaluate import PRESENCE_THRESHOLD, Missing
from r2tuning.metrics.records import QueryId

WORD_BINS = ((1, 10), (11, 20), (21, 30), (31, 40), (41, None))
"""Least and most words of a query in each column of Table 6."""


def score_predictions(
    predictions: Sequence[Prediction],
    annotations: Sequence[Annotation],
    benchmark: Benchmark,
    *,
    missing: Missing = "error",
    presence_threshold: float = PRESENCE_THRESHOLD,
) -> dict[str, float]:
    """Scores predictions by the benchmark's own metrics, matched by query id, in any order.

    Scores are percent, rounded to two decimals. Moments: what `r2tuning.metrics.evaluate_grounding` gives. YouTube
    Highlights and TVSum: ``mAP``; of several domains their mean, with ``{domain}-mAP`` for each. An empty prediction
    counts 0, and so does a missing one with ``missing="zero"``. Videos and labels of TVSum may differ by a few clips,
    and are cut to the shorter.

    Example:
        >>> truth = Annotation(qid=1, vid="a", query="a dog", duration=30, moments=((10, 20),))
        >>> from r2tuning.datasets import find_benchmark
        >>> score_predictions([Prediction(1, [[12, 20, 0.9]])], [truth], find_benchmark("tacos"))["MR-full-mIoU"]
        80.0
    """
    if benchmark.scorer == "grounding":
        truths = [to_ground_truth(annotation) for annotation in annotations]
        return evaluate_grounding(predictions, truths, missing=missing, presence_threshold=presence_threshold)
    domains: dict[str, list[tuple[FloatArray, FloatArray]]] = defaultdict(list)
    for prediction, annotation in zip(match_predictions(predictions, annotations, missing), annotations, strict=True):
        domains[annotation.domain or benchmark.name].append(_pair(prediction, annotation, benchmark))
    if not domains:
        raise MetricError(f"{benchmark.name}: no annotations to score against; choose a split that has some")
    metric = tvsum_top5_map if benchmark.scorer == "tvsum" else _youtube
    scores = {domain: metric(*zip(*pairs, strict=True)) for domain, pairs in domains.items()}
    if len(scores) == 1:
        return {"mAP": next(iter(scores.values()))}
    return {"mAP": round(mean(scores.values()), 2)} | {f"{domain}-mAP": score for domain, score in scores.items()}


@dataclass(frozen=True)
class LengthScore:
    """MR mAP, in percent, of queries with so many words, such as ``1-10`` or ``41+``; None where there are none."""

    words: str
    queries: int
    mean_ap: float | None


def score_query_lengths(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, missing: Missing = "error"
) -> list[LengthScore]:
    """MR mAP of queries by their number of words (Table 6), for each of `WORD_BINS`; blanks separate words.

    Annotations need durations; those without moments are left out.

    Example:
        >>> truth = Annotation(qid=1, vid="a", query="a dog runs", duration=30, moments=((10, 20),))
        >>> long = replace(truth, qid=2, query=" ".join(["word"] * 41))
        >>> scores = score_query_lengths([Prediction(1, [[10, 20, 0.9]]), Prediction(2, [])], [truth, long])
        >>> [(score.words, score.mean_ap) for score in scores]
        [('1-10', 100.0), ('11-20', None), ('21-30', None), ('31-40', None), ('41+', 0.0)]
    """
    # Unlabelled saliency: only moments are scored, and the queries that have none drop out.
    truths = [to_ground_truth(replace(a, saliency=None)) for a in annotations if a.moments]
    answers = {p.qid: replace(p, presence=None) for p in match_predictions(predictions, annotations, missing)}
    scores = []
    for least, most in WORD_BINS:
        chosen = [t for t in truths if least <= len(t.query.split()) <= (most or len(t.query))]
        metrics = evaluate_grounding([answers[t.qid] for t in chosen], chosen) if chosen else {}
        name = f"{least}+" if most is None else f"{least}-{most}"
        scores.append(LengthScore(name, len(chosen), metrics.get("MR-full-mAP")))
    return scores


def _youtube(saliency: Sequence[FloatArray], labels: Sequence[FloatArray]) -> float:
    return youtube_map(saliency, [rows[:, 0] for rows in labels])


def _pair(prediction: Prediction, annotation: Annotation, benchmark: Benchmark) -> tuple[FloatArray, FloatArray]:
    """A curve and its labels, cut to the shorter."""
    labels, scores = annotation.saliency, prediction.saliency
    if labels is None or benchmark.labels is None:
        raise MetricError(f"query {annotation.qid!r} has no labels to score against; choose another split")
    if scores is None or len(scores) == 0:
        # A video where nothing is positive scores 0 whatever the prediction; so does an empty one.
        return np.zeros(len(labels)), np.zeros_like(labels)
    if abs(len(scores) - len(labels)) > benchmark.labels.slack:
        raise MetricError(
            f"prediction for query {annotation.qid!r}: {len(scores)} saliency scores for {len(labels)} labelled clips; "
            f"give one each (they may differ by {benchmark.labels.slack})"
        )
    length = min(len(scores), len(labels))
    return scores[:length], labels[:length]


def _check_order(moment: list[float]) -> list[float]:
    if moment[1] < moment[0]:
        raise ValueError("the start is after the end; swap the two")
    return moment


ScoredMoment = Annotated[list[float], Field(min_length=3, max_length=3), AfterValidator(_check_order)]


class MomentLine(Fields):
    """One line of a benchmark with moments; saliency and presence are optional."""

    qid: Qid
    pred_relevant_windows: list[ScoredMoment]
    pred_saliency_scores: list[float] | None = None
    pred_presence: Annotated[float | None, Field(ge=0, le=1)] = None


class SaliencyLine(Fields):
    """One line of a benchmark of highlights; ``qid`` or ``vid`` names the video."""

    qid: Qid | None = None
    vid: Text | None = None
    pred_saliency_scores: list[float]


def read_predictions(path: str | Path, annotations: Sequence[Annotation], *, moments: bool) -> list[Prediction]:
    """Reads and checks the predictions of any system, a ``.jsonl`` file with an object per query, in its order.

    Its keys are ``qid``, ``pred_relevant_windows`` (``[start, end, score]``, seconds, best first) and optionally
    ``pred_saliency_scores`` and ``pred_presence``, in [0, 1]; without moments ``qid`` or ``vid``, which stands for the
    query of the annotation with that video, and ``pred_saliency_scores``. Other keys are ignored.
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
    """Predictions as text that `read_predictions` and the benchmarks' own evaluators read, one line per query.

    The annotations are of the same queries in the same order. At most ``most`` moments of a query are written; moments
    are left out where no prediction has any.

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
        if prediction.presence is not None:
            line["pred_presence"] = prediction.presence
        lines.append(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines)


def _read_moments(entry: Entry) -> Prediction:
    fields = check(entry, MomentLine)
    windows = np.array(fields.pred_relevant_windows, dtype=np.float64).reshape(-1, 3)
    saliency = fields.pred_saliency_scores
    curve = None if saliency is None else np.array(saliency, dtype=np.float64)
    return Prediction(fields.qid, windows, curve, fields.pred_presence)


def _read_saliency(entry: Entry, queries: dict[str, QueryId]) -> Prediction:
    fields = check(entry, SaliencyLine)
    if fields.qid is not None:
        qid = fields.qid
    elif fields.vid is None:
        raise DataError(f"{entry.place}: qid: is missing, and so is vid; give one of them")
    elif fields.vid in queries:
        qid = queries[fields.vid]
    else:
        raise DataError(f"{entry.place}: vid: {fields.vid!r} is not in the ground truth; remove the line")
    return Prediction(qid, np.empty((0, 3)), np.array(fields.pred_saliency_scores, dtype=np.float64))
