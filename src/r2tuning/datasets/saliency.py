"""The saliency target of training, from labels or, without labels, from moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r2tuning.errors import DataError
from r2tuning.intervals import FloatArray


@dataclass(frozen=True)
class LabelRule:
    """How a benchmark's labels become a saliency target, from 0 for the lowest rating to 1 for the highest.

    Attributes:
        threshold: Target above which a frame is positive; None for the video's median.
        slack: Frames by which video and labels may differ in length.
        best_only: The target is 1 where any rater gives the highest rating, else 0, instead of the mean rating.

    Example:
        >>> rule = LabelRule(lowest=0, highest=4, threshold=0, slack=4)
        >>> rule.make_target(np.array([[4, 4, 4], [0, 1, 2], [0, 0, 0]]), frames=2)
        array([1.  , 0.25])
    """

    lowest: float
    highest: float
    threshold: float | None
    slack: int
    best_only: bool = False

    def make_target(self, labels: FloatArray, frames: int) -> FloatArray:
        """The saliency target ``[min(T, clips)]`` in [0, 1] of T frames, from labels ``[clips, raters]``."""
        clips, raters = labels.shape
        if frames < 1 or abs(frames - clips) > self.slack:
            raise DataError(
                f"{frames} frames for {clips} rows of labels; sample the video at the rate it was labeled at "
                f"(they may differ by {self.slack})"
            )
        if self.best_only:
            return np.asarray((labels == self.highest).any(axis=1)[:frames], dtype=np.float64)
        total = labels.sum(axis=1)[:frames] - raters * self.lowest
        return np.asarray(total / (raters * (self.highest - self.lowest)))


def mark_moments(moments: Sequence[tuple[float, float]], frames: int, fps: float) -> FloatArray:
    """The saliency target ``[T]`` without labels: 1 inside a moment, else 0.

    Frame ``i`` is inside if its time ``i/fps`` is in ``[start, end)``, the rule that also assigns points to moments. A
    moment between two frames marks the one nearest its middle, so that every moment marks at least one.

    Example:
        >>> mark_moments([(2, 6), (8.9, 9.1)], frames=6, fps=0.5)
        array([0., 1., 1., 0., 1., 0.])
    """
    target = np.zeros(frames)
    for moment in moments:
        start, end = np.clip(np.sort(np.array(moment) * fps), 0, frames)
        first, stop = int(np.ceil(start)), int(np.ceil(end))
        if first == stop:
            first = min(max(int(np.ceil((start + end - 1) / 2)), 0), frames - 1)
            stop = first + 1
        target[first:stop] = 1
    return target
