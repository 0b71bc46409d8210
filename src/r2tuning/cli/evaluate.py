"""``r2tuning evaluate``: a checkpoint's scores on a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.options import DeviceOption, ForceOption
from r2tuning.cli.progress import show_progress
from r2tuning.cli.score_table import BinsOption, ScoresJsonOption, check_scores, report_scores
from r2tuning.errors import MetricError, OutputError
from r2tuning.files import check_target, write_atomically

if TYPE_CHECKING:
    from r2tuning.evaluation.splits import OpenSplit
    from r2tuning.metrics import Prediction
    from r2tuning.training.config import Recipe

SUBMITTED = ("val", "test")
"""Splits that QVHighlights' server takes, in a file each."""

RecipeArgument = Annotated[str, typer.Argument(help="Recipe: which benchmark, and which part of it.", metavar="RECIPE")]
AnnotationsOption = Annotated[
    Path | None, typer.Option(help="Folder of the annotations; by default where `download` puts them.")
]
FeaturesOption = Annotated[
    Path | None, typer.Option(help="Folder of the features; by default that of the annotations.")
]


def evaluate(
    recipe: RecipeArgument,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", "-c", help="Published name, folder or .pth; by default the recipe's name."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="By default the split that papers report.")] = None,
    annotations: AnnotationsOption = None,
    features: FeaturesOption = None,
    predictions: Annotated[Path | None, typer.Option(help="Write the predictions to this .jsonl file.")] = None,
    submission: Annotated[
        Path | None, typer.Option(help="Folder to write the file that QVHighlights' server takes.", metavar="DIR")
    ] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Cover long videos with windows, as ground does; published: seen whole.")
    ] = False,
    bins: BinsOption = False,
    device: DeviceOption = None,
    json: ScoresJsonOption = None,
    force: ForceOption = False,
) -> None:
    """Score a checkpoint on a benchmark, and compare with what the authors report.

    Example: r2tuning evaluate charades-sta --checkpoint runs/mine/best
    """
    from r2tuning.evaluation.score import format_predictions

    plan, data = open_data(recipe, split, annotations, features)
    check_scores(data.benchmark, json, bins=bins, force=force)
    targets = _plan_files(data, predictions, submission, force)
    if not data.labelled and not targets:
        with_truth = data.benchmark.find_split(data.name).files[0]
        raise MetricError(
            f"the truth of the {data.name} split of {data.benchmark.name} is withheld; write predictions with "
            f"--predictions or --submission, or put {with_truth}, which has it, beside the annotations"
        )
    model_name, found = run_model(data, checkpoint or plan.name, windows, device)
    for target, most in targets:
        write_atomically(target, format_predictions(found, data.annotations, most=most), force=force)
        typer.echo(f"Predictions: {target}", err=True)
    if data.labelled:
        report(plan.name, data, model_name, found, json=json, bins=bins, force=force)
    else:
        typer.echo(f"The truth of this split is withheld: {len(found)} predictions, no scores.", err=True)


def open_data(
    name: str, split: str | None, annotations: Path | None, features: Path | None
) -> tuple[Recipe, OpenSplit]:
    """A recipe, with its data in other folders if they are given, and a split of it."""
    from r2tuning.evaluation.splits import open_split
    from r2tuning.training.recipes import load_recipe

    recipe = place_data(load_recipe(name), annotations, features)
    return recipe, open_split(recipe.data, split, fps=recipe.fps, seed=recipe.training.seed)


def place_data(recipe: Recipe, annotations: Path | None, features: Path | None) -> Recipe:
    """The recipe with its data in other folders; None keeps a folder."""
    places = {"annotations": annotations, "features": features}
    given = {name: folder for name, folder in places.items() if folder is not None}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=given)})


def run_model(data: OpenSplit, checkpoint: str, windows: bool, device: str | None) -> tuple[str, list[Prediction]]:
    """The name of a checkpoint's model, and its predictions."""
    from r2tuning.backbones import choose_device
    from r2tuning.checkpoints import read_checkpoint
    from r2tuning.evaluation.predict import predict_split

    where = choose_device(device)
    config, model = read_checkpoint(checkpoint)
    with show_progress("Grounding", "queries") as progress:
        return config.name, predict_split(data, config, model, windows=windows, device=where, progress=progress)


def report(
    recipe: str,
    data: OpenSplit,
    model: str,
    predictions: list[Prediction],
    *,
    json: str | None = None,
    bins: bool = False,
    force: bool = False,
) -> None:
    """Shows the scores beside those that the authors report for the recipe."""
    from r2tuning.checkpoints.published import find_published, is_published

    compared = is_published(recipe) and data.name == data.benchmark.evaluation_split
    report_scores(
        f"{model} on {recipe}, {data.name} split",
        {"recipe": recipe, "split": data.name, "model": model},
        predictions,
        data.annotations,
        data.benchmark,
        published=find_published(recipe).scores if compared else {},
        bins=bins,
        json_file=json,
        force=force,
    )


def _plan_files(
    data: OpenSplit, predictions: Path | None, submission: Path | None, force: bool
) -> list[tuple[Path, int | None]]:
    """Files to write, checked before the work, with the most moments per query in each."""
    from r2tuning.metrics.moment_retrieval import MAX_MOMENTS

    targets: list[tuple[Path, int | None]] = []
    if predictions is not None:
        if predictions.suffix != ".jsonl":
            raise typer.BadParameter("the file's name must end in .jsonl", param_hint="--predictions")
        targets.append((predictions, None))
    if submission is not None:
        if data.benchmark.name != "qvhighlights" or data.name not in SUBMITTED:
            raise typer.BadParameter(
                "only the val and test splits of qvhighlights are submitted", param_hint="--submission"
            )
        try:
            submission.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{submission}: cannot be made ({error.strerror}); choose another folder") from error
        targets.append((submission / f"hl_{data.name}_submission.jsonl", MAX_MOMENTS))
    for target, _ in targets:
        check_target(target, force=force)
    return targets
