"""Generalized moment retrieval: queries of which some have no answer in their video.

The metrics are those of Ding et al. (2026, "Retrieving Any Relevant Moments: Benchmark and Models for Generalized
Moment Retrieval", arXiv 2605.02623), as their evaluation code states them. The code differs from its own statement in
G-mIoU@3 and @5: it also pairs moments that do not overlap. It rejects presence up to the threshold, here below it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from r2tuning.errors import MetricError
from r2tuning.intervals import FloatArray, temporal_iou
from r2tuning.metrics.moment_retrieval import match_moments, pad_moments
from r2tuning.metrics.records import GroundTruth, Prediction
from r2tuning.metrics.reliability import auroc, average_precision

TOPS = (1, 3, 5)
OVERLAPPING = np.array([np.finfo(np.float64).tiny])  # any IoU above 0 is a match


def find_set_iou(
    predicted: FloatArray, counts: NDArray[np.int64], true: FloatArray, real: NDArray[np.bool_]
) -> FloatArray:
    """Computes the IoU of two sets of moments: Σ IoU of the pairs / (predicted + true - pairs).

    Each prediction, best first, pairs with the unused true moment that it overlaps most. Two empty sets have IoU 1, an
    empty one and another 0.

    Args:
        predicted: ``[Q, N, ≥ 2]``, padded with moments of no length.
        counts: ``[Q]``, number of predicted moments.
        true: ``[Q, M, ≥ 2]``, padded in the same way.
        real: ``[Q, M]``, which are true moments and not padding.

    Returns:
        ``[Q]``, in [0, 1].

    Example:
        >>> predicted, true = np.array([[[0.0, 8.0], [20.0, 30.0]]]), np.array([[[0.0, 10.0]]])
        >>> find_set_iou(predicted, np.array([2]), true, np.array([[True]]))  # 0.8 / (2 + 1 - 1)
        array([0.4])
    """
    iou = temporal_iou(predicted, true)
    found = match_moments(iou, OVERLAPPING)[:, 0]
    paired = found >= 0
    overlap = np.take_along_axis(iou, found.clip(0)[..., None], axis=-1)[..., 0]
    union = counts + real.sum(axis=1) - paired.sum(axis=1)
    return np.where(union > 0, (overlap * paired).sum(axis=1) / np.maximum(union, 1), 1.0)


def score_rejection(rejected: NDArray[np.bool_], absent: NDArray[np.bool_]) -> dict[str, float]:
    """Computes precision, recall and F1 of rejection: fractions in [0, 1], 0 where nothing is rejected.

    Takes whether each query ``[Q]`` was rejected, and whether it has no answer.

    Example:
        >>> score_rejection(np.array([True, True, False, False]), np.array([True, False, True, False]))
        {'Rej-P': 0.5, 'Rej-R': 0.5, 'Rej-F1': 0.5}
    """
    right = int((rejected & absent).sum())
    precision, recall = right / max(1, int(rejected.sum())), right / max(1, int(absent.sum()))
    return {
        "Rej-P": precision,
        "Rej-R": recall,
        "Rej-F1": 2 * precision * recall / (precision + recall) if right else 0.0,
    }


def score_generalized(
    predictions: Sequence[Prediction], ground_truth: Sequence[GroundTruth], threshold: float
) -> dict[str, float]:
    """Computes G-mIoU@k, rejection, and AUROC and AP of presence: fractions in [0, 1], not rounded.

    A query is rejected if its presence is below the threshold or it has no predicted moment. G-mIoU@k is the mean of
    `find_set_iou` of the first k moments listed, none if rejected, so that a query without answer counts 1 if it is
    rejected and else 0. AUROC and AP are those of present queries against absent ones. A prediction without presence
    stands for a missing one, and counts as the wrong answer. Queries whose answer is known by labels alone are left
    out. Both sequences are of the same queries in the same order.

    Raises:
        MetricError: If the threshold is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise MetricError(f"the presence threshold is {threshold}; give a number in [0, 1]")
    pairs = [
        (prediction, truth)
        for prediction, truth in zip(predictions, ground_truth, strict=True)
        if len(truth.windows) or not truth.answerable
    ]
    present = np.array([truth.answerable for _, truth in pairs])
    given = np.array([prediction.presence is not None for prediction, _ in pairs])
    presence = np.array([float(not truth.answerable) if p.presence is None else p.presence for p, truth in pairs])
    silent = np.array([len(prediction.windows) == 0 for prediction, _ in pairs])
    rejected = np.where(given, (presence < threshold) | silent, present)
    real, true = pad_moments([truth.windows for _, truth in pairs], 2, None)
    metrics: dict[str, float] = {}
    for top in TOPS:
        kept, predicted = pad_moments([prediction.windows for prediction, _ in pairs], 3, top)
        predicted = predicted[..., :2] * ~rejected[:, None, None]
        score = find_set_iou(predicted, kept.sum(axis=1) * ~rejected, true, real)
        metrics[f"G-mIoU@{top}"] = float(np.where(given | present, score, 0.0).mean())
    metrics |= score_rejection(rejected, ~present)
    return metrics | {
        "AUROC": auroc(presence[present], presence[~present]),
        "AP": average_precision(presence[present], presence[~present]),
    }
