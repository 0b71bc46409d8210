"""What a video shows most and what is new in it: scores of its frames when nothing is asked."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from r2tuning.features.encoded import EncodedVideo
from r2tuning.types import Grounding, Saliency

FRAMES_READ = 256
"""Frames whose features are in memory at once."""


def outline_video(video: EncodedVideo) -> Grounding:
    """Scores the frames of a video without a query, from what CLIP sees in them alone.

    Args:
        video: An encoded video; of its features, the [CLS] tokens of the last layer are used.

    Returns:
        An answer without query and moments; its saliency is in [0, 1], see `score_frames`.
    """
    facts = video.facts
    starts = range(0, video.frames, FRAMES_READ)
    tokens = [video.read(start, min(start + FRAMES_READ, video.frames))[-1, :, 0].float() for start in starts]
    centres = np.minimum((np.arange(video.frames) + 0.5) / facts.fps, facts.duration)
    return Grounding(
        query="",
        video=facts.video,
        duration=facts.duration,
        start=facts.start,
        moments=[],
        saliency=Saliency(facts.start + centres, score_frames(torch.cat(tokens)).numpy()),
        model=facts.backbone,
        sampling=facts.sampling,
        video_truncated=facts.truncated,
    )


def score_frames(tokens: Tensor) -> Tensor:
    """How typical of the video and how new each frame is.

    With unit vectors ``x``, frame t of T is worth

        ``mean over u ≠ t of x_t · x_u  −  max(x_t · x_{t−1}, x_t · x_{t+1})``

    The first term is high for what the video shows a lot (it is representative), the second for what is still as it
    was or stays as it is (it says nothing new). At a cut, a frame is compared with the neighbour in its own shot,
    so that cuts alone make nothing new. The lowest of a video becomes 0, the highest 1.

    Args:
        tokens: fp32 ``[T, D]``, T ≥ 1.

    Returns:
        fp32 ``[T]`` in [0, 1]; 0.5 where all frames are worth the same.

    Example:
        >>> score_frames(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]])).round(decimals=2)
        tensor([0.0000, 0.0300, 0.2700, 1.0000])
    """
    frames = len(tokens)
    if frames == 1:
        return torch.full((1,), 0.5)
    unit = normalize(tokens.double(), dim=-1)
    own = (unit * unit).sum(dim=-1)  # 1, or 0 of a vector of zeros
    typical = (unit @ unit.sum(dim=0) - own) / (frames - 1)
    near = (unit[1:] * unit[:-1]).sum(dim=-1)
    edge = near.new_full((1,), -torch.inf)
    still = torch.maximum(torch.cat([near, edge]), torch.cat([edge, near]))
    worth = typical - still
    low, high = worth.aminmax()
    if high - low < 1e-9:  # no more than rounding
        return torch.full((frames,), 0.5)
    return ((worth - low) / (high - low)).float()
