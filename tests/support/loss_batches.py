"""Random predictions and their targets, of which losses are computed."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from r2tuning.model.heads import level_mask, level_points
from r2tuning.training.losses import LossConfig, Losses, compute_losses
from r2tuning.training.targets import Targets
from r2tuning.types import ModelOutput

K, C = 3, 8
INF = math.inf
RECIPES = ["released", "paper"]
FAMILIES = ["grounding", "saliency"]
NAMES = [field.name for field in dataclasses.fields(Losses)]
LENGTHS = [7, 4, 6]
MOMENTS = [[[1.0, 4.0], [4.5, 6.0]], [[0.0, 4.0]], [[2.5, 3.5]]]
SALIENCY = [[0.0, 0.5, 0.5, 0.75, 0.25, 1.0, 0.0], [0.25, 0.5, 1.0, 0.75], [0.0, 0.0, 0.0, 0.5, 0.5, 0.0]]
POSITIVE = [3, 1, 4]


def make_output(
    lengths: list[int] = LENGTHS, family: str = "grounding", seed: int = 0, padding: int = 0
) -> ModelOutput:
    """Random predictions; each sample's real entries do not depend on how much padding there is."""
    frames = max(lengths) + padding
    strides = (1, 2, 4) if family == "grounding" else (1,)
    video_mask = torch.arange(frames) < torch.tensor(lengths)[:, None]
    masks = [level_mask(video_mask, stride) for stride in strides]
    junk = torch.Generator().manual_seed(seed + 1000 * padding)

    def draw(generator: torch.Generator, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def fill(mask: Tensor, width: int, salt: int) -> Tensor:
        values = 50 * draw(junk, *mask.shape, width)
        for row, real, b in zip(values, mask, range(len(mask)), strict=True):
            row[real] = draw(torch.Generator().manual_seed(seed + 100 * salt + b), int(real.sum()), width)
        return values

    logits = torch.cat([fill(mask, 1, 10 + i) for i, mask in enumerate(masks)], dim=1).squeeze(-1)
    offsets = torch.cat([fill(mask, 2, 20 + i).abs() for i, mask in enumerate(masks)], dim=1)
    cls = torch.stack([fill(video_mask, C, 30 + k) for k in range(K)], dim=1)
    fixed = torch.Generator().manual_seed(seed)
    return ModelOutput(
        hidden=fill(video_mask, C, 1).relu().requires_grad_(),
        query=draw(fixed, len(lengths), C).requires_grad_(),
        class_logits=logits.requires_grad_(),
        offsets=offsets.requires_grad_() if family == "grounding" else None,
        points=level_points(frames, strides, video_mask.device),
        point_mask=torch.cat(masks, dim=1),
        video_mask=video_mask,
        video_cls=cls.requires_grad_(),
        query_pooled=draw(fixed, len(lengths), K, C).requires_grad_(),
        presence=draw(fixed, len(lengths)).requires_grad_(),
    )


def make_targets(
    lengths: list[int] = LENGTHS,
    moments: list[list[list[float]]] = MOMENTS,
    saliency: list[list[float]] = SALIENCY,
    positive: list[int] = POSITIVE,
    padding: int = 0,
) -> Targets:
    """Targets at 1 frame per second; padded frames get saliencies that would matter if they were looked at."""
    frames, most = max(lengths) + padding, max(map(len, moments))
    return Targets(
        moments=torch.tensor([[*rows, *[[INF, INF]] * (most - len(rows))] for rows in moments]).reshape(
            len(moments), most, 2
        ),
        fps=torch.ones(len(lengths)),
        saliency=torch.tensor([[*row, *[0.01 * i for i in range(frames - len(row))]] for row in saliency]),
        positive=torch.tensor(positive),
        positive_mask=torch.tensor([[*(x > 0 for x in row), *[True] * (frames - len(row))] for row in saliency]),
        video=torch.arange(len(lengths)),
        present=torch.tensor([bool(rows) for rows in moments]) | torch.tensor([max(row) > 0 for row in saliency]),
    )


def gradients(output: ModelOutput) -> dict[str, Tensor]:
    """Gradients of all predictions, by name."""
    names = ("hidden", "query", "class_logits", "offsets", "video_cls", "query_pooled", "presence")
    leaves = {name: getattr(output, name) for name in names}
    return {name: leaf.grad for name, leaf in leaves.items() if leaf is not None and leaf.grad is not None}


def check_finite(output: ModelOutput, targets: Targets, recipe: Any) -> Losses:
    """Losses of a batch; they and all gradients are finite."""
    losses = compute_losses(output, targets, LossConfig(recipe=recipe))
    losses.total.backward()
    found = gradients(output)
    assert {"class_logits", "hidden"} <= found.keys()
    assert losses.total.dtype == torch.float32
    assert losses.total.isfinite()
    assert [name for name, gradient in found.items() if not gradient.isfinite().all()] == []
    return losses
