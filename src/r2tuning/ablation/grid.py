"""Trains a recipe over a grid of settings, each with several seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path

import torch

from r2tuning.ablation.table import Spread, summarize_runs
from r2tuning.errors import R2TuningError, RecipeError
from r2tuning.features.store import STORE_FILE, FeatureStore
from r2tuning.training.config import Recipe
from r2tuning.training.loop import Report, train
from r2tuning.training.recipes import load_recipe, write_recipe
from r2tuning.training.run_folder import RECIPE_FILE

LONGEST_NAME = 100
"""Characters of a folder's name; file systems take 255 bytes."""


@dataclass(frozen=True)
class Axis:
    """A key of the recipe and the values it takes in turn.

    Attributes:
        key: Dotted, such as ``model.layers``.
        values: YAML, as after ``--set KEY=``.
    """

    key: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Reads ``KEY=V1,V2,…``; commas inside brackets belong to a value.

        Raises:
            RecipeError: If it is not of this form.

        Example:
            >>> Axis.parse("optimizer.drop_epochs=[20],[20,25]").values
            ('[20]', '[20,25]')
        """
        key, equals, listed = text.partition("=")
        values, depth = [""], 0
        for character in listed:
            depth += (character in "[{") - (character in "]}")
            if character == "," and depth == 0:
                values.append("")
            else:
                values[-1] += character
        axis = cls(key.strip(), tuple(value.strip() for value in values))
        if not equals or not axis.key or not all(axis.values):
            raise RecipeError(f"--vary {text}: write KEY=V1,V2,…, such as optimizer.lr=1e-4,3e-4")
        return axis


@dataclass(frozen=True)
class Cell:
    """One point of a grid.

    Attributes:
        settings: Keys and values that make it differ from the recipe.
    """

    settings: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """The settings as they were written.

        Example:
            >>> Cell((("model.layers", "2"), ("data.domain", "dog"))).title
            'model.layers=2, data.domain=dog'
        """
        return ", ".join(f"{key}={value}" for key, value in self.settings) or "recipe"

    @property
    def folder(self) -> str:
        """A unique name for the cell's folder, of letters, digits and ``._=,+-``.

        Example:
            >>> Cell((("model.layers", "2"), ("optimizer.lr", "1e-4"))).folder
            'model.layers=2,optimizer.lr=1e-4'
            >>> Cell((("backbone", "openai/clip"),)).folder
            'backbone=openai-clip-65b37026'
            >>> Cell().folder
            'recipe'
        """
        plain = ",".join(f"{key}={value}" for key, value in self.settings) or "recipe"
        safe = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", plain)
        if safe == plain and len(plain) <= LONGEST_NAME:
            return plain
        return f"{safe[:LONGEST_NAME]}-{sha256(plain.encode()).hexdigest()[:8]}"


def cross(cells: Sequence[Cell], axes: Sequence[Axis]) -> list[Cell]:
    """Every cell with every combination of the axes' values, the last axis changing fastest.

    Args:
        cells: The grid so far; ``[Cell()]`` for none.
        axes: What to vary in addition.

    Raises:
        RecipeError: If a key is varied twice, or is the seed.

    Example:
        >>> grid = cross([Cell()], [Axis("model.layers", ("1", "2")), Axis("data.repeat", ("1", "4"))])
        >>> [cell.folder for cell in grid][:3]
        ['model.layers=1,data.repeat=1', 'model.layers=1,data.repeat=4', 'model.layers=2,data.repeat=1']
    """
    keys = [key for key, _ in cells[0].settings] + [axis.key for axis in axes]
    for key in keys:
        if key == "training.seed":
            raise RecipeError("--vary training.seed: seeds are repetitions, not settings; use --seeds N")
        if keys.count(key) > 1:
            raise RecipeError(f"{key}: is varied twice; give all its values at once")
    combinations = list(product(*([(axis.key, value) for value in axis.values] for axis in axes)))
    return [Cell((*cell.settings, *choice)) for cell in cells for choice in combinations]


def load_cells(name: str | Path, overrides: Sequence[str], cells: Sequence[Cell]) -> list[Recipe]:
    """The recipe of each cell, checked before any is trained.

    Args:
        name: Of the recipe, or a YAML file.
        overrides: ``key=value``, for all cells.
        cells: The settings that differ.

    Raises:
        RecipeError: If a key or value is not valid, two cells are the same, or a cell needs several processes.
    """
    recipes = []
    seen: dict[str, Cell] = {}
    for cell in cells:
        recipe = load_recipe(name, [*overrides, *(f"{key}={value}" for key, value in cell.settings)])
        twin = seen.setdefault(write_recipe(recipe), cell)
        if twin is not cell:
            raise RecipeError(f"{twin.title} and {cell.title} are the same recipe; leave one out")
        if recipe.training.devices * recipe.training.nodes > 1:
            raise RecipeError(
                "training.devices: a grid trains one cell at a time in one process; to use several GPUs, run parts of "
                "it side by side, each with its own CUDA_VISIBLE_DEVICES and the same --run"
            )
        recipes.append(recipe)
    return recipes


def count_layers(recipe: Recipe) -> int:
    """K of the features, or of the recipe if its features are not made yet.

    Raises:
        FeatureError: If there are no features and no videos to make them from.
    """
    folder = recipe.data.feature_folder
    if recipe.data.videos is not None and not (folder / STORE_FILE).is_file():
        return recipe.model.layers
    return FeatureStore.open(folder).layers


def plan_features(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The recipes whose features to prepare so that every cell finds its own, with the layers of the deepest cell.

    Args:
        recipes: Of the cells; those without ``data.videos`` need nothing.

    Raises:
        RecipeError: If cells with different frame rates or backbones share a folder of features.
    """
    custom = [recipe for recipe in recipes if recipe.data.videos is not None]
    first: dict[Path, Recipe] = {}
    wanted: dict[object, Recipe] = {}
    for recipe in custom:
        place = recipe.data.feature_folder
        other = first.setdefault(place, recipe)
        for what in ("fps", "backbone"):
            if getattr(recipe, what) != getattr(other, what):
                raise RecipeError(
                    f"{what}: cells that differ in it cannot share {place}; give each its own data.features"
                )
        layers = max(each.model.layers for each in custom if each.data.feature_folder == place)
        deepest = recipe.model_copy(update={"model": recipe.model.model_copy(update={"layers": layers})})
        wanted.setdefault((place, recipe.data.annotations, recipe.data.validation, recipe.data.videos), deepest)
    return list(wanted.values())


@dataclass(frozen=True)
class CellResult:
    """The scores of a cell.

    Attributes:
        cell: The cell.
        runs: Metrics of each seed, in percent.
    """

    cell: Cell
    runs: tuple[Mapping[str, float], ...]

    @property
    def spread(self) -> dict[str, Spread]:
        """Mean and standard deviation of every metric that all runs have."""
        return summarize_runs(self.runs)


@dataclass(frozen=True)
class FailedCell:
    """A cell that could not be trained.

    Attributes:
        cell: The cell.
        reason: One line.
    """

    cell: Cell
    reason: str


@dataclass(frozen=True)
class Ablation:
    """A grid and its results so far.

    Attributes:
        results: Of finished cells, in the order of the grid.
        failed: Cells that could not be trained.
        left: Number of cells not trained yet.
    """

    results: tuple[CellResult, ...]
    failed: tuple[FailedCell, ...]
    left: int


def run_ablation(
    grid: Sequence[tuple[Cell, Recipe]],
    folder: Path,
    seeds: Sequence[int],
    *,
    measure: Callable[[Path], Mapping[str, float]] | None = None,
    report: Callable[[Cell, int, Report], None] | None = None,
    save: Callable[[Ablation], None] | None = None,
) -> Ablation:
    """Trains every cell with every seed; finished runs are read, and interrupted ones resume.

    A failed cell does not stop the others. Ctrl-C ends the run after the current step.

    Args:
        grid: Cells and their recipes.
        folder: Receives a folder for each cell, with a run folder ``seed-N`` for each seed.
        seeds: Of the runs.
        measure: From a run folder to its metrics, in percent; None for those of its best validation.
        report: Called after steps and validations, with the cell and the seed.
        save: Called after every cell with the grid so far.

    Returns:
        The grid.
    """
    results: list[CellResult] = []
    failed: list[FailedCell] = []
    so_far = Ablation((), (), len(grid))
    for cell, recipe in grid:
        place = folder / cell.folder
        try:
            runs = train_seeds(recipe, place, seeds, None if report is None else partial(report, cell))
            if runs is None:
                break
            measured = runs if measure is None else [measure(place / f"seed-{seed}") for seed in seeds]
            results.append(CellResult(cell, tuple(measured)))
        except R2TuningError as error:
            failed.append(FailedCell(cell, str(error)))
        except torch.OutOfMemoryError as error:
            first_line = str(error).partition("\n")[0]
            failed.append(FailedCell(cell, f"{first_line}; lower training.batch_size"))
        so_far = Ablation(tuple(results), tuple(failed), so_far.left - 1)
        if save is not None:
            save(so_far)
    return so_far


def train_seeds(
    recipe: Recipe, folder: Path, seeds: Sequence[int], report: Callable[[int, Report], None] | None = None
) -> list[dict[str, float]] | None:
    """Trains once with each seed; finished runs are read, and interrupted ones resume.

    Args:
        recipe: What to train; its seed is replaced.
        folder: Receives a run folder ``seed-N`` for each seed.
        seeds: Of the runs.
        report: Called after steps and validations, with the seed.

    Returns:
        Metrics of the best validation of each run, in percent; None if a run was stopped before its end.

    Raises:
        TrainingError: If a run folder has a run of another recipe, or a run fails.
    """
    scores = []
    for seed in seeds:
        run = folder / f"seed-{seed}"
        seeded = recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": seed})})
        trained = train(
            seeded,
            run,
            resume=(run / RECIPE_FILE).is_file(),
            report=None if report is None else partial(report, seed),
        )
        if not trained.finished:
            return None
        scores.append(trained.metrics)
    return scores
