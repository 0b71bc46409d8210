"""Training targets of points and frames.

Frame t covers ``[t/fps, (t+1)/fps)``; as a point it has the position t.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

_REACH = 1.5
"""A point is foreground only within this many strides of the moment's center."""

NO_POSITIVE = -1
"""Stands in `Targets.positive` for a sample without any positive frame."""


@dataclass(frozen=True)
class Targets:
    """The truth about a batch, which the losses compare with a `ModelOutput`.

    Attributes:
        moments: ``[B, M, 2]``, start and end in seconds, from `normalize_moments`; rows of inf pad. M may be 0, as it
            is for the saliency family.
        fps: ``[B]``, frames per second.
        saliency: ``[B, T]`` in [0, 1]; values of padded frames are ignored.
        positive: int64 ``[B]``, the real frame that `choose_positive` drew for each sample, or `NO_POSITIVE`.
        positive_mask: bool ``[B, T]``, the frames it was drawn from: Ω of Eq. 9, for the paper's recipe.
        video: int64 ``[B]``; samples that share a video are not contrasted, since a frame may match both queries.
        present: bool ``[B]``, whether the video shows the query.
    """

    moments: Tensor
    fps: Tensor
    saliency: Tensor
    positive: Tensor
    positive_mask: Tensor
    video: Tensor
    present: Tensor


@dataclass(frozen=True)
class PointTargets:
    """Targets of every point of the pyramid; background points have the offsets 0."""

    foreground: Tensor  # bool [B, N]
    offsets: Tensor  # [B, N, 2], distances to the moment's start and end in strides


def normalize_moments(moments: Tensor, frames: int, fps: float) -> Tensor:
    """Fits annotated moments ``[M, 2]`` in seconds to the sampled video.

    Reversed moments are swapped, all are clamped to ``[0, frames/fps]``, and those shorter than one frame are widened
    to one frame around their center, which shifts at the ends of the video so that the frame still fits.

    Example:
        >>> normalize_moments(torch.tensor([[9.0, 4.0], [3.0, 3.0], [-1.0, 0.5], [16.0, 30.0]]), 10, 0.5).tolist()
        [[4.0, 9.0], [2.0, 4.0], [0.0, 2.0], [16.0, 20.0]]
    """
    if not moments.isfinite().all():
        raise ValueError(f"moments {moments.tolist()} hold NaN or infinite times; correct the annotation")
    duration, clip = frames / fps, 1 / fps
    start, end = moments.sort(dim=1).values.clamp(0, duration).unbind(1)
    center = ((start + end) / 2).clamp(clip / 2, duration - clip / 2)
    short = end - start < clip
    start, end = torch.where(short, center - clip / 2, start), torch.where(short, center + clip / 2, end)
    return torch.stack([start, end], dim=1).clamp(0, duration)


def choose_positive(positive_mask: Tensor, generator: random.Random) -> int:
    """Draws the positive frame p of the contrastive losses (Eq. 15) uniformly; `NO_POSITIVE` if there is no candidate.

    Example:
        >>> choose_positive(torch.tensor([False, False, True]), random.Random(0))
        2
        >>> choose_positive(torch.tensor([False, False]), random.Random(0)) == NO_POSITIVE
        True
    """
    candidates = positive_mask.nonzero().flatten().tolist()
    return generator.choice(candidates) if candidates else NO_POSITIVE


def assign_targets(points: Tensor, moments: Tensor, fps: Tensor | float, point_mask: Tensor) -> PointTargets:
    """Assigns a moment to each point, or none.

    A moment fits a point that lies inside it, at most 1.5 strides from its center, and whose larger distance to start
    or end is in the regression range of the point's level. Where several fit, the shortest is taken, the first among
    equals. The paper says only that points inside a moment are trained (Eq. 13); the rest is the released code's.
    Points ``[N, 4]`` are position, lowest and highest distance (frames) and stride, moments ``[B, M, 2]`` seconds; the
    mask ``[B, N]`` is True for points on real frames.

    Example:
        >>> points = torch.tensor([[0.0, 0, 2, 1], [1, 0, 2, 1], [2, 0, 2, 1], [0, 2, 4, 2], [2, 2, 4, 2]])
        >>> found = assign_targets(points, torch.tensor([[[2.0, 8.0]]]), 0.5, torch.ones(1, 5, dtype=torch.bool))
        >>> found.foreground.int().tolist()  # frames 1 to 4, center 2.5: too long for the points 0 and 1
        [[0, 0, 1, 0, 1]]
        >>> found.offsets[0, 4].tolist()  # 1 frame after the start, 2 before the end, in strides of 2
        [0.5, 1.0]
    """
    if moments.shape[1] == 0:
        moments = moments.new_full((len(moments), 1, 2), torch.inf)
    position, low, high, stride = points[:, :, None].unbind(1)  # [N, 1] each
    rate = torch.as_tensor(fps, dtype=moments.dtype, device=moments.device).reshape(-1, 1, 1)
    start, end = (moments * rate)[:, None].unbind(-1)  # frames, [B, 1, M] each
    center = (start + end) / 2
    first = torch.maximum(center - _REACH * stride, start)
    last = torch.minimum(center + _REACH * stride, end)
    before, after = position - start, end - position
    farthest = torch.maximum(before, after)
    fits = (first <= position) & (position <= last) & (low <= farthest) & (farthest <= high) & point_mask[..., None]
    shortest = torch.where(fits, end - start, torch.inf).argmin(dim=-1, keepdim=True)
    foreground = fits.any(dim=-1)
    distances = torch.stack([before, after], dim=-1) / stride[..., None]  # [B, N, M, 2]
    offsets = distances.take_along_dim(shortest[..., None], dim=2).squeeze(2)
    return PointTargets(foreground, offsets.masked_fill(~foreground[..., None], 0))
