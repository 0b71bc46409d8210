"""``r2tuning reproduce``: a published result, from the download to the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.download import announce_files, show_bytes
from r2tuning.cli.evaluate import place_data, report, run_model
from r2tuning.cli.options import DeviceOption
from r2tuning.cli.score_table import print_scores
from r2tuning.cli.train import OverridesOption, describe_report

if TYPE_CHECKING:
    from r2tuning.training.config import Recipe
    from r2tuning.training.loop import Report


def reproduce(
    name: Annotated[str, typer.Argument(help="A published checkpoint; `r2tuning models` lists them.", metavar="NAME")],
    to: Annotated[
        Path | None, typer.Option(help="Folder of the benchmark's files and of the runs; by default in the cache.")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Also train new models, and show mean and deviation of the seeds.")
    ] = False,
    overrides: OverridesOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of trainings, with seeds from 0; needs --train.")] = 3,
    device: DeviceOption = None,
) -> None:
    """Reproduce a published result: download the benchmark and the checkpoint, ground every query, compare the scores.

    Run it again after an interruption: it continues where it stopped. --set changes the recipe for --train.

    Example: r2tuning reproduce charades-sta --to data/charades
    """
    from r2tuning.checkpoints.published import find_published
    from r2tuning.datasets import find_benchmark
    from r2tuning.datasets.download import download_benchmark
    from r2tuning.evaluation.splits import open_split
    from r2tuning.training.recipes import load_recipe

    recipe = load_recipe(find_published(name).name, overrides or ())
    benchmark = find_benchmark(recipe.data.benchmark)
    folder = download_benchmark(benchmark, to, announce=announce_files, progress=show_bytes)
    recipe = place_data(recipe, folder, folder)
    data = open_split(recipe.data, fps=recipe.fps)
    model, predictions = run_model(data, recipe.name, False, device)
    report(recipe.name, data, model, predictions)
    if train:
        _train(recipe, folder / "runs" / recipe.name, seeds)


def _train(recipe: Recipe, folder: Path, seeds: int) -> None:
    from r2tuning.ablation.grid import train_seeds
    from r2tuning.ablation.table import summarize_runs
    from r2tuning.checkpoints.published import find_published

    def show(seed: int, report: Report) -> None:
        typer.echo(f"seed {seed}, step {report.step} of {report.steps}: {describe_report(report)}", err=True)

    typer.echo(f"Training with {seeds} seeds in {folder}", err=True)
    runs = train_seeds(recipe, folder, range(seeds), show)
    if runs is None:
        typer.echo("stopped; run the same command again to continue", err=True)
        raise typer.Exit(130)
    title = f"{recipe.name} trained again, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    print_scores(title, summarize_runs(runs), find_published(recipe.name).scores, "trained")
