"""The training loop, on one device or many, that can be stopped at any step and goes on as if it had not been.

Everything random is drawn from the seed and the place in the run (epoch, example, step), never from what came before;
so a run needs no more than weights, optimizer and the number of steps done to go on to the same result.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from r2tuning import __version__
from r2tuning.checkpoints import resolve
from r2tuning.checkpoints.config import CheckpointConfig, Provenance
from r2tuning.errors import TrainingError
from r2tuning.model import R2Tuning
from r2tuning.training.config import Recipe
from r2tuning.training.data import Batch, Group, TrainingData, load_batches
from r2tuning.training.evaluate import evaluate_model
from r2tuning.training.gather import agree, gather
from r2tuning.training.losses import Losses, compute_losses
from r2tuning.training.run_folder import Log, RunFolder
from r2tuning.training.schedule import learning_rate
from r2tuning.training.source import Source, open_source
from r2tuning.types import ModelOutput

LOSSES = ("classification", "offset", "saliency", "video_calibration", "layer_calibration")


@dataclass(frozen=True)
class Report:
    """What a run tells while it goes on.

    Attributes:
        step: Steps done.
        steps: Steps of the whole run.
        epoch: Number of the epoch, from 0.
        values: Losses, learning rate and share of time spent waiting for data; or the metrics of a validation.
    """

    step: int
    steps: int
    epoch: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Trained:
    """How a run ended.

    Attributes:
        best: Folder of the best checkpoint; None if the run was stopped before its first validation.
        metrics: Of the best validation.
        finished: Whether all epochs were done.
    """

    best: Path | None
    metrics: dict[str, float]
    finished: bool


@dataclass
class _State:
    """Where a run is."""

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
) -> Trained:
    """Trains a model.

    The folder receives the recipe, package versions and git state, ``log.csv`` and TensorBoard logs, the checkpoints
    ``best`` (by the benchmark's main metric) and ``last``, and a state from which the run can go on. Ctrl-C or SIGTERM
    ends the run after the step under way, with its state saved.

    Args:
        recipe: What to train.
        folder: Of the run.
        resume: Go on with the run in the folder.
        report: Told of steps and validations, in the main process.

    Returns:
        How the run ended.

    Raises:
        RecipeError: If the recipe does not say where its data is.
        DataError: If annotations cannot be read.
        FeatureError: If features are missing.
        TrainingError: If the folder holds another run, or the loss is no number any more.
    """
    source = open_source(recipe)
    run = RunFolder(folder)
    fabric = _launch(recipe)
    saved = None
    if fabric.global_rank == 0 and not resume:
        run.begin(recipe)
    fabric.barrier()
    if resume:
        saved = run.resume(recipe)
    return _Trainer(recipe, source, run, fabric, saved, report).run()


class _AsTuple(nn.Module):
    """Hands out the fields of `ModelOutput` as a tuple, since Fabric and DDP look into results but not frozen ones."""

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
        source: Source,
        run: RunFolder,
        fabric: Fabric,
        saved: dict[str, Any] | None,
        report: Callable[[Report], None] | None,
    ) -> None:
        self._recipe, self._source, self._folder, self._fabric = recipe, source, run, fabric
        self._report = report
        settings = recipe.training
        self._data = TrainingData(source.training, source.benchmark, source.store, recipe.model.layers, settings.seed)
        self._steps_per_epoch = len(self._plan(0))
        if self._steps_per_epoch == 0:
            raise TrainingError(f"{recipe.name}: fewer queries than processes; train with fewer training.devices")
        self._module = build_model(recipe, source)
        model = self._module
        self._ema = None
        if settings.ema is not None:
            average = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
            self._ema = AveragedModel(model, multi_avg_fn=average).to(fabric.device)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # The rate is set at every step. The fused kernel is the fastest, and takes parameters of one device only.
        optimizer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=recipe.optimizer.weight_decay)
        self._state = _State()
        if saved is not None:
            self._load(saved, optimizer)
        self._model, self._optimizer = fabric.setup(_AsTuple(model), optimizer)

    def run(self) -> Trained:
        """Trains to the end, or until told to stop."""
        settings, state = self._recipe.training, self._state
        log = Log(self._folder.path, ("lr", "total", *LOSSES), state.step) if self._fabric.global_rank == 0 else None
        with _stop_signals() as stopped:
            try:
                while state.epoch < settings.epochs:
                    if not self._run_epoch(log, stopped):
                        break
                    state.epoch, state.batch = state.epoch + 1, 0
                    if state.epoch % settings.validate_every == 0 or state.epoch == settings.epochs:
                        self._validate(log)
                    self._save()
            finally:
                if log is not None:
                    log.close()
        best = self._folder.best if self._folder.best.is_dir() else None
        return Trained(best, state.best_metrics, finished=state.epoch >= settings.epochs)

    def _run_epoch(self, log: Log | None, stopped: threading.Event) -> bool:
        """Trains to the end of the epoch; False if told to stop before."""
        state, settings, fabric = self._state, self._recipe.training, self._fabric
        plan = self._plan(state.epoch)[state.batch :]
        pin = fabric.device.type == "cuda"
        batches = load_batches(self._data, plan, state.epoch, self._recipe.data.workers, pin=pin)
        waited, since = 0.0, time.perf_counter()
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return True
            waited += time.perf_counter() - asked
            batch, stop = agree(fabric, batch.to(fabric.device), stopped.is_set())
            if stop:
                self._save()
                return False
            losses, rate = self._step(batch)
            state.step, state.batch = state.step + 1, state.batch + 1
            if state.step % settings.log_every == 0:
                values = self._describe(losses, rate, waited / (time.perf_counter() - since))
                if log is not None:
                    log.write(state.step, state.epoch, values)
                self._tell(values)
                waited, since = 0.0, time.perf_counter()
            if state.step % settings.checkpoint_every == 0:
                self._save()

    def _step(self, batch: Batch) -> tuple[Losses, float]:
        recipe, state, fabric = self._recipe, self._state, self._fabric
        rate = learning_rate(state.step, state.epoch, recipe.optimizer)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        draw = random.Random(f"{recipe.training.seed}/{state.step}/{fabric.global_rank}/dropout")
        torch.manual_seed(draw.getrandbits(63))
        self._model.train()
        predicted = self._model(batch.video.float(), batch.query, batch.video_mask, batch.query_mask, batch.video_index)
        output, targets = gather(fabric, ModelOutput(*predicted), batch.targets)
        losses = compute_losses(output, targets, recipe.losses, recipe.losses.recipe)
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
        parts = {name: getattr(losses, name) for name in LOSSES}
        values = {name: float(loss.detach()) for name, loss in parts.items() if loss is not None}
        total = float(losses.total.detach())
        if not torch.isfinite(torch.tensor(total)):
            raise TrainingError(
                f"{self._folder.path}: the loss is {total} at step {self._state.step}; lower optimizer.lr, or train "
                f"with training.precision=32"
            )
        return {"lr": rate, "total": total, **values, "waiting": waiting}

    def _validate(self, log: Log | None) -> None:
        """Scores the model in the first process; keeps it as the last, and as the best if it is."""
        fabric, state, source = self._fabric, self._state, self._source
        if fabric.global_rank == 0:
            model = self._module if self._ema is None else self._ema.module
            assert isinstance(model, R2Tuning)  # AveragedModel says no more than Module
            config = describe_model(self._recipe, model)
            metrics = evaluate_model(model, config, source.validation, source.benchmark, source.store)
            if log is not None:
                log.write(state.step, state.epoch, metrics)
            self._tell(metrics)
            weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
            self._folder.save_model(self._folder.last, weights, config)
            score = metrics[source.benchmark.main_metric]
            if score > state.best_score:
                state.best_score, state.best_metrics = score, metrics
                self._folder.save_model(self._folder.best, weights, config)
        fabric.barrier()

    def _tell(self, values: Mapping[str, float]) -> None:
        if self._report is not None and self._fabric.global_rank == 0:
            steps = self._steps_per_epoch * self._recipe.training.epochs
            self._report(Report(self._state.step, steps, self._state.epoch, values))

    def _plan(self, epoch: int) -> list[list[Group]]:
        """This process's share of every batch of an epoch; what cannot be shared evenly is left out."""
        settings, data, fabric = self._recipe.training, self._recipe.data, self._fabric
        world, rank = fabric.world_size, fabric.global_rank
        plan = self._data.plan_epoch(epoch, settings.batch_size * world, data.queries_per_video, data.repeat)
        shares = [batch[rank * (len(batch) // world) : (rank + 1) * (len(batch) // world)] for batch in plan]
        return [share for share in shares if share]

    def _save(self) -> None:
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
        for name in vars(self._state):
            setattr(self._state, name, saved[name])
        self._module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        if self._ema is not None:
            self._ema.load_state_dict(saved["ema"])
        precision = self._fabric.strategy.precision
        if isinstance(precision, MixedPrecision):
            precision.load_state_dict(saved["scaler"])


def build_model(recipe: Recipe, source: Source) -> R2Tuning:
    """The model that a run begins with: random from the seed, or the weights of another checkpoint.

    Raises:
        TrainingError: If features have fewer layers than the recipe wants, or the other checkpoint another shape.
    """
    store = source.store
    if store.layers < recipe.model.layers:
        raise TrainingError(
            f"{store.folder}: features have {store.layers} layers, the recipe wants {recipe.model.layers}; "
            f"set model.layers, or extract more"
        )
    config = recipe.model.model_copy(update={"video_width": store.video_width, "query_width": store.query_width})
    torch.manual_seed(recipe.training.seed)
    model = R2Tuning(config)
    if recipe.training.start_from is not None:
        name = recipe.training.start_from
        old = resolve(name)[1]
        free = {"dropout", "drop_path"}
        if old.config.model_dump(exclude=free) != config.model_dump(exclude=free):
            raise TrainingError(f"{name}: has another shape ({old.config}) than the recipe ({config}); set model.*")
        model.load_state_dict(old.state_dict())
    # The saliency family has no offsets to scale, so this never gets a gradient.
    model.level_scale.requires_grad_(config.family == "grounding")
    return model


def describe_model(recipe: Recipe, model: R2Tuning) -> CheckpointConfig:
    """What the checkpoint of a run says."""
    return CheckpointConfig(
        name=recipe.name,
        model=model.config,
        backbone=recipe.backbone,
        fps=recipe.fps,
        window=recipe.window,
        decoding=recipe.decoding,
        provenance=Provenance(source=f"trained with recipe {recipe.name}", created_with=__version__),
    )


def _launch(recipe: Recipe) -> Fabric:
    settings = recipe.training
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
def _stop_signals() -> Iterator[threading.Event]:
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
