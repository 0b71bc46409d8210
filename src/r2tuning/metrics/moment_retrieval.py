"""Moment retrieval as QVHighlights scores it: R1, R5, mAP and mIoU, in four ranges of true length."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from r2tuning.intervals import FloatArray, temporal_iou
from r2tuning.metrics.records import GroundTruth, Prediction

# Lengths of true moments in seconds, (above, up to].
RANGES = {"full": (-1.0, math.inf), "short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, math.inf)}
RECALL_IOUS = tuple(round(0.3 + 0.05 * step, 2) for step in range(14))
PRECISION_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
MAX_MOMENTS = 10  # predicted moments that count for each query: the first ones listed


def match_moments(iou: FloatArray, thresholds: FloatArray) -> NDArray[np.int64]:
    """Matches one to one: each prediction, best first, takes the unused true moment of highest IoU.

    Takes IoUs ``[Q, N, M]`` of predictions in score order with true moments, 0 in padding, and thresholds ``[H]`` above
    0. Returns ``[Q, H, N]``: the true moment that each prediction found, the first of equal IoUs, or -1 where no unused
    one reaches the threshold.

    Example:
        >>> iou = np.array([[[0.9, 0.6], [0.8, 0.0]]])
        >>> match_moments(iou, np.array([0.5, 0.95])).tolist()
        [[[0, -1], [-1, -1]]]
    """
    queries, predicted, true = iou.shape
    found = np.full((queries, len(thresholds), predicted), -1)
    unused = np.ones((queries, len(thresholds), true), dtype=bool)
    for rank in range(predicted):
        candidates = np.where(unused, iou[:, rank, None, :], 0.0)
        best = candidates.argmax(axis=-1)[..., None]
        hit = np.take_along_axis(candidates, best, axis=-1) >= thresholds[:, None]
        found[..., rank] = np.where(hit, best, -1)[..., 0]
        np.put_along_axis(unused, best, np.take_along_axis(unused, best, axis=-1) & ~hit, axis=-1)
    return found


def detection_average_precision(found: NDArray[np.bool_], true: NDArray[np.int64]) -> FloatArray:
    """Computes AP of a ranking: Σ Δrecall · precision, with precision made non-increasing from the right.

    ``found``, ``[..., N]``, marks the true positives in score order; ``true``, ``[...]``, counts the true moments, ≥ 1.

    Example:
        >>> detection_average_precision(np.array([[False, True, True]]), np.array([2])).round(3)
        array([0.667])
    """
    precision = found.cumsum(axis=-1) / np.arange(1, found.shape[-1] + 1)
    precision = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    return np.asarray(np.sum(precision * found, axis=-1) / true)


def score_moments(predictions: Sequence[Prediction], ground_truth: Sequence[GroundTruth]) -> dict[str, float]:
    """Computes R1, R5, mAP and mIoU for every range of true lengths: fractions in [0, 1], not rounded.

    A range keeps the true moments of its length and the queries that have any; predictions are not filtered. R@k and
    mIoU rank predictions as listed, mAP ranks the first ten of the list by score (equal scores: as listed). A range
    without queries has no entries. Both sequences are of the same queries in the same order.
    """
    real, true = pad_moments([annotation.windows for annotation in ground_truth], 2, None)
    _, predicted = pad_moments([prediction.windows for prediction in predictions], 3, MAX_MOMENTS)
    listed = temporal_iou(predicted[..., :2], true)
    order = np.argsort(-predicted[..., 2], axis=1, kind="stable")
    ranked = np.take_along_axis(listed, order[..., None], axis=1)
    length = true[..., 1] - true[..., 0]

    metrics: dict[str, float] = {}
    for name, (above, up_to) in RANGES.items():
        keep = real & (length > above) & (length <= up_to)
        queries = keep.any(axis=1)
        if not queries.any():
            continue
        kept = keep[queries]
        in_range = listed[queries] * kept[:, None]
        for top in (1, 5):
            best = in_range[:, :top].max(axis=(1, 2))
            metrics |= {f"MR-{name}-R{top}@{at:g}": float((best >= at).mean()) for at in RECALL_IOUS}
        found = match_moments(ranked[queries] * kept[:, None], np.asarray(PRECISION_IOUS)) >= 0
        precision = detection_average_precision(found, kept.sum(axis=1)[:, None]).mean(axis=0)
        metrics |= {f"MR-{name}-mAP@{at:g}": float(ap) for at, ap in zip(PRECISION_IOUS, precision, strict=True)}
        metrics[f"MR-{name}-mAP"] = float(precision.mean())
        metrics[f"MR-{name}-mIoU"] = float(in_range[:, 0].max(axis=1).mean())
    return metrics


def pad_moments(moments: Sequence[FloatArray], columns: int, limit: int | None) -> tuple[NDArray[np.bool_], FloatArray]:
    """Stacks ``[n, columns]`` arrays, cut to ``limit``: a mask ``[Q, N]`` and ``[Q, N, columns]``, N ≥ 1.

    Padding has no length, so its IoU is 0, and the lowest score, so that it comes last: it can never be a
    true positive, and a false positive after all others changes no AP.
    """
    counts = np.array([len(rows[:limit]) for rows in moments])
    real = np.arange(max(1, counts.max())) < counts[:, None]
    values = np.zeros((*real.shape, columns))
    values[..., 2:] = -np.inf
    values[real] = np.concatenate([rows[:limit] for rows in moments])
    return real, values
