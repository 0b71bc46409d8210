"""Training on several devices: processes, their signals, and losses over the batches of all."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from r2tuning.errors import TrainingError
from r2tuning.training.data import Batch
from r2tuning.training.recipes import TrainingConfig
from r2tuning.training.targets import Targets
from r2tuning.types import ModelOutput


def choose_accelerator(settings: TrainingConfig) -> str:
    """The kind of device to train on; a GPU that is asked for and not there is a TrainingError."""
    if settings.accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if settings.accelerator == "cuda" and not torch.cuda.is_available():
        raise TrainingError("training.accelerator=cuda: PyTorch sees no GPU here; set training.accelerator=cpu")
    return settings.accelerator


def is_first_process() -> bool:
    """Whether this is the process that was started by hand, before `launch` has told the processes their ranks."""
    ranks = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def launch(settings: TrainingConfig) -> Fabric:
    """Starts the other processes, if any: each runs this command again."""
    # One line for every process, at every start, is noise.
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    accelerator = choose_accelerator(settings)
    if accelerator == "cuda" and torch.cuda.device_count() < settings.devices:
        raise TrainingError(
            f"training.devices={settings.devices}: PyTorch sees {torch.cuda.device_count()} GPUs here; set it lower"
        )
    precision = settings.precision
    if precision == "auto":
        precision = "16-mixed" if accelerator == "cuda" else "32"
    if precision == "16-mixed" and accelerator == "cpu":
        raise TrainingError("training.precision=16-mixed: needs a GPU; set it to 32 or bf16-mixed")
    many = settings.devices * settings.nodes > 1
    fabric = Fabric(
        accelerator=accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        # A batch of short videos does not reach the coarsest levels of the pyramid.
        strategy=DDPStrategy(find_unused_parameters=True) if many else "auto",
        plugins=None if precision == "32" else MixedPrecision(precision, device=accelerator),
    )
    fabric.launch()
    return fabric


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C interrupts at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(_number: int, _frame: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def agree(fabric: Any, batch: Batch, queries: int, stop: bool) -> tuple[Batch, list[int], bool]:
    """Pads the batches of all processes to one size, and stops all if one wants to stop.

    The first ``queries`` of the batch count, the others are copies. Returns the padded batch, the number of queries
    that count in each process, and whether to stop.
    """
    if fabric.world_size == 1:
        return batch, [queries], stop
    sizes = [len(batch.query), batch.video.shape[2], batch.targets.moments.shape[1], queries, int(stop)]
    sizes_of_all = fabric.all_gather(torch.tensor(sizes, device=fabric.device))
    most, frames, moments, _, stopped = sizes_of_all.amax(dim=0).tolist()
    return batch.pad_to(most, frames, moments), sizes_of_all[:, 3].tolist(), bool(stopped)


def gather(fabric: Any, output: ModelOutput, targets: Targets, queries: list[int]) -> tuple[ModelOutput, Targets]:
    """Predictions and targets of all processes, in the order of their ranks, with gradients.

    Only the first ``queries`` of each process count, see `agree`.
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
        field.name: collect(getattr(output, field.name))
        for field in fields(ModelOutput)
        if field.name not in ("points", "form")
    }
    truth = {field.name: collect(getattr(targets, field.name)) for field in fields(Targets)}
    return replace(output, **predicted), replace(targets, **truth)  # type: ignore[arg-type]
