"""``r2tuning train``: train a model by a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from r2tuning.cli.progress import show_progress
from r2tuning.cli.score_table import print_scores

if TYPE_CHECKING:
    from r2tuning.training.config import Recipe
    from r2tuning.training.loop import Report

OverridesOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key of the recipe; may be repeated.", metavar="KEY=VALUE"),
]


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, such as charades-sta or custom, or a YAML file.")],
    overrides: OverridesOption = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run: checkpoints, log, state.  [default: runs/NAME]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
) -> None:
    """Train a model on a benchmark's features, or on your videos, whose features are made first.

    Example: r2tuning train custom --set data.annotations=moments.csv --set data.videos=clips --set training.epochs=20
    """
    from r2tuning.training.loop import train as run_training
    from r2tuning.training.recipes import load_recipe

    checked = load_recipe(recipe, overrides or ())
    folder = run or Path("runs") / checked.name
    make_features(checked)
    with show_training(TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[status]}")) as show:
        trained = run_training(
            checked,
            folder,
            resume=resume,
            report=lambda report: show("Training", f"epoch {report.epoch + 1}", report),
        )
    if not trained.main:
        return
    if not trained.finished:
        typer.echo(
            f"stopped; the state is saved, continue with: r2tuning train {recipe} … --run {folder} --resume", err=True
        )
        raise typer.Exit(130)
    print_scores(f"{checked.name}, best validation", trained.metrics, {})
    typer.echo(f"Best checkpoint: {trained.best}")


@contextmanager
def show_training(*columns: ProgressColumn) -> Iterator[Callable[[str, str, Report], None]]:
    """A bar for the current run, and a line for every validation; yields a function of label, line and report."""
    console = Console(stderr=True)
    first = TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("steps")
    with Progress(*first, *columns, console=console, disable=not console.is_terminal) as progress:
        # Only the main process gets reports.
        task = progress.add_task("", total=None, status="", visible=False)

        def show(label: str, line: str, report: Report) -> None:
            status, done, steps = describe_report(report), report.step, report.steps
            progress.update(task, description=escape(label), completed=done, total=steps, status=status, visible=True)
            if "total" not in report.values:
                console.print(f"{line}: {status}", markup=False, highlight=False, soft_wrap=True)

        yield show


def make_features(recipe: Recipe) -> None:
    """Makes missing features of custom videos."""
    from r2tuning.training.source import prepare_features

    try:
        with show_progress("Features", "videos") as progress:
            prepare_features(recipe, progress)
    except KeyboardInterrupt:
        typer.echo("stopped; the features made so far are kept; run the same command again to continue", err=True)
        raise typer.Exit(130) from None


def describe_report(report: Report) -> str:
    """Losses of a step, or the main numbers of a validation, on one line.

    Example:
        >>> from r2tuning.training.loop import Report
        >>> describe_report(Report(10, 90, 0, {"lr": 5e-4, "total": 1.25, "classification": 1.0, "waiting": 0.02}))
        'epoch 1 · total 1.250 · cls 1.000 · lr 5.0e-04 · waiting 2%'
        >>> describe_report(Report(90, 90, 0, {"MR-full-mAP": 41.5, "MR-full-R1@0.5": 60.0}))
        'mAP 41.50 · R1@0.5 60.00'
    """
    values = report.values
    if "total" not in values:
        shown = {name.removeprefix("MR-full-"): value for name, value in values.items()}
        names = [name for name in ("mAP", "R1@0.5", "R1@0.7", "mIoU", "HL-min-VeryGood-mAP") if name in shown]
        return " · ".join(f"{name} {shown[name]:.2f}" for name in names)
    short = {
        "total": "total",
        "classification": "cls",
        "offset": "reg",
        "saliency": "sal",
        "video_calibration": "video",
        "layer_calibration": "layer",
    }
    parts = [f"{label} {values[name]:.3f}" for name, label in short.items() if name in values]
    tail = [f"lr {values['lr']:.1e}", f"waiting {values['waiting']:.0%}"]
    return " · ".join([f"epoch {report.epoch + 1}", *parts, *tail])
