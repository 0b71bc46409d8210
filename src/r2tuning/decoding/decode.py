"""From predictions at points to ranked moments and a saliency curve: decoding, clamping, rounding, suppression."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from r2tuning.intervals import elementwise_iou
from r2tuning.types import ModelOutput

Suppression = Literal["none", "normal", "linear", "gaussian"]


class DecodingConfig(BaseModel):
    """Rounding and suppression of overlapping moments (see `finish_moments`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    unit: float | None = Field(default=None, gt=0)  # seconds; starts and ends become multiples of it
    nms: Suppression = "normal"  # drops overlapping moments; linear and gaussian lower their scores
    nms_threshold: float = Field(default=0.7, gt=0, le=1)  # IoU from which normal drops the lower-scored moment
    nms_sigma: float = Field(default=0.5, gt=0)  # width of gaussian


KEPT_MOMENTS = 50  # for each sample, as in the published models


@dataclass(frozen=True)
class Decoded:
    """Raw predictions for one sample.

    Attributes:
        moments: fp32 ``[N, 3]``: start and end in seconds from the first frame, score in [0, 1]; best first, at most
            `KEPT_MOMENTS`; not clamped to the video. Empty for the saliency family.
        saliency: fp32 ``[T]``, see `r2tuning.types.Saliency`.
        presence: Log-odds that the video shows the query; None for models without a presence head.
    """

    moments: Tensor
    saliency: Tensor
    presence: float | None = None


def decode(output: ModelOutput, fps: float) -> list[Decoded]:
    """Decodes every sample of a batch; ``fps`` are the sampled frames per second."""
    count = len(output.class_logits)
    presence = [None] * count if output.presence is None else output.presence.tolist()
    return [
        Decoded(decode_moments(output, sample, fps), decode_saliency(output, sample), presence[sample])
        for sample in range(count)
    ]


def decode_moments(output: ModelOutput, sample: int, fps: float) -> Tensor:
    """Moments ``[N, 3]`` of one sample: a point at p with stride s predicts ``(p - off₀·s, p + off₁·s) / fps``."""
    if output.offsets is None:
        return output.class_logits.new_zeros(0, 3)
    real = output.point_mask[sample]
    position, stride = output.points[real][:, 0], output.points[real][:, 3]
    offsets = output.offsets[sample][real]
    start = (position - offsets[:, 0] * stride) / fps
    end = (position + offsets[:, 1] * stride) / fps
    score, order = output.class_logits[sample][real].sigmoid().sort(descending=True, stable=True)
    return torch.stack([start[order], end[order], score], dim=1)[:KEPT_MOMENTS]


def decode_saliency(output: ModelOutput, sample: int) -> Tensor:
    """Saliency of the T real frames of one sample.

    In the paper's form it is the cosine of frame and pooled query, in [-1, 1] (Eq. 14). In the released form it is the
    best score over levels, each stretched to the frames, which grounding models multiply by that cosine.
    """
    real = output.video_mask[sample]
    if output.form == "paper":
        return _cosine(output, sample, real)
    frames = int(real.sum())
    frame = torch.arange(frames, device=real.device)
    scores = output.class_logits[sample].sigmoid()
    best = torch.zeros(frames, device=real.device)
    for stride in sorted(set(output.points[:, 3].tolist())):
        level = scores[(output.points[:, 3] == stride) & output.point_mask[sample]]
        if len(level):
            # Every entry covers ⌊T / entries⌋ frames; the last one covers the rest too.
            covered = frame.div(frames // len(level), rounding_mode="floor").clamp(max=len(level) - 1)
            best = torch.maximum(best, level[covered])
    if output.offsets is None:
        return best
    return best * _cosine(output, sample, real)


def _cosine(output: ModelOutput, sample: int, real: Tensor) -> Tensor:
    hidden, query = (
        x.to(torch.promote_types(x.dtype, torch.float32)) for x in (output.hidden[sample][real], output.query[sample])
    )
    return F.cosine_similarity(hidden, query, dim=-1)


Moments = NDArray[np.float64]
"""``[N, 3]``: start and end in seconds, score."""


def finish_moments(moments: Moments, duration: float, config: DecodingConfig, top: int | None = None) -> Moments:
    """Clamps and rounds (`clamp_moments`), suppresses and sorts (`suppress_overlaps`) raw moments.

    At most ``top`` remain, best first; moments that ``normal`` suppression dropped have score 0.
    """
    return suppress_overlaps(clamp_moments(moments, duration, config.unit), config, top)


def clamp_moments(moments: Moments, duration: float, unit: float | None) -> Moments:
    """Clamps starts and ends to ``[0, duration]`` and rounds them to multiples of ``unit`` seconds, in a copy.

    A moment that reached the end of the video before it was clamped keeps its exact times.

    Example:
        >>> clamp_moments(np.array([[-1.0, 7.2, 0.9], [3.1, 31.0, 0.8]]), duration=30.0, unit=2.0).tolist()
        [[0.0, 8.0, 0.9], [3.1, 30.0, 0.8]]
    """
    clamped = moments.copy()
    inside = moments[:, 1] < duration
    clamped[:, :2] = clamped[:, :2].clip(0, duration)
    if unit is not None:
        clamped[inside, :2] = np.round(clamped[inside, :2] / unit) * unit
    return clamped


def suppress_overlaps(moments: Moments, config: DecodingConfig, top: int | None = None) -> Moments:
    """Non-maximum suppression: the best moment lowers the scores of those it overlaps, then the next best, and so on.

    ``normal`` sets scores at IoU ≥ threshold to 0, ``linear`` multiplies by 1 − IoU, ``gaussian`` by exp(−IoU²/σ).
    Returns a copy, best first, at most ``top``.
    """
    settled = moments.copy()
    count = len(settled) if top is None else min(top, len(settled))
    if config.nms != "none":
        for i in range(count):
            best = i + int(settled[i:, 2].argmax())
            settled[[i, best]] = settled[[best, i]]
            if settled[i, 2] <= 0:
                break  # only suppressed moments are left, and they suppress nothing
            rest = settled[i + 1 :]
            iou = elementwise_iou(settled[i], rest)
            if config.nms == "normal":
                rest[iou >= config.nms_threshold, 2] = 0
            elif config.nms == "linear":
                rest[:, 2] *= 1 - iou
            else:
                rest[:, 2] *= np.exp(-(iou**2) / config.nms_sigma)
    return settled[(-settled[:, 2]).argsort(kind="stable")][:count]


def keep_distinct(moments: Moments) -> Moments:
    """Drops each moment that shares any time with a better one that is kept, so that no second is in two of them.

    A millionth of a second is not time: rounded ends that meet may differ by less. Takes and returns moments best
    first; what is left is a part of what came in, with the same times and scores.

    Example:
        >>> keep_distinct(np.array([[10.0, 20.0, 0.9], [12.0, 30.0, 0.8], [20.0, 25.0, 0.7]]))[:, 2].tolist()
        [0.9, 0.7]
    """
    free = np.ones(len(moments), dtype=bool)
    kept = []
    for place, (start, end, _) in enumerate(moments):
        if free[place]:
            kept.append(place)
            free &= (moments[:, 0] >= end - _TOUCHING) | (moments[:, 1] <= start + _TOUCHING)
    return moments[kept]


_TOUCHING = 1e-6


def check_limits(top_k: int | None, threshold: float | None) -> None:
    """Refuses, by a ValueError, limits that would leave no moment or mean nothing; None is no limit."""
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, or None for all, not {top_k}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], or None, not {threshold}")
