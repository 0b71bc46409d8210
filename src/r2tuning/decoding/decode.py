"""From predictions at points to ranked moments and a saliency curve, before clamping, rounding and suppression."""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from r2tuning.types import ModelOutput

Suppression = Literal["none", "normal", "linear", "gaussian"]


class DecodingConfig(BaseModel):
    """Rounding and suppression of overlapping moments (see `r2tuning.decoding.moments`)."""

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
    """

    moments: Tensor
    saliency: Tensor


def decode(output: ModelOutput, fps: float) -> list[Decoded]:
    """Decodes every sample of a batch; ``fps`` are the sampled frames per second."""
    return [
        Decoded(decode_moments(output, sample, fps), decode_saliency(output, sample))
        for sample in range(len(output.class_logits))
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
    """Saliency of the T real frames of one sample: the best score over levels, each stretched to the frames.

    Grounding models multiply it by the cosine of frame and pooled query (Eq. 14).
    """
    real = output.video_mask[sample]
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
    return best * F.cosine_similarity(output.hidden[sample][real].float(), output.query[sample].float(), dim=-1)
