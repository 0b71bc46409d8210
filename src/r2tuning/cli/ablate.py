"""``r2tuning ablate``: train a grid of settings and compare their scores."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import TimeRemainingColumn

from r2tuning.ablation.table import (
    Ablation,
    Cell,
    caption,
    count_settings,
    describe_ablation,
    format_markdown,
    tabulate,
)
from r2tuning.cli.options import ForceOption
from r2tuning.cli.score_table import ScoresJsonOption, print_table, write_scores
from r2tuning.cli.train import OverridesOption, make_features, show_training
from r2tuning.errors import OutputError
from r2tuning.files import check_target, write_atomically

if TYPE_CHECKING:
    from r2tuning.training.loop import Report

TABLE = "table.md"
TABLE_JSON = "table.json"


def ablate(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file: what all cells have in common.")],
    overrides: OverridesOption = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="Values of a key to compare; if repeated, all combinations.", metavar="KEY=V1,V2,…"),
    ] = None,
    paper: Annotated[
        Literal["refinement", "calibration", "baseline", "lengths"] | None,
        typer.Option(
            help="A comparison of the paper. refinement: the order and number of layers (Fig. 7); "
            "calibration: its losses on and off (Table 5); baseline: the last layer alone against the recipe; lengths: "
            "MR mAP by words of the query (Table 6)."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each cell, with seeds from 0.")] = 3,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the runs and tables.  [default: runs/NAME-ablation]", metavar="DIR")
    ] = None,
    json: ScoresJsonOption = None,
    force: ForceOption = False,
) -> None:
    """Train a recipe under several settings with several seeds, and compare mean and deviation of their scores.

    Run it again after an interruption: finished runs are read, and it continues where it stopped.

    Example: r2tuning ablate charades-sta --vary model.layers=1,2,4 --vary losses.recipe=released,paper --seeds 5
    """
    if not vary and paper is None:
        raise typer.BadParameter("say what to compare: --vary KEY=V1,V2,… or --paper", param_hint="--vary")
    if json not in (None, "-"):
        check_target(json, force=force)

    from r2tuning.ablation.grid import Axis, count_layers, cross, load_cells, plan_features, run_ablation
    from r2tuning.ablation.studies import plan_study, score_lengths
    from r2tuning.training.recipes import load_recipe

    base = load_recipe(recipe, overrides or ())
    layers = count_layers(base) if paper == "refinement" else base.model.layers
    cells = [Cell()] if paper is None else plan_study(paper, base, layers)
    cells = cross(cells, [Axis.parse(text) for text in vary or ()])
    recipes = load_cells(recipe, overrides or (), cells)
    folder = run or Path("runs") / f"{base.name}-{paper or 'ablation'}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another --run folder") from error
    for wanted in plan_features(recipes):
        make_features(wanted)
    with show_training(TimeRemainingColumn()) as show:

        def show_cell(cell: Cell, seed: int, report: Report) -> None:
            label = f"{cell.title}, seed {seed}"
            show(label, f"{label}, step {report.step} of {report.steps}", report)

        done = run_ablation(
            list(zip(cells, recipes, strict=True)),
            folder,
            range(seeds),
            measure=score_lengths if paper == "lengths" else None,
            report=show_cell,
            save=partial(_save, base.name, seeds, folder),
        )
    _show(done, base.name, seeds, folder, json, force)


def _save(name: str, seeds: int, folder: Path, so_far: Ablation) -> None:
    write_atomically(folder / TABLE, format_markdown(so_far, name, seeds), force=True)
    write_scores(str(folder / TABLE_JSON), describe_ablation(so_far, name, seeds), force=True)


def _show(done: Ablation, name: str, seeds: int, folder: Path, json: str | None, force: bool) -> None:
    if json is not None and not done.left:  # half a table would block the command that continues
        write_scores(json, describe_ablation(done, name, seeds), force=force)
    if json != "-":
        headings, rows = tabulate(done, name)
        print_table(caption(done, name, seeds), headings, rows, names=count_settings(done))
    for cell, reason in done.failed:
        typer.echo(f"failed: {cell.title}: {reason}", err=True)
    if done.left:
        typer.echo(f"stopped with {done.left} cells left; run the same command again to continue", err=True)
        raise typer.Exit(130)
    typer.echo(f"Tables: {folder / TABLE}, {folder / TABLE_JSON}", err=True)
    if done.failed:
        raise typer.Exit(1)
