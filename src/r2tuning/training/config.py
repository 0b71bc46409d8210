"""A recipe: all settings of a training run, checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from r2tuning.decoding.decode import DecodingConfig
from r2tuning.evaluation.splits import DataConfig, Renamed
from r2tuning.model.config import R2Config
from r2tuning.training.losses import LossConfig

Precision = Annotated[Literal["auto", "32", "16-mixed", "bf16-mixed"], BeforeValidator(str)]  # 32 is a number in YAML


class Section(BaseModel):
    """A part of a recipe: frozen, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class OptimizerConfig(Section):
    """AdamW; the rate rises from ``warmup_factor * lr`` to ``lr``, and is multiplied by ``drop_factor`` at drop epochs.

    Epochs count from 0; ``clip_norm`` is the largest norm of all gradients together.
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
        batch_size: Queries in a batch of one process.
        seed: Of weights, order, dropout and sampled frames.
        fused: Project and pool patches a few frames at a time: the same numbers in a fraction of the time and memory,
            with chances of dropout rounded to 1/256. Off takes the way that spells out the paper.
        precision: ``auto`` is ``16-mixed`` on a GPU, as published, and ``32`` on the CPU.
        ema: Decay of a moving average of the weights, which is validated and saved instead; None for none.
        validate_every: Epochs between validations.
        log_every: Steps between rows of the log.
        checkpoint_every: Steps between saved states, from which an interrupted run resumes.
        devices: Processes on each machine, one per GPU.
        nodes: Number of machines.
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
    """All settings of a training run.

    Attributes:
        name: Of the model, shown in results.
        backbone: Hub name or folder of the CLIP whose features the model reads.
        fps: Frames per second, of custom data and of the videos that the model will ground in.
        window: Seconds; longer videos are covered by overlapping windows of this length.
        model: Its widths are replaced by those of the features.
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
    """Linear warm-up, then steps down at the starts of epochs; steps and epochs of the whole run count from 0.

    Example:
        >>> config = OptimizerConfig(lr=1.0, warmup_steps=10, warmup_factor=0.1, drop_epochs=(2,), drop_factor=0.5)
        >>> [learning_rate(step, epoch, config) for step, epoch in ((0, 0), (5, 0), (10, 0), (30, 2))]
        [0.1, 0.55, 1.0, 0.5]
    """
    rate = config.lr * config.drop_factor ** sum(epoch >= drop for drop in config.drop_epochs)
    if step >= config.warmup_steps:
        return rate
    return rate * (config.warmup_factor + (1 - config.warmup_factor) * step / config.warmup_steps)
