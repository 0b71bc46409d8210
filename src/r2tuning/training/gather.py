"""Losses over the batches of all processes together.

Every process computes the losses of the whole batch from what all have predicted, so the contrastive losses see every
sample and means are those of one process with a larger batch. The gradient that flows back through the gathering is
summed over processes, and DDP takes its mean again: the result is that of one process.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from r2tuning.training.data import Batch
from r2tuning.training.targets import Targets
from r2tuning.types import ModelOutput


def agree(fabric: Any, batch: Batch, stop: bool) -> tuple[Batch, bool]:
    """Pads the batch to the longest video and the most moments of any process, and stops all where one wants to."""
    if fabric.world_size == 1:
        return batch, stop
    mine = torch.tensor([batch.video.shape[2], batch.targets.moments.shape[1], int(stop)], device=fabric.device)
    frames, moments, stopped = fabric.all_reduce(mine, reduce_op="max").tolist()
    batch = batch.pad_to(frames)
    more = moments - batch.targets.moments.shape[1]
    padded = torch.nn.functional.pad(batch.targets.moments, (0, 0, 0, more), value=torch.inf)
    return replace(batch, targets=replace(batch.targets, moments=padded)), bool(stopped)


def gather(fabric: Any, output: ModelOutput, targets: Targets) -> tuple[ModelOutput, Targets]:
    """Predictions and targets of all processes, in the order of their ranks, with gradients."""
    if fabric.world_size == 1:
        return output, targets

    def collect(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        # Not every backend can send booleans.
        sent = value.to(torch.uint8) if value.dtype == torch.bool else value
        together: Tensor = fabric.all_gather(sent.contiguous(), sync_grads=sent.requires_grad).flatten(0, 1)
        return together.to(value.dtype) if value.dtype == torch.bool else together

    predicted = {
        field.name: collect(getattr(output, field.name)) for field in fields(ModelOutput) if field.name != "points"
    }
    truth = {field.name: collect(getattr(targets, field.name)) for field in fields(Targets)}
    return replace(output, **predicted), replace(targets, **truth)  # type: ignore[arg-type]
