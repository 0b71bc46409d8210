"""A few frames of a video, for pictures of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2tuning.errors import VideoError
from r2tuning.types import Sampling

if TYPE_CHECKING:
    import numpy as np

    from r2tuning.results import Grounding

THUMBNAILS = 8
DECODED_WHOLE = 300.0
"""Seconds; for thumbnails of longer videos only key frames are decoded."""


def read_thumbnails(result: Grounding) -> tuple[list[np.ndarray], list[float]]:
    """A few frames over the length of the video; none where the file is not at hand any more.

    Returns:
        Images, uint8 RGB ``[h, w, 3]``, and when they are shown, seconds on the player's clock.
    """
    from r2tuning.video import sample_frames

    sampling: Sampling = "exact" if result.duration <= DECODED_WHOLE else "keyframe"
    try:
        with sample_frames(result.video, THUMBNAILS / result.duration, sampling=sampling) as frames:
            batches = list(frames)
    except VideoError:
        return [], []
    pixels = [image.transpose(1, 2, 0) for batch in batches for image in batch.pixels]
    return pixels, [float(time) for batch in batches for time in batch.times]
