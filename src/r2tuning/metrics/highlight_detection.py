"""Highlight detection as QVHighlights, YouTube Highlights and TVSum score it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r2tuning.errors import MetricError
from r2tuning.intervals import FloatArray
from r2tuning.metrics.records import WORKERS, GroundTruth, Prediction, to_floats

LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}  # lowest label of a positive clip
CLIP_SECONDS = 2


def interpolated_average_precision(scores: FloatArray, positive: NDArray[np.bool_]) -> FloatArray:
    """Computes AP as QVHighlights does: the unweighted mean of precision over the distinct non-zero recall levels.

    Clips of equal score form one precision/recall point. Precision is made non-increasing from the right. Takes scores
    ``[..., T]``, -inf in padding, and each worker's positive clips ``[..., T, W]``; returns ``[..., W]`` in [0, 1], 0
    for a worker without positives.

    Example:
        >>> positive = np.array([[True], [True], [False], [False]])
        >>> interpolated_average_precision(np.array([0.9, 0.5, 0.5, 0.1]), positive).round(3)
        array([0.833])
    """
    order = np.argsort(-scores, axis=-1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=-1)
    hits = np.take_along_axis(positive, order[..., None], axis=-2).cumsum(axis=-2)
    # Only the last of equal scores is a point of the curve.
    point = np.append(scores[..., 1:] != scores[..., :-1], np.ones((*scores.shape[:-1], 1), dtype=bool), axis=-1)
    hits = np.where(point[..., None], hits, 0)
    precision = hits / np.arange(1, hits.shape[-2] + 1)[:, None]
    precision = np.flip(np.maximum.accumulate(np.flip(precision, axis=-2), axis=-2), axis=-2)
    reached = np.maximum.accumulate(hits, axis=-2)
    higher = np.diff(reached, axis=-2, prepend=0) > 0
    return np.asarray(np.sum(precision * higher, axis=-2) / np.maximum(higher.sum(axis=-2), 1))


def score_highlights(predictions: Sequence[Prediction], ground_truth: Sequence[GroundTruth]) -> dict[str, float]:
    """Computes HD mAP and Hit@1 of QVHighlights, at three levels of labels: fractions in [0, 1], not rounded.

    For mAP, scores are padded with 0 or cut to the number of clips. For Hit@1 the top clip is the highest score given
    (the first on ties); beyond the last clip it is a miss. An empty or missing curve counts 0. Both sequences are of
    the same queries in the same order, each with saliency labels.
    """
    clips = [int(annotation.duration / CLIP_SECONDS) for annotation in ground_truth]
    labels = np.zeros((len(ground_truth), max(1, *clips), WORKERS))
    scores = np.full(labels.shape[:2], -np.inf)
    predicted = np.zeros(len(ground_truth), dtype=bool)
    top = np.zeros((len(ground_truth), WORKERS))
    for row, (prediction, annotation, count) in enumerate(zip(predictions, ground_truth, clips, strict=True)):
        if annotation.clip_ids is not None:
            labels[row, annotation.clip_ids] = annotation.saliency
        if prediction.saliency is None or len(prediction.saliency) == 0:
            continue
        predicted[row] = True
        scores[row, :count] = 0
        scores[row, : min(count, len(prediction.saliency))] = prediction.saliency[:count]
        best = int(prediction.saliency.argmax())
        if best < count:
            top[row] = labels[row, best]

    lowest = np.array(list(LEVELS.values()))
    positive = (labels[..., None] >= lowest).reshape(*scores.shape, -1)  # all levels at once: clips are sorted once
    precision = interpolated_average_precision(scores, positive).reshape(-1, WORKERS, len(LEVELS))
    hit = top.max(axis=1)[:, None] >= lowest
    metrics: dict[str, float] = {}
    for level, name in enumerate(LEVELS):
        metrics[f"HL-min-{name}-mAP"] = float((precision[..., level] * predicted[:, None]).mean())
        metrics[f"HL-min-{name}-Hit1"] = float(hit[:, level].mean())
    return metrics


def trapezoid_average_precision(
    scores: FloatArray, positive: NDArray[np.bool_], *, top: int | None = None
) -> FloatArray:
    """Computes the area under the precision/recall curve by trapezoids, precision starting at 1.

    Takes ``[T]`` scores, of which equal ones keep their order, and one or more judgments ``[T, ...]`` of the same
    clips. With ``top``, only that many best clips count, with recall over the positives among them. Returns ``[...]``
    in [0, 1], 0 without positives.

    Example:
        >>> area = trapezoid_average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
        >>> round(float(area), 4)
        0.7917
    """
    order = np.argsort(-scores, kind="stable")[:top]
    relevant = positive[order]
    hits = relevant.cumsum(axis=0)
    ranks = np.arange(1, len(order) + 1).reshape(-1, *[1] * (positive.ndim - 1))
    precision = hits / ranks
    before = np.concatenate([np.ones_like(precision[:1]), precision[:-1]])
    area = np.sum(relevant * (precision + before) / 2, axis=0)
    return np.asarray(area / np.maximum(relevant.sum(axis=0), 1))[()]


def youtube_map(saliency: Sequence[ArrayLike], labels: Sequence[ArrayLike]) -> float:
    """Computes mAP of one YouTube Highlights domain, in percent: a clip is positive if its label is above 0.

    Args:
        saliency: ``[T]`` scores of every video.
        labels: ``[T]`` labels of every video.

    Raises:
        MetricError: If there is no video, lengths differ, or a score is not finite.

    Example:
        >>> youtube_map([[0.9, 0.8, 0.1]], [[1, 0, 1]])
        79.17
    """
    each = [trapezoid_average_precision(s, label > 0) for s, label in _pair_videos(saliency, labels, 1)]
    return round(100 * float(np.mean(each)), 2)


def tvsum_top5_map(saliency: Sequence[ArrayLike], ratings: Sequence[ArrayLike]) -> float:
    """Computes top-5 mAP of TVSum, in percent: the mean over raters, then over videos.

    A clip is positive for a rater who rates it above their median in the video. Errors are those of `youtube_map`.

    Args:
        saliency: ``[T]`` scores of every video.
        ratings: ``[T, R]`` ratings of every video (R = 20 raters, 1 to 5).

    Example:
        >>> tvsum_top5_map([[0.9, 0.8, 0.1]], [[[5, 1], [1, 1], [1, 1]]])
        50.0
    """
    videos = _pair_videos(saliency, ratings, 2)
    each = [trapezoid_average_precision(s, r > np.median(r, axis=0), top=5).mean() for s, r in videos]
    return round(100 * float(np.mean(each)), 2)


def _pair_videos(
    saliency: Sequence[ArrayLike], judgments: Sequence[ArrayLike], dimensions: int
) -> list[tuple[FloatArray, FloatArray]]:
    """Pairs every video's ``[T]`` scores with its labels, ``[T]`` or ``[T, R]`` as ``dimensions`` says."""
    if len(saliency) != len(judgments) or len(saliency) == 0:
        raise MetricError(f"{len(saliency)} saliency curves for {len(judgments)} judged videos; give one each")
    pairs = []
    for index, (curve, judged) in enumerate(zip(saliency, judgments, strict=True)):
        scores = to_floats(curve, (None,), f"video {index}: saliency scores")
        labels = to_floats(judged, (None,) * dimensions, f"video {index}: labels")
        if len(scores) != len(labels) or labels.size == 0:
            raise MetricError(f"video {index}: {len(scores)} saliency scores for {len(labels)} labels; give one each")
        pairs.append((scores, labels))
    return pairs
