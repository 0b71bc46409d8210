"""Answers, and the facts of encoded videos, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from r2tuning.features.encoded import EncodingFacts
from r2tuning.results import Grounding
from r2tuning.types import Moment, Saliency
from r2tuning.video.preprocess import PREPROCESS_VERSION


def make_grounding(
    scores: Sequence[float] = (0.125, 0.5, 0.25, 0.0, 0.0),
    moments: Sequence[tuple[float, float, float]] = ((2.0, 6.0, 0.875), (61.5, 64.25, 0.5)),
    **changes: Any,
) -> Grounding:
    """A grounding whose curve has one score for every equal part of the video."""
    values: dict[str, Any] = {
        "query": "a red circle falls",
        "video": "trip.mp4",
        "duration": 70.0,
        "start": 0.0,
        "model": "demo",
        "sampling": "exact",
    } | changes
    centres = values["start"] + (np.arange(len(scores)) + 0.5) * values["duration"] / max(len(scores), 1)
    return Grounding(
        moments=[Moment(*m) for m in moments], saliency=Saliency(centres, np.asarray(scores, np.float32)), **values
    )


def make_facts(**changes: Any) -> EncodingFacts:
    """Facts of a video of 20 seconds, at one frame per second."""
    values: dict[str, Any] = {
        "video": "a.mp4",
        "duration": 20.0,
        "start": 0.0,
        "fps": 1.0,
        "sampling": "exact",
        "truncated": False,
        "backbone": "tiny",
        "fingerprint": "",
        "preprocess_version": PREPROCESS_VERSION,
    }
    return EncodingFacts(**values | changes)
