"""What people annotated for one query on one video, the same for every benchmark and for own data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from r2tuning.errors import DataError
from r2tuning.intervals import FloatArray
from r2tuning.metrics.records import GroundTruth, QueryId

OVERHANG = 0.1
"""Share of a video's duration by which a moment may lie outside the video and is still cut to fit."""
MIN_OVERHANG = 2.0
"""Seconds by which it may in any video: one frame at 0.5 fps."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """One query and what is true of it.

    Attributes:
        qid: The query's id, unique in a file.
        vid: The video's id; for own data the file, as written.
        query: The sentence.
        duration: Seconds of video; None for own data, where only the video file knows.
        moments: Starts and ends in seconds, start ≤ end; empty where there are only labels, or none at all.
        saliency: float64 ``[clips, raters]``, the labels as the benchmark gives them; None where there are none.
        domain: The part of the benchmark the video belongs to, such as ``BK`` of TVSum; None where there are no parts.
    """

    qid: QueryId
    vid: str
    query: str
    duration: float | None
    moments: tuple[tuple[float, float], ...] = ()
    saliency: FloatArray | None = None
    domain: str | None = None

    @property
    def clips(self) -> int | None:
        """Number of label rows; None without labels."""
        return None if self.saliency is None else len(self.saliency)

    @property
    def labelled(self) -> bool:
        """Whether anything is known to be true, unlike in a withheld test split."""
        return bool(self.moments) or self.saliency is not None


def fit_moments(annotation: Annotation) -> Annotation:
    """Puts reversed moments the right way round and cuts to the video what lies a little outside.

    Published files have both: times were rounded, and videos cut anew. A moment that lies further out than
    `OVERHANG` of the duration (at least `MIN_OVERHANG` seconds) belongs to something else and is refused.

    Raises:
        DataError: ``field: what`` for a moment too far outside the video.

    Example:
        >>> fit_moments(Annotation(qid=1, vid="a", query="a dog", duration=30, moments=((31, 25.5),))).moments
        ((25.5, 30),)
        >>> fit_moments(Annotation(qid=1, vid="a", query="a dog", duration=30, moments=((25, 90),)))
        Traceback (most recent call last):
        r2tuning.errors.DataError: moment 1: [25, 90] s lies outside a video of 30 s; correct the moment or the duration
    """
    end = math.inf if annotation.duration is None else annotation.duration
    margin = max(MIN_OVERHANG, OVERHANG * end)
    fitted = []
    for index, moment in enumerate(annotation.moments, start=1):
        low, high = sorted(moment)
        if low < -margin or high > end + margin:
            raise DataError(
                f"moment {index}: [{moment[0]:g}, {moment[1]:g}] s lies outside a video of {end:g} s; "
                "correct the moment or the duration"
            )
        fitted.append((min(max(low, 0), end), min(max(high, 0), end)))
    return replace(annotation, moments=tuple(fitted))


def to_ground_truth(annotation: Annotation) -> GroundTruth:
    """What `r2tuning.metrics.evaluate_grounding` scores answers against.

    YouTube Highlights and TVSum have metrics of their own, which take ``annotation.saliency`` as it is.

    Raises:
        DataError: If the duration is unknown.
        MetricError: If there are labels, but not QVHighlights' three per 2-second clip.

    Example:
        >>> to_ground_truth(Annotation(qid=1, vid="a", query="a dog", duration=30, moments=((2, 8),))).windows
        array([[2., 8.]])
    """
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
