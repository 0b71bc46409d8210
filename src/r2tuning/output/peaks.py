"""Where a saliency curve is highest: the answer to show when a model gives no moments."""

from __future__ import annotations

import numpy as np

from r2tuning.types import Grounding, Moment


def find_peaks(result: Grounding, top: int) -> list[Moment]:
    """Picks the highest peaks of the saliency curve, which do not overlap.

    A peak is a frame, or a run of equal ones, higher than its neighbours and above 0. It lasts for as long as
    the curve stays at or above half its height (its full width at half maximum), but not into a higher peak.

    Args:
        result: A grounding; only the curve and the extent of the video are used.
        top: Most peaks to return.

    Returns:
        At most ``top`` peaks, highest first; seconds on the player's clock, score = height of the curve.

    Examples:
        >>> from r2tuning.types import Saliency
        >>> curve = Saliency(np.array([1.0, 3.0, 5.0, 7.0]), np.array([0.1, 0.75, 0.5, 0.125], np.float32))
        >>> find_peaks(Grounding("a dog", "a.mp4", 8.0, 0.0, [], curve, "demo", "exact"), top=5)
        [Moment(start=2.0, end=6.0, score=0.75)]
    """
    times, scores = result.saliency.times, result.saliency.scores
    if len(scores) == 0:
        return []
    clip = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else result.duration
    runs = np.flatnonzero(np.r_[True, np.diff(scores) != 0])
    heights = np.r_[-np.inf, scores[runs], -np.inf]
    tops = runs[(heights[1:-1] > heights[:-2]) & (heights[1:-1] > heights[2:]) & (heights[1:-1] > 0)]

    peaks: list[Moment] = []
    free = np.ones(len(scores), dtype=bool)
    for frame in tops[np.argsort(-scores[tops], kind="stable")]:
        if len(peaks) == top:
            break
        if not free[frame]:
            continue
        inside = free & (scores >= scores[frame] / 2)
        outside = np.flatnonzero(~inside)
        split = np.searchsorted(outside, frame)
        first = outside[split - 1] + 1 if split > 0 else 0
        last = outside[split] - 1 if split < len(outside) else len(scores) - 1
        free[first : last + 1] = False
        start = max(times[first] - clip / 2, result.start)
        end = min(times[last] + clip / 2, result.start + result.duration)
        peaks.append(Moment(float(start), float(end), float(scores[frame])))
    return peaks
