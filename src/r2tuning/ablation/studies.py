"""The ablations of the paper (Sec. 4.4) as grids, and scores by the length of queries."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from r2tuning.ablation.grid import Axis, cross
from r2tuning.ablation.table import Cell
from r2tuning.backbones import choose_device
from r2tuning.checkpoints import read_checkpoint
from r2tuning.datasets import find_benchmark
from r2tuning.errors import RecipeError
from r2tuning.evaluation.predict import predict_split
from r2tuning.evaluation.score import score_query_lengths
from r2tuning.evaluation.splits import open_split
from r2tuning.training.config import Recipe
from r2tuning.training.recipes import load_recipe
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
