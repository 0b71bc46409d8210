"""Trains a recipe over a grid of settings, each with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import torch

from r2tuning.ablation.table import Ablation, Cell, CellResult, summarize_runs
from r2tuning.errors import R2TuningError, RecipeError
from r2tuning.features.store import STORE_FILE, FeatureStore
from r2tuning.training.config import Recipe
from r2tuning.training.loop import Report, train
from r2tuning.training.recipes import load_recipe, write_recipe
from r2tuning.training.run_folder import RECIPE_FILE


@dataclass(frozen=True)
class Axis:
    """A dotted key of the recipe, such as ``model.layers``, and the values it takes in turn, as YAML."""

    key: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Reads ``KEY=V1,V2,…``; commas inside brackets belong to a value.

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


def cross(cells: Sequence[Cell], axes: Sequence[Axis]) -> list[Cell]:
    """Every cell with every combination of the axes' values, the last axis changing fastest.

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
    """The recipe of each cell (see `load_recipe`), checked before any is trained."""
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
    """K of the features, or of the recipe if its features are not made yet."""
    folder = recipe.data.feature_folder
    if recipe.data.videos is not None and not (folder / STORE_FILE).is_file():
        return recipe.model.layers
    return FeatureStore.open(folder).layers


def plan_features(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The recipes whose features to prepare so that every cell finds its own, with the layers of the deepest cell."""
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

    A failed cell does not stop the others. Ctrl-C ends the run after the current step. The folder receives a folder for
    each cell, with a run folder ``seed-N`` for each seed. ``measure`` finds the metrics of a run folder, in percent, if
    not those of its best validation. ``save`` is called after every cell with the grid so far.
    """
    results: list[CellResult] = []
    failed: list[tuple[Cell, str]] = []
    so_far = Ablation((), (), len(grid))
    for cell, recipe in grid:
        place = folder / cell.folder
        try:
            runs = train_seeds(recipe, place, seeds, None if report is None else partial(report, cell))
            if runs is None:
                break
            measured = runs if measure is None else [measure(place / f"seed-{seed}") for seed in seeds]
            results.append(CellResult(cell, summarize_runs(measured), tuple(measured)))
        except R2TuningError as error:
            failed.append((cell, str(error)))
        except torch.OutOfMemoryError as error:
            first_line = str(error).partition("\n")[0]
            failed.append((cell, f"{first_line}; lower training.batch_size"))
        so_far = Ablation(tuple(results), tuple(failed), so_far.left - 1)
        if save is not None:
            save(so_far)
    return so_far


def train_seeds(
    recipe: Recipe, folder: Path, seeds: Sequence[int], report: Callable[[int, Report], None] | None = None
) -> list[dict[str, float]] | None:
    """Trains once with each seed in ``folder/seed-N``; finished runs are read, and interrupted ones resume.

    Returns the metrics of the best validation of each run, in percent; None if a run was stopped before its end.
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
