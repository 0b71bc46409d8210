"""The saliency curve that training aims at, made from labels or, without labels, from moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from r2tuning.errors import DataError
from r2tuning.intervals import FloatArray


@dataclass(frozen=True)
class LabelRule:
    """How a benchmark's labels become a saliency target.

    Attributes:
        scale: From labels ``[clips, raters]`` to targets ``[clips]`` in [0, 1].
        threshold: From targets to the value above which a frame is positive.
        slack: Most frames by which video and labels may differ in length.
    """

    scale: Callable[[FloatArray], FloatArray]
    threshold: Callable[[FloatArray], float]
    slack: int


# Rules travel to the processes that read ahead, so their functions have names.
def above_zero(_target: FloatArray) -> float:
    """Frames that show anything of it are positive."""
    return 0.0


def above_half(_target: FloatArray) -> float:
    """Frames that are certain are positive."""
    return 0.5


def above_median(target: FloatArray) -> float:
    """Frames rated better than most are positive."""
    return float(np.median(target))


def fit_labels(labels: FloatArray, frames: int, rule: LabelRule) -> FloatArray:
    """The saliency target of a video with ``frames`` frames.

    Args:
        labels: ``[clips, raters]``.
        frames: T, number of sampled frames.
        rule: The benchmark's.

    Returns:
        ``[min(T, clips)]``, in [0, 1]; a longer video is to be cut to as many frames.

    Raises:
        DataError: If the two differ by more than the rule's slack: the frames were sampled at another rate.

    Example:
        >>> rule = LabelRule(scale=lambda labels: labels.sum(axis=1) / 12, threshold=lambda target: 0, slack=4)
        >>> fit_labels(np.array([[4, 4, 4], [0, 1, 2], [0, 0, 0]]), frames=2, rule=rule)
        array([1.  , 0.25])
    """
    clips = len(labels)
    if frames < 1 or abs(frames - clips) > rule.slack:
        raise DataError(
            f"{frames} frames for {clips} rows of labels; sample the video at the rate it was labelled at "
            f"(they may differ by {rule.slack})"
        )
    return rule.scale(labels)[:frames]


def mark_moments(moments: Sequence[tuple[float, float]], frames: int, fps: float) -> FloatArray:
    """The saliency target without labels: 1 inside a moment.

    A frame ``i`` is inside where its time ``i/fps`` is in ``[start, end)``: the position by which points are
    assigned to moments too. A moment between two frames marks the one nearest its middle, so every moment marks at
    least one; that is also what widening it to the length of a frame would mark.

    Args:
        moments: Starts and ends in seconds; what lies outside the video is cut.
        frames: T, number of sampled frames, at least 1.
        fps: Sampled frames per second.

    Returns:
        ``[T]``, 0 or 1.

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
