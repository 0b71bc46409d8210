"""Answers made by hand, for tests of what is done with an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from r2tuning.results import Grounding
from r2tuning.types import Moment, Saliency


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
