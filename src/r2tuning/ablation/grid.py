"""Trains a recipe over a grid of settings, each with several seeds; the ablations of the paper (Sec. 4.4) are grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import torch

from r2tuning.ablation.table import Ablation, Cell, CellResult, summarize_runs
from r2tuning.backbones import choose_device
from r2tuning.checkpoints import read_checkpoint
from r2tuning.datasets import find_benchmark
from r2tuning.errors import R2TuningError, RecipeError
from r2tuning.evaluation.predict import predict_split
from r2tuning.evaluation.score import score_query_lengths
from r2tuning.evaluation.splits import open_split
from r2tuning.features.store import STORE_FILE, FeatureStore
from r2tuning.training.loop import Report, train
from r2tuning.training.recipes import Recipe, load_recipe, write_recipe
from r2tuning.training.run_folder import RECIPE_FILE, RunFolder

Study = Literal["refinement", "calibration", "baseline", "lengths"]
"""``refinement``: Fig. 7; ``calibration``: Table 5; ``baseline``: the last layer alone; ``lengths``: Table 6."""


def plan_study(study: Study, recipe: Recipe, layers: int) -> list[Cell]:
    """The cells of one of the paper's ablations; ``layers`` is K of the features.

    Example:
        >>> for cell in plan_study("calibration", Recipe(name="mine"), 4):
        ...     print(cell.title)
        losses.video_calibration=0, losses.layer_calibration=0
        losses.video_calibration=0.1, losses.layer_calibration=0
        losses.video_calibration=0, losses.layer_calibration=0.1
        losses.video_calibration=0.1, losses.layer_calibration=0.1
    """
    if study == "refinement":
        if layers == 1:
            raise RecipeError(
                "the features have one layer, so there is nothing to refine; extract them with --layers 4"
            )
        # Four ways to use the last 1, 2, … K layers; with one layer all four are the same model, trained once.
        ways = Axis("model.refinement", ("reversed", "forward", "mean", "single"))
        depths = Axis("model.layers", tuple(str(depth) for depth in range(2, layers + 1)))
        return [Cell((("model.refinement", "reversed"), ("model.layers", "1"))), *cross([Cell()], [ways, depths])]
    if study == "calibration":
        return _calibrations(recipe)
    if study == "baseline":
        if recipe.model.layers == 1:
            raise RecipeError("model.layers is 1, so the recipe is already the baseline; set it higher")
        return cross([Cell()], [Axis("model.layers", ("1", str(recipe.model.layers)))])
    benchmark = find_benchmark(recipe.data.benchmark)
    if benchmark.task != "moments":
        raise RecipeError(f"{recipe.name}: {benchmark.name} has no moments to score by words; choose another recipe")
    return [Cell()]


def _calibrations(recipe: Recipe) -> list[Cell]:
    """Neither loss, each alone, and both."""
    keys = ("video_calibration", "layer_calibration")
    for key in keys:
        if getattr(recipe.losses, key) == 0:
            raise RecipeError(f"losses.{key} is 0, so there is nothing to turn off; set it above 0")
    return [
        Cell(tuple((f"losses.{key}", str(getattr(recipe.losses, key)) if key in on else "0") for key in keys))
        for on in ((), keys[:1], keys[1:], keys)
    ]


def score_lengths(run: Path) -> dict[str, float]:
    """MR mAP in percent of a run's best checkpoint on its validation split, by words in the query (Table 6)."""
    recipe = load_recipe(run / RECIPE_FILE)
    split = open_split(recipe.data, fps=recipe.fps, seed=recipe.training.seed)
    config, model = read_checkpoint(RunFolder(run).best)
    device = choose_device("cpu" if recipe.training.accelerator == "cpu" else None)
    scores = score_query_lengths(predict_split(split, config, model, device=device), split.annotations)
    return {f"{score.words} words": score.mean_ap for score in scores if score.mean_ap is not None}


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
