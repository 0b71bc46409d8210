"""``r2tuning reproduce``: a published result, from the download to the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.download import announce_files, show_bytes
from r2tuning.cli.evaluate import ask, place_data, report
from r2tuning.cli.score_table import print_spread
from r2tuning.cli.train import describe_report

if TYPE_CHECKING:
    from r2tuning.training.config import Recipe
    from r2tuning.training.loop import Report


def reproduce(
    name: Annotated[str, typer.Argument(help="A published checkpoint; `r2tuning models` lists them.", metavar="NAME")],
    to: Annotated[
        Path | None, typer.Option(help="Folder of the benchmark's files and of the runs; by default in the cache.")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Also train anew, and show mean and deviation of the seeds.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value of the recipe, for --train; may be given again.", metavar="KEY=VALUE"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of trainings, with seeds from 0; needs --train.")] = 3,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 …; the GPU by default where there is one.")
    ] = None,
) -> None:
    """Reproduce a published result: download the benchmark and the checkpoint, answer every query, compare the scores.

    Run it again after an interruption: it goes on where it stopped.

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
    data = open_split(recipe)
    model, answers = ask(data, recipe.name, False, device)
    report(data, model, answers, None, bins=False, force=False)
    if train:
        _train(recipe, folder / "runs" / recipe.name, seeds)


def _train(recipe: Recipe, folder: Path, seeds: int) -> None:
    from r2tuning.checkpoints.published import find_published
    from r2tuning.training.seeds import summarize_runs, train_seeds

    typer.echo(f"Training with {seeds} seeds in {folder}", err=True)
    runs = train_seeds(recipe, folder, range(seeds), _tell)
    if runs is None:
        typer.echo("stopped; run the same command again to go on", err=True)
        raise typer.Exit(130)
    title = f"{recipe.name} trained anew, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    print_spread(title, summarize_runs(runs), find_published(recipe.name).scores)


def _tell(seed: int, told: Report) -> None:
    typer.echo(f"seed {seed}, step {told.step} of {told.steps}: {describe_report(told)}", err=True)
