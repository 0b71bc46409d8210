"""Spans of time: overlap (IoU) and merging, defined once for decoding, metrics and output."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def temporal_iou(predicted: FloatArray, true: FloatArray) -> FloatArray:
    """Computes the IoU of every predicted with every true moment: ``[..., N, M]``, in [0, 1].

    Takes ``[..., N, ≥ 2]`` and ``[..., M, ≥ 2]``: starts and ends in seconds, end ≥ start. Further columns are ignored;
    leading dimensions broadcast.

    Example:
        >>> predicted, true = np.array([[0.0, 10.0], [20.0, 30.0]]), np.array([[5.0, 15.0], [20.0, 30.0]])
        >>> temporal_iou(predicted, true).round(3).tolist()
        [[0.333, 0.0], [0.0, 1.0]]
    """
    return elementwise_iou(predicted[..., :, None, :], true[..., None, :, :])


def elementwise_iou(spans: FloatArray, others: FloatArray) -> FloatArray:
    """Computes the IoU of spans and others one by one: ``[...]`` of two ``[..., ≥ 2]`` as for `temporal_iou`.

    Two spans of no length have IoU 0, even where they coincide, so zeros can pad a batch.

    Example:
        >>> elementwise_iou(np.array([0.0, 4.0]), np.array([[2.0, 6.0], [4.0, 5.0]])).round(3).tolist()
        [0.333, 0.0]
    """
    start, end = spans[..., 0], spans[..., 1]
    other_start, other_end = others[..., 0], others[..., 1]
    intersection = np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start), 0.0)
    union = (end - start) + (other_end - other_start) - intersection
    iou: FloatArray = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return iou


def merge_spans(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sorts spans by time and merges those that touch or overlap.

    Raises `ValueError` if there is no span, or one does not end after it starts.

    Example:
        >>> merge_spans([(8, 9), (1, 3), (2, 5), (5, 6)])
        [(1, 6), (8, 9)]
    """
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if not start < end:
            raise ValueError(f"a span must end after it starts, not run from {start} s to {end} s")
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    if not merged:
        raise ValueError("there are no spans to join")
    return merged
