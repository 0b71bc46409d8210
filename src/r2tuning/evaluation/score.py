"""Scores predictions by the metrics of their benchmark; costs no PyTorch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Literal

import numpy as np

from r2tuning.datasets import Annotation, Benchmark, to_ground_truth
from r2tuning.datasets.tvsum import TVSUM
from r2tuning.datasets.youtube_highlights import YOUTUBE_HIGHLIGHTS
from r2tuning.errors import MetricError
from r2tuning.intervals import FloatArray
from r2tuning.metrics import Prediction, evaluate_grounding, match_predictions, tvsum_top5_map, youtube_map

Missing = Literal["error", "zero"]

WORD_BINS = ((1, 10), (11, 20), (21, 30), (31, 40), (41, None))
"""Least and most words of a query in each column of Table 6."""


def asks_for_moments(benchmark: Benchmark) -> bool:
    """Whether a benchmark scores moments; YouTube Highlights and TVSum score saliency alone.

    Example:
        >>> asks_for_moments(TVSUM)
        False
    """
    return benchmark.name not in (YOUTUBE_HIGHLIGHTS.name, TVSUM.name)


def score_predictions(
    predictions: Sequence[Prediction],
    annotations: Sequence[Annotation],
    benchmark: Benchmark,
    *,
    missing: Missing = "error",
) -> dict[str, float]:
    """Scores answers by the benchmark's own metrics, matched by query id, in any order.

    An empty answer counts 0. Videos and labels of TVSum may differ by a few clips, and are cut to the shorter.

    Args:
        predictions: One per query.
        annotations: Labelled annotations with durations.
        benchmark: What they belong to.
        missing: Whether a query without a prediction is an error or counts as an empty answer.

    Returns:
        Percent, rounded to two decimals. Moments: what `r2tuning.metrics.evaluate_grounding` gives. YouTube Highlights
        and TVSum: ``mAP``; of several domains their mean, with ``{domain}-mAP`` for each.

    Raises:
        MetricError: If predictions and annotations do not match (see `evaluate_grounding`), a saliency curve is not
            about as long as the labels, or nothing is annotated.
        DataError: If a duration is unknown.

    Example:
        >>> truth = Annotation(qid=1, vid="a", query="a dog", duration=30, moments=((10, 20),))
        >>> from r2tuning.datasets import find_benchmark
        >>> score_predictions([Prediction(1, [[12, 20, 0.9]])], [truth], find_benchmark("tacos"))["MR-full-mIoU"]
        80.0
    """
    if benchmark.name == YOUTUBE_HIGHLIGHTS.name:
        return _score_domains(predictions, annotations, benchmark, missing, _youtube)
    if benchmark.name == TVSUM.name:
        return _score_domains(predictions, annotations, benchmark, missing, tvsum_top5_map)
    return evaluate_grounding(predictions, [to_ground_truth(a) for a in annotations], missing=missing)


@dataclass(frozen=True)
class LengthScore:
    """How well queries of some length are answered.

    Attributes:
        words: Range of their numbers of words, such as ``1-10`` or ``41+``.
        queries: How many there are.
        mean_ap: MR mAP in percent; None where there are none.
    """

    words: str
    queries: int
    mean_ap: float | None


def score_query_lengths(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, missing: Missing = "error"
) -> list[LengthScore]:
    """MR mAP of queries by their number of words (Table 6); words are what blanks separate.

    Args:
        predictions: One per query.
        annotations: With durations; those without moments are left out.
        missing: As for `score_predictions`.

    Returns:
        One score for each of `WORD_BINS`.

    Raises:
        MetricError: As `score_predictions`.
        DataError: If a duration is unknown.

    Example:
        >>> truth = Annotation(qid=1, vid="a", query="a dog runs", duration=30, moments=((10, 20),))
        >>> long = replace(truth, qid=2, query=" ".join(["word"] * 41))
        >>> scores = score_query_lengths([Prediction(1, [[10, 20, 0.9]]), Prediction(2, [])], [truth, long])
        >>> [(score.words, score.mean_ap) for score in scores]
        [('1-10', 100.0), ('11-20', None), ('21-30', None), ('31-40', None), ('41+', 0.0)]
    """
    # Unlabelled saliency: only moments are scored, and the queries that have none drop out.
    truths = [to_ground_truth(replace(a, saliency=None)) for a in annotations if a.moments]
    answers = {p.qid: p for p in match_predictions(predictions, annotations, missing)}
    scores = []
    for least, most in WORD_BINS:
        chosen = [t for t in truths if least <= len(t.query.split()) <= (most or len(t.query))]
        metrics = evaluate_grounding([answers[t.qid] for t in chosen], chosen) if chosen else {}
        name = f"{least}+" if most is None else f"{least}-{most}"
        scores.append(LengthScore(name, len(chosen), metrics.get("MR-full-mAP")))
    return scores


def _score_domains(
    predictions: Sequence[Prediction],
    annotations: Sequence[Annotation],
    benchmark: Benchmark,
    missing: Missing,
    metric: Callable[[Sequence[FloatArray], Sequence[FloatArray]], float],
) -> dict[str, float]:
    answers = match_predictions(predictions, annotations, missing)
    domains: dict[str, list[tuple[FloatArray, FloatArray]]] = defaultdict(list)
    for answer, annotation in zip(answers, annotations, strict=True):
        domains[annotation.domain or benchmark.name].append(_pair(answer, annotation, benchmark))
    if not domains:
        raise MetricError(f"there are no annotations of {benchmark.name} to score against; choose a split that has")
    scores = {domain: metric(*zip(*pairs, strict=True)) for domain, pairs in domains.items()}
    if len(scores) == 1:
        return {"mAP": next(iter(scores.values()))}
    return {"mAP": round(mean(scores.values()), 2)} | {f"{domain}-mAP": score for domain, score in scores.items()}


def _youtube(saliency: Sequence[FloatArray], labels: Sequence[FloatArray]) -> float:
    return youtube_map(saliency, [rows[:, 0] for rows in labels])


def _pair(prediction: Prediction, annotation: Annotation, benchmark: Benchmark) -> tuple[FloatArray, FloatArray]:
    """A curve and its labels, cut to the shorter."""
    labels, scores = annotation.saliency, prediction.saliency
    if labels is None or benchmark.labels is None:
        raise MetricError(f"query {annotation.qid!r} has no labels to score against; choose another split")
    if scores is None or len(scores) == 0:
        # A video where nothing is positive scores 0 whatever the answer; so does an empty answer.
        return np.zeros(len(labels)), np.zeros_like(labels)
    if abs(len(scores) - len(labels)) > benchmark.labels.slack:
        raise MetricError(
            f"prediction for query {annotation.qid!r}: {len(scores)} saliency scores for {len(labels)} labelled clips; "
            f"give one each (they may differ by {benchmark.labels.slack})"
        )
    length = min(len(scores), len(labels))
    return scores[:length], labels[:length]
