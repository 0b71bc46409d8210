"""The processes of a training run, and how they are told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.strategies.ddp import DDPStrategy

from r2tuning.errors import TrainingError
from r2tuning.training.config import TrainingConfig


def launch(settings: TrainingConfig) -> Fabric:
    """Starts the other processes, if there are to be any: each runs the command of this one again.

    Raises:
        TrainingError: If there are fewer GPUs than wanted, or the CPU does not know the precision.
    """
    accelerator: str = settings.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
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
