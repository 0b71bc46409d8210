"""Clamping, rounding and suppression of raw moments, in NumPy.

Moments are float ``[N, 3]``: start and end in seconds, score.
"""

import numpy as np
from numpy.typing import NDArray

from r2tuning.decoding.decode import DecodingConfig
from r2tuning.intervals import elementwise_iou

Moments = NDArray[np.float64]


def finish_moments(moments: Moments, duration: float, config: DecodingConfig, top: int | None = None) -> Moments:
    """Clamps and rounds (`clamp_moments`), suppresses and sorts (`suppress_overlaps`) raw moments.

    At most ``top`` remain, best first; moments that ``normal`` suppression dropped have score 0.
    """
    return suppress_overlaps(clamp_moments(moments, duration, config.unit), config, top)


def clamp_moments(moments: Moments, duration: float, unit: float | None) -> Moments:
    """Clamps starts and ends to ``[0, duration]`` and rounds them to multiples of ``unit`` seconds, in a copy.

    A moment that reached the end of the video before it was clamped keeps its exact times.

    Example:
        >>> clamp_moments(np.array([[-1.0, 7.2, 0.9], [3.1, 31.0, 0.8]]), duration=30.0, unit=2.0).tolist()
        [[0.0, 8.0, 0.9], [3.1, 30.0, 0.8]]
    """
    clamped = moments.copy()
    inside = moments[:, 1] < duration
    clamped[:, :2] = clamped[:, :2].clip(0, duration)
    if unit is not None:
        clamped[inside, :2] = np.round(clamped[inside, :2] / unit) * unit
    return clamped


def suppress_overlaps(moments: Moments, config: DecodingConfig, top: int | None = None) -> Moments:
    """Non-maximum suppression: the best moment lowers the scores of those it overlaps, then the next best, and so on.

    ``normal`` sets scores at IoU ≥ threshold to 0, ``linear`` multiplies by 1 − IoU, ``gaussian`` by exp(−IoU²/σ).
    Returns a copy, best first, at most ``top``.
    """
    settled = moments.copy()
    count = len(settled) if top is None else min(top, len(settled))
    if config.nms != "none":
        for i in range(count):
            best = i + int(settled[i:, 2].argmax())
            settled[[i, best]] = settled[[best, i]]
            if settled[i, 2] <= 0:
                break  # only suppressed moments are left, and they suppress nothing
            rest = settled[i + 1 :]
            iou = elementwise_iou(settled[i], rest)
            if config.nms == "normal":
                rest[iou >= config.nms_threshold, 2] = 0
            elif config.nms == "linear":
                rest[:, 2] *= 1 - iou
            else:
                rest[:, 2] *= np.exp(-(iou**2) / config.nms_sigma)
    return settled[(-settled[:, 2]).argsort(kind="stable")][:count]
