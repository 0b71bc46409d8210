"""The five losses (Sec. 3.3 and 3.4) and that of the presence head.

They are over whole batches, in fp32 or, for float64 predictions, in float64.

Two recipes exist because the paper differs from the code that trained the published models:

                     released                                    paper
    classification   focal, no α                                 focal, α = 0.9 (Eq. 12)
    offset           0.2 × mean over start and end               0.1 × their sum (Eq. 13), which is the same number
    saliency         contrast with frames of saliency ≤ that     contrast with frames of lower saliency (Eq. 15)
                     of the positive one, and with samples
    calibration      at the sampled positive frame               over the mean of all positive frames (Eq. 9)

α and the factors are fields of `LossConfig`; its ``recipe`` selects the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from r2tuning.training.targets import Targets, assign_targets
from r2tuning.types import ModelOutput

LossRecipe = Literal["released", "paper"]

TEMPERATURE = 0.07
"""τ of Eq. 15 and of both calibration losses."""

_ZERO_LENGTH = 1e-6


class LossConfig(BaseModel):
    """Factors and form of the losses; the defaults are those of the published QVHighlights model.

    ``focal_alpha`` weights foreground points, and 1 − α the others; None weights all by 1. With ``recipe="paper"`` it
    and ``offset`` default to the paper's values (Sec. 3.4).

    Example:
        >>> paper = LossConfig(recipe="paper", saliency=0.2)
        >>> paper.focal_alpha, paper.offset, paper.saliency
        (0.9, 0.1, 0.2)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    classification: float = Field(default=1.0, ge=0)
    offset: float = Field(default=0.2, ge=0)
    saliency: float = Field(default=0.1, ge=0)
    video_calibration: float = Field(default=0.1, ge=0)
    layer_calibration: float = Field(default=0.1, ge=0)
    presence: float = Field(default=1.0, ge=0)
    focal_alpha: float | None = Field(default=None, ge=0, le=1)
    focal_gamma: float = Field(default=2.0, ge=0)
    recipe: LossRecipe = "released"

    @model_validator(mode="before")
    @classmethod
    def _default_to_paper(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("recipe") == "paper":
            return {"focal_alpha": 0.9, "offset": 0.1, **values}
        return values


@dataclass(frozen=True)
class Losses:
    """The weighted losses of a batch, scalars.

    ``offset`` is None for the saliency family, ``presence`` for models without that head.
    """

    classification: Tensor
    offset: Tensor | None
    saliency: Tensor
    video_calibration: Tensor
    layer_calibration: Tensor
    presence: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """Their sum, which training minimizes."""
        total = self.classification + self.saliency + self.video_calibration + self.layer_calibration
        for loss in (self.offset, self.presence):
            total = total if loss is None else total + loss
        return total


def compute_losses(output: ModelOutput, targets: Targets, config: LossConfig) -> Losses:
    """Computes all losses of a batch.

    A sample without a positive frame takes no part in the saliency and calibration losses, not even as a contrast to
    others. A mean over nothing is 0. So every legal batch has finite losses and gradients.
    """
    with torch.autocast(output.hidden.device.type, enabled=False):
        logits = _widen(output.class_logits)
        offset: Tensor | None = None
        if output.offsets is None:
            classification = curve_loss(logits, targets.saliency, output.point_mask)
        else:
            truth = assign_targets(output.points, targets.moments, targets.fps, output.point_mask)
            classification = focal_loss(
                logits, truth.foreground, output.point_mask, config.focal_alpha, config.focal_gamma
            )
            error = offset_loss(_widen(output.offsets), truth.offsets, truth.foreground, config.recipe)
            offset = config.offset * error
        sample = (targets.positive >= 0).nonzero().squeeze(1)
        if config.recipe == "released":
            video = _widen(output.video_cls[sample, :, targets.positive[sample]])
        else:
            mask = targets.positive_mask & output.video_mask
            video = mean_positive(_widen(output.video_cls[sample]), mask[sample])
        query = _widen(output.query_pooled[sample])
        kin = _find_kin(targets.video[sample])
        return Losses(
            classification=config.classification * classification,
            offset=offset,
            saliency=config.saliency * _saliency_loss(output, targets, sample, kin, config.recipe),
            video_calibration=config.video_calibration * info_nce(video.transpose(0, 1), query.transpose(0, 1), kin),
            layer_calibration=config.layer_calibration * info_nce(video, query),
            presence=None
            if output.presence is None
            else config.presence * presence_loss(_widen(output.presence), targets.present),
        )


def presence_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy of presence ``[B]``; queries that the video shows weigh as much as all others together.

    Presence then is the probability at even chances, whatever the share of absent queries in the data.

    Example:
        >>> logits, present = torch.zeros(3), torch.tensor([True, True, False])
        >>> f"{presence_loss(logits, present):.4f}"  # log 2
        '0.6931'
    """
    error = F.binary_cross_entropy_with_logits(logits, present.to(logits.dtype), reduction="none")
    kinds = [error[kind] for kind in (present, ~present) if kind.any()]
    return torch.stack([_mean(kind) for kind in kinds]).mean()


def focal_loss(logits: Tensor, foreground: Tensor, mask: Tensor, alpha: float | None, gamma: float) -> Tensor:
    """Focal loss of the foreground logits (Eq. 12), mean over the real points of the batch; all are ``[B, N]``.

    Eq. 12 has only the term of foreground points; that of the others mirrors it, as in the cited work.

    Example:
        >>> logits, foreground = torch.tensor([[0.0, 9.0]]), torch.tensor([[True, True]])
        >>> f"{focal_loss(logits, foreground, foreground, None, 2.0):.4f}"  # (¼·log 2 + about 0) / 2
        '0.0866'
    """
    truth = foreground[mask]
    margin = torch.where(truth, logits[mask], -logits[mask])  # > 0 where the point is right
    # log(1 − p) as logsigmoid(−margin): a power of 1 − p itself has an infinite slope at 0 for γ < 1.
    loss = -F.logsigmoid(margin) * (gamma * F.logsigmoid(-margin)).exp()
    if alpha is not None:
        loss = loss * torch.where(truth, alpha, 1 - alpha)
    return _mean(loss)


def curve_loss(logits: Tensor, saliency: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of the saliency family's logits with the saliency curve in [0, 1]; all are ``[B, T]``.

    The mean is over the real frames of the batch. The released code's choice, kept in both recipes: the paper's focal
    loss (Eq. 12) has no form for soft labels.

    Example:
        >>> mask = torch.tensor([[True, False]])
        >>> f"{curve_loss(torch.tensor([[0.0, 5.0]]), torch.tensor([[0.5, 0.0]]), mask):.4f}"  # log 2
        '0.6931'
    """
    truth = saliency[mask].to(logits.dtype)
    return _mean(F.binary_cross_entropy_with_logits(logits[mask], truth, reduction="none"))


def offset_loss(predicted: Tensor, target: Tensor, foreground: Tensor, recipe: LossRecipe) -> Tensor:
    """L1 distance of offsets ``[B, N, 2]`` in strides (Eq. 13), mean over the foreground points of the batch.

    Eq. 13 adds the errors at start and end, the released code takes their mean.

    Example:
        >>> predicted, target = torch.tensor([[[1.0, 2.0], [5.0, 5.0]]]), torch.zeros(1, 2, 2)
        >>> offset_loss(predicted, target, torch.tensor([[True, False]]), "released").item()
        1.5
    """
    error = (predicted[foreground] - target[foreground]).abs()
    return _mean(error if recipe == "released" else error.sum(dim=-1))


def _saliency_loss(output: ModelOutput, targets: Targets, sample: Tensor, kin: Tensor, recipe: LossRecipe) -> Tensor:
    """Contrastive saliency loss of the samples at these indices, which all have a positive frame."""
    hidden, query = _widen(output.hidden[sample]), _widen(output.query[sample])
    similarity = (to_unit(hidden) @ to_unit(query)[..., None]).squeeze(-1) / TEMPERATURE
    positive, saliency = targets.positive[sample], targets.saliency[sample]
    level = saliency.gather(1, positive[:, None])
    admissible = (saliency <= level if recipe == "released" else saliency < level) & output.video_mask[sample]
    admissible = admissible.scatter(1, positive[:, None], True)
    loss = frame_contrast_loss(similarity, admissible, positive)
    if recipe == "released" and output.offsets is not None:
        loss = loss + sample_contrast_loss(similarity, admissible, positive, kin)
    return loss


def frame_contrast_loss(similarity: Tensor, admissible: Tensor, positive: Tensor) -> Tensor:
    """Contrasts the positive frame ``[B]`` with the other admissible frames of its video (Eq. 15), mean over samples.

    ``similarity`` ``[B, T]`` is the cosine of frame and query (Eq. 14) over the temperature; ``admissible`` ``[B, T]``
    is True at the positive frame and False at padded ones.

    Example:
        >>> similarity, admissible = torch.zeros(1, 3), torch.tensor([[True, True, False]])
        >>> f"{frame_contrast_loss(similarity, admissible, torch.tensor([0])):.4f}"  # one of two: log 2
        '0.6931'
    """
    chosen = similarity.gather(1, positive[:, None]).squeeze(1)
    return _mean(similarity.masked_fill(~admissible, -torch.inf).logsumexp(dim=1) - chosen)


def sample_contrast_loss(similarity: Tensor, admissible: Tensor, positive: Tensor, kin: Tensor | None = None) -> Tensor:
    """Contrasts each positive frame with the same frame of other samples; the arguments of `frame_contrast_loss`.

    Only the released code has this term, and only for the grounding family. Pairs of samples in ``kin`` ``[B, B]`` are
    not compared. A sample always admits its positive frame, so no softmax is empty.

    Example:
        >>> similarity, admissible = torch.zeros(2, 3), torch.tensor([[True, True, False], [True, False, True]])
        >>> f"{sample_contrast_loss(similarity, admissible, torch.tensor([0, 2])):.4f}"  # (log 2 + log 1) / 2
        '0.3466'
    """
    others = similarity[:, positive].masked_fill(~admissible[:, positive], -torch.inf)  # column b: frame p_b of all
    if kin is not None:
        others = others.masked_fill(kin, -torch.inf)
    return _mean(others.logsumexp(dim=0) - similarity[:, positive].diagonal())


def mean_positive(video_cls: Tensor, positive_mask: Tensor) -> Tensor:
    """Average of projected [CLS] tokens ``[B, K, T, C]`` over all positive frames ``[B, T]``: ẽ_v of Eq. 9.

    Example:
        >>> mean_positive(torch.tensor([[[[1.0], [2.0], [4.0]]]]), torch.tensor([[True, False, True]])).tolist()
        [[[2.5]]]
    """
    weight = positive_mask.to(video_cls.dtype)
    total: Tensor = (weight[:, None, None] @ video_cls).squeeze(2)
    return total / weight.sum(dim=1).clamp(min=1)[:, None, None]


def info_nce(first: Tensor, second: Tensor, kin: Tensor | None = None) -> Tensor:
    """InfoNCE of two sets of vectors ``[..., n, C]``, row i of one belonging to row i of the other; mean over rows.

    With samples as rows, for each layer, it is the video-level loss (Eq. 10); with layers as rows, for each sample, the
    layer-wise one (Eq. 11). The paper does not name a direction; this is the mean of both, as in the released code.
    Pairs of rows in ``kin`` ``[n, n]`` are not compared; the released code compares all.

    Example:
        >>> info_nce(torch.eye(2), torch.eye(2)) < 1e-5, info_nce(torch.eye(2), torch.eye(2).flip(0)) > 14
        (tensor(True), tensor(True))
    """
    logits = to_unit(first) @ to_unit(second).transpose(-1, -2) / TEMPERATURE
    if kin is not None:
        logits = logits.masked_fill(kin, -torch.inf)
    directions = (logits.logsumexp(dim=-1) + logits.logsumexp(dim=-2)) / 2
    return _mean(directions - logits.diagonal(dim1=-2, dim2=-1))


def _find_kin(video: Tensor) -> Tensor:
    """Pairs of different samples that share a video, bool ``[B, B]``."""
    same = video[:, None] == video
    return same & ~torch.eye(len(video), dtype=torch.bool, device=video.device)


def to_unit(vectors: Tensor) -> Tensor:
    """Vectors ``[..., C]`` scaled to length 1; a zero vector stays zero and gets no gradient.

    Example:
        >>> to_unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    unit = vectors / length.clamp(min=_ZERO_LENGTH)
    return torch.where(length > _ZERO_LENGTH, unit, 0)


def _widen(values: Tensor) -> Tensor:
    """Half precision becomes fp32; fp32 and float64 stay."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(values.numel(), 1)
