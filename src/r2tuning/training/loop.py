"""The training loop, on one device or many; it can be stopped at any step and resumes exactly.

Random choices depend only on the seed and the place in the run (epoch, example, step), so weights, optimizer and the
number of steps are enough to resume.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from r2tuning.errors import TrainingError
from r2tuning.evaluation.predict import evaluate_model
from r2tuning.evaluation.splits import OpenSplit
from r2tuning.model import R2Tuning
from r2tuning.training.build import build_model, describe_model, open_splits
from r2tuning.training.data import Batch, Group, TrainingData, load_batches, share_batch
from r2tuning.training.distributed import agree, gather, is_first_process, launch, stop_signals
from r2tuning.training.losses import LossConfig, Losses, compute_losses
from r2tuning.training.recipes import Recipe, learning_rate
from r2tuning.training.run_folder import LOG_FILE, VALIDATION_FILE, Log, RunFolder, guard_state
from r2tuning.training.targets import Targets
from r2tuning.types import ModelOutput


@dataclass(frozen=True)
class Report:
    """Progress of a run: ``step`` of ``steps`` are done.

    Attributes:
        epoch: Number of the current epoch, or of the one just validated, from 0.
        values: Losses, learning rate and share of time spent waiting for data; or metrics of a validation.
    """

    step: int
    steps: int
    epoch: int
    values: Mapping[str, float]
    last: bool = False
    """Whether the step ends its epoch."""


@dataclass(frozen=True)
class Trained:
    """How a run ended; ``best`` is a checkpoint, None if the run was stopped before its first validation."""

    best: Path | None
    metrics: dict[str, float]
    finished: bool
    main: bool  # whether this is the main process


@dataclass
class _State:
    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_score: float = -1.0
    best_metrics: dict[str, float] = field(default_factory=dict)


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    resume: bool = False,
    report: Callable[[Report], None] | None = None,
    announce: Callable[[OpenSplit, OpenSplit], None] = lambda *_: None,
    splits: tuple[OpenSplit, OpenSplit] | None = None,
    losses: Callable[[ModelOutput, Targets, LossConfig], Losses] = compute_losses,
) -> Trained:
    """Trains a model.

    The folder receives the recipe, package versions and git state, losses in ``log.csv``, scores in ``validation.csv``,
    both for TensorBoard, the checkpoints ``best`` (by the benchmark's main metric) and ``last``, and a state to resume
    from. Ctrl-C or SIGTERM ends the run after the current step or validation, with its state saved. The main process
    calls ``announce`` with the splits to train and to validate on before it starts, and ``report`` after steps and
    validations.

    Args:
        recipe: All settings.
        folder: Folder of the run.
        resume: Whether to continue the run in the folder.
        report: Called with the progress.
        announce: Called with both splits.
        splits: What to train and to validate on, in place of the data that the recipe names.
        losses: Computes the losses of a batch. A run does not record this and ``splits``: give the same to resume.
    """
    run, saved = RunFolder(folder), None
    with ExitStack() as held:
        # Fail before there are other processes, which would repeat the message.
        if not resume:
            run.require_new()
        elif run.path.is_dir() and is_first_process():
            held.enter_context(run.hold())
        training, validation = open_splits(recipe) if splits is None else splits
        model = build_model(recipe, training.store)
        if resume:
            saved = run.resume(recipe)
        fabric = launch(recipe.training)
        if fabric.global_rank == 0:
            announce(training, validation)
            if not resume:
                held.enter_context(run.hold())
                run.begin(recipe)
        fabric.barrier()
        return _Trainer(recipe, training, validation, model, run, fabric, saved, report, losses).run()


class _AsTuple(nn.Module):
    """Returns the fields of `ModelOutput` as a tuple: Fabric and DDP cannot look into frozen dataclasses."""

    def __init__(self, model: R2Tuning) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        output = self.model(*inputs)
        return tuple(getattr(output, item.name) for item in fields(ModelOutput))


class _Trainer:
    """The parts of one run."""

    def __init__(
        self,
        recipe: Recipe,
        training: OpenSplit,
        validation: OpenSplit,
        model: R2Tuning,
        run: RunFolder,
        fabric: Fabric,
        saved: dict[str, Any] | None,
        report: Callable[[Report], None] | None,
        losses: Callable[[ModelOutput, Targets, LossConfig], Losses],
    ) -> None:
        self._recipe, self._validation, self._folder, self._fabric = recipe, validation, run, fabric
        self._report, self._compute = report, losses
        self._log: Log | None = None
        settings = recipe.training
        self._data = TrainingData(
            training.annotations,
            training.benchmark,
            training.store,
            recipe.model.layers,
            settings.seed,
            recipe.data.negatives,
        )
        self._steps_per_epoch = len(self._plan(0))
        # Moved first, so that a saved optimizer state goes to the same device.
        self._module = model.to(fabric.device)
        self._ema = None
        if settings.ema is not None:
            average = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
            self._ema = AveragedModel(model, multi_avg_fn=average)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # The learning rate is set at every step.
        optimizer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=recipe.optimizer.weight_decay)
        self._state = _State()
        if saved is not None:
            with guard_state(run.path):
                self._load(saved, optimizer)
        self._model, self._optimizer = fabric.setup(_AsTuple(model), optimizer)

    def run(self) -> Trained:
        """Trains to the end, or until a signal."""
        settings, state, main = self._recipe.training, self._state, self._fabric.global_rank == 0
        self._log = Log(self._folder.path, state.step) if main else None
        with stop_signals() as stopped:
            try:
                while state.epoch < settings.epochs:
                    if not self._run_epoch(stopped):
                        break
                    if (state.epoch + 1) % settings.validate_every == 0 or state.epoch + 1 == settings.epochs:
                        self._validate()
                    state.epoch, state.batch = state.epoch + 1, 0
                    self._save()
            finally:
                if self._log is not None:
                    self._log.close()
        best = self._folder.best if self._folder.best.is_dir() else None
        return Trained(best, state.best_metrics, finished=state.epoch >= settings.epochs, main=main)

    def _run_epoch(self, stopped: threading.Event) -> bool:
        """Trains to the end of the epoch; False if a signal came before."""
        state, settings, fabric = self._state, self._recipe.training, self._fabric
        plan = self._plan(state.epoch)[state.batch :]
        shares = [share_batch(batch, fabric.global_rank, fabric.world_size) for batch in plan]
        # A process without a share reads a copy, which does not count.
        read = [share or batch[:1] for share, batch in zip(shares, plan, strict=True)]
        pin = fabric.device.type == "cuda"
        batches = load_batches(self._data, read, state.epoch, self._recipe.data.workers, pin=pin)
        waited, since = 0.0, time.perf_counter()
        for share in shares:
            started = time.perf_counter()
            local = next(batches).to(fabric.device)
            waited += time.perf_counter() - started
            batch, queries, stop = agree(fabric, local, len(local.query) if share else 0, stopped.is_set())
            if stop:
                self._save()
                return False
            losses, rate = self._step(batch, queries)
            state.step, state.batch = state.step + 1, state.batch + 1
            # At least once an epoch, however short it is.
            if state.step % settings.log_every == 0 or state.batch == self._steps_per_epoch:
                values = self._describe(losses, rate, waited / (time.perf_counter() - since))
                self._record(LOG_FILE, values)
                waited, since = 0.0, time.perf_counter()
            if state.step % settings.checkpoint_every == 0:
                self._save()
        return True

    def _step(self, batch: Batch, queries: list[int]) -> tuple[Losses, float]:
        recipe, state, fabric = self._recipe, self._state, self._fabric
        rate = learning_rate(state.step, state.epoch, recipe.optimizer)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        draw = random.Random(f"{recipe.training.seed}/{state.step}/{fabric.global_rank}/dropout")
        torch.manual_seed(draw.getrandbits(63))
        self._model.train()
        predicted = self._model(batch.video, batch.query, batch.video_mask, batch.query_mask, batch.video_index)
        output, targets = gather(fabric, ModelOutput(*predicted), batch.targets, queries)
        losses = self._compute(output, targets, recipe.losses)
        self._optimizer.zero_grad()
        fabric.backward(losses.total)
        fabric.clip_gradients(
            self._model, self._optimizer, max_norm=recipe.optimizer.clip_norm, error_if_nonfinite=False
        )
        self._optimizer.step()
        if self._ema is not None:
            self._ema.update_parameters(self._module)
        return losses, rate

    def _describe(self, losses: Losses, rate: float, waiting: float) -> dict[str, float]:
        values = {name: float(loss.detach()) for name, loss in vars(losses).items() if loss is not None}
        total = float(losses.total.detach())
        if not math.isfinite(total):
            raise self._diverged(f"the loss is {total}")
        return {"lr": rate, "total": total, **values, "waiting": waiting}

    def _require_finite(self) -> None:
        """The loss is checked only when it is logged; NaN weights must never be saved."""
        if not all(bool(parameter.isfinite().all()) for parameter in self._module.parameters()):
            raise self._diverged("weights are not finite")

    def _diverged(self, problem: str) -> TrainingError:
        return TrainingError(
            f"{self._folder.path}: {problem} at step {self._state.step}; start again with a lower optimizer.lr, or "
            "with training.precision=32"
        )

    def _validate(self) -> None:
        """Scores the model in the main process; saves it as last, and as best if it is."""
        self._require_finite()
        state, validation = self._state, self._validation
        if self._fabric.global_rank == 0:
            model = self._module if self._ema is None else self._ema.module
            assert isinstance(model, R2Tuning)  # AveragedModel types it as Module
            config = describe_model(self._recipe, model, validation.store.facts)
            metrics = evaluate_model(model, config, validation)
            self._record(VALIDATION_FILE, metrics)
            weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
            self._folder.save_model(self._folder.last, weights, config)
            score = metrics[validation.benchmark.main_metric]
            if score > state.best_score:
                state.best_score, state.best_metrics = score, metrics
                self._folder.save_model(self._folder.best, weights, config)
        self._fabric.barrier()

    def _record(self, file: str, values: Mapping[str, float]) -> None:
        """Logs and reports losses or scores, in the main process."""
        step, epoch = self._state.step, self._state.epoch
        if self._log is not None:
            self._log.write(file, step, epoch, values)
            if self._report is not None:
                steps = self._steps_per_epoch * self._recipe.training.epochs
                last = self._state.batch == self._steps_per_epoch
                self._report(Report(step, steps, epoch, values, last))

    def _plan(self, epoch: int) -> Sequence[Sequence[Group]]:
        """The batches of an epoch for all processes together."""
        settings, data = self._recipe.training, self._recipe.data
        together = settings.batch_size * self._fabric.world_size
        return self._data.plan_epoch(epoch, together, data.queries_per_video, data.repeat)

    def _save(self) -> None:
        self._require_finite()
        if self._fabric.global_rank == 0:
            precision = self._fabric.strategy.precision
            self._folder.save_state(
                {
                    **vars(self._state),
                    "model": self._module.state_dict(),
                    "ema": None if self._ema is None else self._ema.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "scaler": precision.state_dict() if isinstance(precision, MixedPrecision) else {},
                }
            )
        self._fabric.barrier()

    def _load(self, saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        for name, initial in vars(self._state).items():
            value = saved[name]
            if not isinstance(value, type(initial)) or (isinstance(value, int) and value < 0):
                raise ValueError(f"{name} is {value!r}")
            setattr(self._state, name, value)
        self._module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        if self._ema is not None:
            self._ema.load_state_dict(saved["ema"])
        precision = self._fabric.strategy.precision
        if isinstance(precision, MixedPrecision):
            precision.load_state_dict(saved["scaler"])
