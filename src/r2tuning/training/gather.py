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


def agree(fabric: Any, batch: Batch, queries: int, stop: bool) -> tuple[Batch, list[int], bool]:
    """Makes the batches of all processes equally large, and stops all where one wants to.

    Args:
        fabric: The processes.
        batch: Of this one.
        queries: How many of its first queries count; the others are copies.
        stop: Whether this process wants to stop.

    Returns:
        The padded batch, the number of queries that count in each process, and whether to stop.
    """
    if fabric.world_size == 1:
        return batch, [queries], stop
    sizes = [len(batch.query), batch.video.shape[2], batch.targets.moments.shape[1], queries, int(stop)]
    sizes_of_all = fabric.all_gather(torch.tensor(sizes, device=fabric.device))
    most, frames, moments, _, stopped = sizes_of_all.amax(dim=0).tolist()
    return batch.pad_to(most, frames, moments), sizes_of_all[:, 3].tolist(), bool(stopped)


def gather(fabric: Any, output: ModelOutput, targets: Targets, queries: list[int]) -> tuple[ModelOutput, Targets]:
    """Predictions and targets of all processes, in the order of their ranks, with gradients.

    Args:
        fabric: The processes.
        output: Predictions of this one.
        targets: Their truth.
        queries: How many of its first queries count in each process, from `agree`.
    """
    if fabric.world_size == 1:
        return output, targets
    # Every process numbers its videos from 0.
    targets = replace(targets, video=targets.video + fabric.global_rank * len(targets.video))
    places = torch.arange(len(targets.fps), device=fabric.device)
    counts = (places < torch.tensor(queries, device=fabric.device)[:, None]).flatten()

    def collect(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        # Not every backend can send booleans.
        sent = value.to(torch.uint8) if value.dtype == torch.bool else value
        together: Tensor = fabric.all_gather(sent.contiguous(), sync_grads=sent.requires_grad).flatten(0, 1)
        return together[counts].to(value.dtype)

    predicted = {
        field.name: collect(getattr(output, field.name)) for field in fields(ModelOutput) if field.name != "points"
    }
    truth = {field.name: collect(getattr(targets, field.name)) for field in fields(Targets)}
    return replace(output, **predicted), replace(targets, **truth)  # type: ignore[arg-type]
