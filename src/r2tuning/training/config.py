"""A recipe: all settings of a training run, checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from r2tuning.decoding.decode import DecodingConfig
from r2tuning.evaluation.splits import DataConfig, Renamed
from r2tuning.model.config import R2Config
from r2tuning.training.losses import PAPER_WEIGHTS, LossWeights
from r2tuning.training.losses import Recipe as LossRecipe

Precision = Annotated[Literal["auto", "32", "16-mixed", "bf16-mixed"], BeforeValidator(str)]  # 32 is a number in YAML


class Section(BaseModel):
    """A part of a recipe: frozen, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class LossConfig(LossWeights):
    """Factors and form of the losses.

    Attributes:
        recipe: ``released``, as the published checkpoints were trained, or ``paper``, whose defaults are the paper's
            factors (`PAPER_WEIGHTS`).

    Example:
        >>> paper = LossConfig(recipe="paper", saliency=0.2)
        >>> paper.focal_alpha, paper.offset, paper.saliency
        (0.9, 0.1, 0.2)
    """

    recipe: LossRecipe = "released"

    @model_validator(mode="before")
    @classmethod
    def _default_to_paper(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("recipe") == "paper":
            return {"focal_alpha": PAPER_WEIGHTS.focal_alpha, "offset": PAPER_WEIGHTS.offset, **values}
        return values


class OptimizerConfig(Section):
    """AdamW with a linear warm-up and steps down.

    Attributes:
        lr: Learning rate after warm-up.
        weight_decay: On every parameter.
        warmup_steps: Steps over which the rate rises to ``lr``.
        warmup_factor: Share of ``lr`` at the first step.
        drop_epochs: Epochs (from 0) at whose start the rate is multiplied by ``drop_factor``.
        drop_factor: Factor of each drop.
        clip_norm: Largest norm of all gradients.
    """

    lr: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_steps: int = Field(default=500, ge=0)
    warmup_factor: float = Field(default=1e-3, gt=0, le=1)
    drop_epochs: tuple[int, ...] = ()
    drop_factor: float = Field(default=0.1, gt=0)
    clip_norm: float = Field(default=35.0, gt=0)


class TrainingConfig(Section):
    """How the run goes.

    Attributes:
        epochs: Passes over the data.
        batch_size: Queries in a batch of one process.
        seed: Of weights, order, dropout and sampled frames.
        fused: Project and pool patches a few frames at a time: the same numbers in a fraction of the time and memory,
            with chances of dropout rounded to 1/256. Off takes the way that spells out the paper.
        precision: ``auto`` is ``16-mixed`` on a GPU, as published, and ``32`` on the CPU.
        ema: Decay of a moving average of the weights, which is validated and saved instead; None for none.
        validate_every: Epochs between validations.
        log_every: Steps between rows of the log.
        checkpoint_every: Steps between saved states, from which an interrupted run resumes.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        devices: Processes on each machine, one per GPU.
        nodes: Machines.
        start_from: Checkpoint to initialize from: published name, folder or ``.pth``; None for random weights.
    """

    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=32, ge=1)
    seed: int = Field(default=0, ge=0)
    fused: bool = True
    precision: Precision = "auto"
    ema: float | None = Field(default=None, gt=0, lt=1)
    validate_every: int = Field(default=1, ge=1)
    log_every: int = Field(default=10, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    start_from: str | None = None


class Recipe(Section):
    """A whole training run.

    Attributes:
        name: Of the model, shown in results.
        backbone: Hub name or folder of the CLIP whose features the model reads.
        fps: Frames per second, of custom data and of the videos that the model will ground in.
        window: Seconds; longer videos are covered by overlapping windows of this length.
        model: Shape; the widths are taken from the features.
        decoding: Rounding and suppression of moments.
        data: What to train on.
        losses: What to minimize.
        optimizer: How to minimize it.
        training: How the run goes.

    Raises:
        pydantic.ValidationError: If a field is unknown or out of range.
    """

    name: Renamed = Field(min_length=1)
    backbone: str = "openai/clip-vit-base-patch32"
    fps: float = Field(default=0.5, gt=0)
    window: float = Field(default=150, gt=0)
    model: R2Config = R2Config()
    decoding: DecodingConfig = DecodingConfig()
    data: DataConfig = DataConfig()
    losses: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()


def learning_rate(step: int, epoch: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then steps down at the starts of epochs.

    Args:
        step: Number of the step in the whole run, from 0.
        epoch: Number of its epoch, from 0.
        config: Rate, warm-up and drops.

    Returns:
        The rate.

    Example:
        >>> config = OptimizerConfig(lr=1.0, warmup_steps=10, warmup_factor=0.1, drop_epochs=(2,), drop_factor=0.5)
        >>> [learning_rate(step, epoch, config) for step, epoch in ((0, 0), (5, 0), (10, 0), (30, 2))]
        [0.1, 0.55, 1.0, 0.5]
    """
    rate = config.lr * config.drop_factor ** sum(epoch >= drop for drop in config.drop_epochs)
    if step >= config.warmup_steps:
        return rate
    return rate * (config.warmup_factor + (1 - config.warmup_factor) * step / config.warmup_steps)
