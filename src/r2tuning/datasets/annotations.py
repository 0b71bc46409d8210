"""The annotation of one query on one video, the same for every data set, and the saliency target that it gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from r2tuning.errors import DataError
from r2tuning.intervals import FloatArray
from r2tuning.metrics.records import GroundTruth, QueryId

OVERHANG = 0.1
"""Share of the duration by which a moment may reach beyond its video and is still clipped to it."""
MIN_OVERHANG = 2.0
"""Seconds that are always allowed: one frame at 0.5 fps."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """One query and its labels.

    Attributes:
        qid: Unique in a file.
        vid: The video's id; for custom data the file, as written.
        query: The sentence.
        duration: Seconds of video; None for custom data, where only the video file knows.
        moments: Starts and ends in seconds, start ≤ end.
        saliency: float64 ``[clips, raters]``, the labels as in the benchmark; None without.
        domain: The part of the benchmark that the video belongs to, such as ``BK`` of TVSum.
        places: ``file:line`` of each moment, for messages; empty if unknown.
        absent: Whether the query is known to be true of no moment of the video: an empty list of moments in a file.
    """

    qid: QueryId
    vid: str
    query: str
    duration: float | None
    moments: tuple[tuple[float, float], ...] = ()
    saliency: FloatArray | None = None
    domain: str | None = None
    places: tuple[str, ...] = ()
    absent: bool = False

    @property
    def clips(self) -> int | None:
        """Number of label rows; None without labels."""
        return None if self.saliency is None else len(self.saliency)

    @property
    def labelled(self) -> bool:
        """Whether there are labels, which some test splits withhold."""
        return bool(self.moments) or self.absent or self.saliency is not None


def fit_moments(annotation: Annotation) -> Annotation:
    """Swaps reversed moments and clips those that reach a little beyond the video.

    Published files have both, since times were rounded and videos re-cut. A moment that reaches further out than
    `OVERHANG` of the duration and `MIN_OVERHANG` seconds is a DataError.

    Example:
        >>> fit_moments(Annotation(qid=1, vid="a", query="a dog", duration=30, moments=((31, 25.5),))).moments
        ((25.5, 30),)
    """
    end = math.inf if annotation.duration is None else annotation.duration
    margin = max(MIN_OVERHANG, OVERHANG * end)
    fitted = []
    for index, moment in enumerate(annotation.moments, start=1):
        low, high = sorted(moment)
        if low < -margin or high > end + margin:
            where = f"{annotation.places[index - 1]}: " if annotation.places else ""
            raise DataError(
                f"{where}moment {index}: [{moment[0]:g}, {moment[1]:g}] s lies outside a video of {end:g} s; "
                "correct the moment or the duration"
            )
        fitted.append((min(max(low, 0), end), min(max(high, 0), end)))
    return replace(annotation, moments=tuple(fitted))


def to_ground_truth(annotation: Annotation) -> GroundTruth:
    """The annotation as `r2tuning.metrics.evaluate_grounding` takes it, with labels as in QVHighlights or none."""
    if annotation.duration is None:
        raise DataError(
            f"duration of {annotation.vid} is unknown; read it from the video and set it with "
            "dataclasses.replace(annotation, duration=…)"
        )
    return GroundTruth(
        qid=annotation.qid,
        duration=annotation.duration,
        windows=np.array(annotation.moments, dtype=np.float64).reshape(-1, 2),
        clip_ids=None if annotation.saliency is None else np.arange(len(annotation.saliency)),
        saliency=annotation.saliency,
        query=annotation.query,
    )


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
