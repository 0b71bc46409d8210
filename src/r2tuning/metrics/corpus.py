"""Search across videos: corpus moment retrieval, video retrieval, and ranked moment retrieval.

Video corpus moment retrieval (VCMR) and video retrieval (VR) are those of TVR (Lei et al., 2020, "TVR: A Large-Scale
Dataset for Video-Subtitle Moment Retrieval", arXiv 2001.09099), NDCG is that of TVR-Ranking (Liang et al., 2024,
"TVR-Ranking: A Dataset for Ranked Video Moment Retrieval with Imprecise Queries", arXiv 2407.06597). In TVR, a query
has one true moment; here it may have several, in any number of videos, and each of them is right.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from r2tuning.errors import MetricError
from r2tuning.intervals import FloatArray, temporal_iou
from r2tuning.metrics.evaluate import Missing, match_records
from r2tuning.metrics.moment_retrieval import match_moments
from r2tuning.metrics.records import CorpusPrediction, CorpusTruth

RECALL_TOPS = (1, 5, 10, 100)
RECALL_IOUS = (0.5, 0.7)
GAIN_TOPS = (10, 20, 40)
GAIN_IOUS = (0.3, 0.5, 0.7)


def evaluate_corpus(
    predictions: Sequence[CorpusPrediction | Mapping[str, Any]],
    ground_truth: Sequence[CorpusTruth | Mapping[str, Any]],
    *,
    missing: Missing = "error",
) -> dict[str, float]:
    """Scores moments found across videos, matched by query id, in any order.

    Moments are ranked as listed, and those in a query's ignored videos are left out first. Queries without a true
    moment in any video are not scored. An empty prediction counts 0.

    Args:
        predictions: One per query: records, or mappings with the keys of `CorpusPrediction.from_json`.
        ground_truth: One per query: records, or mappings with the keys of `CorpusTruth.from_json`.
        missing: Whether a query without a prediction is an error or counts as an empty prediction.

    Returns:
        Percent, rounded to two decimals. ``VCMR-R{k}@{t}``, k = 1, 5, 10, 100 and t = 0.5, 0.7: share of queries of
        which one of the first k moments is in the right video and has IoU ≥ t with a true moment there. ``VR-R{k}``:
        share of queries of which one of the first k different videos has a true moment. ``NDCG{k}@{t}``, k = 10, 20, 40
        and t = 0.3, 0.5, 0.7: see `find_gain`.

    Raises:
        MetricError: If a record is malformed, queries do not match, or no query has a true moment.

    Example:
        >>> truth = {"qid": 1, "relevant_corpus": [["a", 10, 20], ["b", 0, 10]]}
        >>> prediction = {"qid": 1, "pred_corpus": [["c", 10, 20, 0.9], ["b", 0, 6, 0.8]]}
        >>> metrics = evaluate_corpus([prediction], [truth])
        >>> metrics["VCMR-R1@0.5"], metrics["VCMR-R5@0.5"], metrics["VCMR-R5@0.7"], metrics["VR-R5"]
        (0.0, 100.0, 0.0, 100.0)
    """
    truths = [CorpusTruth.from_json(line) if isinstance(line, Mapping) else line for line in ground_truth]
    given = [CorpusPrediction.from_json(line) if isinstance(line, Mapping) else line for line in predictions]
    matched = match_records(given, truths, missing)
    scored = [
        _score_query(CorpusPrediction(truth.qid, (), np.empty((0, 3))) if prediction is None else prediction, truth)
        for prediction, truth in zip(matched, truths, strict=True)
        if len(truth.windows)
    ]
    if not scored:
        raise MetricError(f"the ground truth has no moments in any video (queries: {len(truths)}); annotate some")
    return {name: round(100 * float(np.mean([each[name] for each in scored])), 2) for name in scored[0]}


def _score_query(prediction: CorpusPrediction, truth: CorpusTruth) -> dict[str, float]:
    assert truth.grades is not None  # the record fills it in
    kept = [index for index, video in enumerate(prediction.videos) if video not in truth.ignored]
    videos = np.array([prediction.videos[index] for index in kept], dtype=object)
    iou = temporal_iou(prediction.windows[kept], truth.windows) * (
        videos[:, None] == np.array(truth.videos, dtype=object)
    )
    best = iou.max(axis=1, initial=0)
    different = list(dict.fromkeys(videos.tolist()))
    right = np.isin(np.array(different, dtype=object), list(truth.videos)) if different else np.zeros(0, dtype=bool)
    metrics = {f"VCMR-R{top}@{at:g}": float((best[:top] >= at).any()) for at in RECALL_IOUS for top in RECALL_TOPS}
    metrics |= {f"VR-R{top}": float(right[:top].any()) for top in RECALL_TOPS}
    return metrics | {
        f"NDCG{top}@{at:g}": find_gain(iou, truth.grades, at, top) for at in GAIN_IOUS for top in GAIN_TOPS
    }


def find_gain(iou: FloatArray, grades: FloatArray, threshold: float, top: int) -> float:
    """Computes NDCG@K at IoU ≥ a threshold, of one query, in [0, 1].

    Each moment, best first, takes the unused true moment that it overlaps most, of equal ones that of the highest
    grade, and gains 2 to the power of its grade, minus 1, if their IoU reaches the threshold. Gains are divided by
    log2(1 + rank), and their sum by that of the best possible ranking.

    Args:
        iou: ``[N, M]`` of predicted moments, best first, with true ones; 0 between videos.
        grades: ``[M]``, above 0; all 1 where the data has none.
        threshold: Above 0. TVR-Ranking's code asks for more than the threshold, its paper for at least that.
        top: Moments that count.

    Example:
        >>> iou = np.array([[0.0, 0.0], [0.9, 0.0]])
        >>> round(find_gain(iou, np.array([1.0, 1.0]), 0.5, 10), 4)  # 0.6309 of 1 + 0.6309
        0.3869
    """
    order = np.argsort(-grades, kind="stable")
    found = match_moments(iou[None, :top, order], np.array([threshold]))[0, 0]
    gains = np.exp2(grades[order]) - 1
    discounts = 1 / np.log2(np.arange(2, max(len(found), len(gains)) + 2))
    gained = np.where(found >= 0, gains[found.clip(0)], 0.0) @ discounts[: len(found)]
    return float(gained / (gains[:top] @ discounts[: len(gains[:top])]))
