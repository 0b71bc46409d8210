"""Recipes: all settings of a training run, checked, and the files that hold those that differ from the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from r2tuning.decoding.decode import DecodingConfig
from r2tuning.errors import RecipeError
from r2tuning.evaluation.splits import DataConfig, Renamed
from r2tuning.files import MOST_SETTINGS, guard, read_file
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

    lr: float = Field(default=5e-4, gt=0, le=1e6)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_steps: int = Field(default=500, ge=0, le=10**9)
    warmup_factor: float = Field(default=1e-3, gt=0, le=1)
    drop_epochs: tuple[int, ...] = Field(default=(), max_length=1000)
    drop_factor: float = Field(default=0.1, gt=0)
    clip_norm: float = Field(default=35.0, gt=0)


class TrainingConfig(Section):
    """How the run goes.

    Attributes:
        batch_size: Queries in a batch of one process.
        seed: Of weights, order, dropout and sampled frames.
        precision: ``auto`` is ``16-mixed`` on a GPU, as published, and ``32`` on the CPU.
        ema: Decay of a moving average of the weights, which is validated and saved instead; None for none.
        validate_every: Epochs between validations.
        log_every: Steps between rows of the log.
        checkpoint_every: Steps between saved states, from which an interrupted run resumes.
        devices: Processes on each machine, one per GPU.
        nodes: Number of machines.
        start_from: Checkpoint to initialize from: published name, folder or ``.pth``; None for random weights.
    """

    epochs: int = Field(default=30, ge=1, le=10**6)
    batch_size: int = Field(default=32, ge=1, le=10**5)
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Precision = "auto"
    ema: float | None = Field(default=None, gt=0, lt=1)
    validate_every: int = Field(default=1, ge=1, le=10**9)
    log_every: int = Field(default=10, ge=1, le=10**9)
    checkpoint_every: int = Field(default=200, ge=1, le=10**9)
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(default=1, ge=1, le=1024)
    nodes: int = Field(default=1, ge=1, le=4096)
    start_from: str | None = None


class Recipe(Section):
    """All settings of a training run.

    Attributes:
        name: Of the model, shown in results.
        backbone: Hub name or folder of the backbone whose features the model reads.
        fps: Frames per second, of custom data and of the videos that the model will ground in.
        window: Seconds; longer videos are covered by overlapping windows of this length.
        model: Its widths are replaced by those of the features.
    """

    name: Renamed = Field(min_length=1)
    backbone: str = "openai/clip-vit-base-patch32"
    fps: float = Field(default=0.5, gt=0, le=1000)
    window: float = Field(default=150, gt=0, le=1e8)
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


_FOLDER = Path(__file__).parents[1] / "recipes"


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package, such as ``charades-sta`` and ``tvsum/BK``."""
    return sorted(file.relative_to(_FOLDER).with_suffix("").as_posix() for file in _FOLDER.rglob("*.yaml"))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe of the package or a YAML file, which may start with ``extends: NAME``.

    Overrides are ``key=value`` with dotted keys, such as ``optimizer.lr=1e-4``; values are YAML.
    """
    values = _read(str(name), ())
    if isinstance(training := values.get("training"), dict):
        training.pop("fused", None)  # a switch of earlier versions, in their run folders
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {override}: write key=value, such as optimizer.lr=1e-4")
        with guard(f"--set {override}: not a YAML value", RecipeError, "correct it"):
            value = yaml.safe_load(text)
            for part in reversed(key.split(".")):
                value = {part: value}
            values = _merge(values, value)
    with guard(name, RecipeError, "correct it", Recipe):
        return Recipe.model_validate(values)


def write_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML that `load_recipe` reads."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise RecipeError(f"{name}: extends itself ({' → '.join((*seen, name))}); break the circle")
    values = _parse(name)
    base = values.pop("extends", None)
    if base is None:
        return values
    beside = Path(name).parent / str(base)
    # Paths are relative to the file that names them.
    other = str(beside) if Path(name).is_file() and beside.is_file() and str(base) not in list_recipes() else str(base)
    return _merge(_read(other, (*seen, name)), values)


def _parse(name: str) -> dict[str, Any]:
    known = list_recipes()
    # A recipe of the package wins; a file of the same name is reached by ./NAME.
    exact = {recipe.lower(): recipe for recipe in known}
    with guard(name, RecipeError, "correct the file"):
        if name.lower() in exact:
            path = _FOLDER / f"{exact[name.lower()]}.yaml"
        elif not (path := Path(name)).exists():
            near = get_close_matches(name.lower(), exact, n=1, cutoff=0.6)
            hint = f"did you mean {exact[near[0]]}?" if near else f"give a YAML file or one of {', '.join(known)}"
            raise RecipeError(f"{name}: no such recipe; {hint}")
        text = read_file(path, RecipeError, "check the file", MOST_SETTINGS).decode()
        try:
            values = yaml.safe_load(text) or {}
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"not YAML ({error})") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{name}: holds {type(values).__name__}, not keys and values; correct the file")
    return values


def _merge(base: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged
