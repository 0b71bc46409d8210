"""``r2tuning train`` and ``ablate``: one training run, and a grid of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

from r2tuning.ablation.table import (
    Ablation,
    Cell,
    caption,
    count_settings,
    describe_ablation,
    format_markdown,
    tabulate,
)
from r2tuning.cli.options import ForceOption, show_progress
from r2tuning.cli.score import ScoresJsonOption, print_scores, print_table, write_scores
from r2tuning.errors import OutputError, R2TuningWarning, show_on_one_line
from r2tuning.files import check_target, write_atomically

if TYPE_CHECKING:
    from r2tuning.evaluation.splits import OpenSplit
    from r2tuning.training.loop import Report
    from r2tuning.training.recipes import Recipe


FEW_QUERIES = 20
"""Fewer than this are too few to learn from, or to tell a good model from a lucky one."""

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
            announce=announce_splits,
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


def announce_splits(training: OpenSplit, validation: OpenSplit) -> None:
    """Says on stderr how much there is to train and to validate on, and whether that is too little."""
    parts = (
        f"{len(split.annotations)} queries on {len({a.vid for a in split.annotations})} videos"
        for split in (training, validation)
    )
    typer.echo("Training on {}, validating on {}".format(*parts), err=True)
    for purpose, split in (("train", training), ("validate", validation)):
        if (count := len(split.annotations)) < FEW_QUERIES:
            few = f"{count} {'query is' if count == 1 else 'queries are'} few to {purpose} on"
            warnings.warn(
                f"{few}, so scores will say little; give {FEW_QUERIES} or more", R2TuningWarning, stacklevel=2
            )


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
            elif report.last and not console.is_terminal:
                typer.echo(f"step {done} of {steps}: {status}", err=True)

        yield show


def make_features(recipe: Recipe) -> None:
    """Makes missing features of custom videos."""
    from r2tuning.training.build import prepare_features

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

    from r2tuning.ablation.grid import (
        Axis,
        count_layers,
        cross,
        load_cells,
        plan_features,
        plan_study,
        run_ablation,
        score_lengths,
    )
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
        typer.echo(show_on_one_line(f"failed: {cell.title}: {reason}"), err=True)
    if done.left:
        typer.echo(f"stopped with {done.left} cells left; run the same command again to continue", err=True)
        raise typer.Exit(130)
    typer.echo(f"Tables: {folder / TABLE}, {folder / TABLE_JSON}", err=True)
    if done.failed:
        raise typer.Exit(1)
