"""Temporal intersection over union."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def temporal_iou(predicted: FloatArray, true: FloatArray) -> FloatArray:
    """IoU of every predicted with every true moment.

    Two moments of no length have IoU 0, even where they coincide; so zeros can pad a batch.

    Args:
        predicted: ``[..., N, 2]``, starts and ends in seconds, end ≥ start.
        true: ``[..., M, 2]``, likewise; leading dimensions broadcast.

    Returns:
        ``[..., N, M]``, in [0, 1].

    Example:
        >>> predicted, true = np.array([[0.0, 10.0], [20.0, 30.0]]), np.array([[5.0, 15.0], [20.0, 30.0]])
        >>> temporal_iou(predicted, true).round(3)
        array([[0.333, 0.   ],
               [0.   , 1.   ]])
    """
    start, end = predicted[..., :, None, 0], predicted[..., :, None, 1]
    true_start, true_end = true[..., None, :, 0], true[..., None, :, 1]
    intersection = np.maximum(np.minimum(end, true_end) - np.maximum(start, true_start), 0.0)
    union = (end - start) + (true_end - true_start) - intersection
    iou: FloatArray = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return iou
