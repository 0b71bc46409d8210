"""``r2tuning evaluate``: a checkpoint's scores on a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.progress import show_progress
from r2tuning.cli.score_table import SCORES_JSON_HELP, print_lengths, print_scores, write_scores
from r2tuning.errors import MetricError, OutputError
from r2tuning.files import check_target, write_atomically

if TYPE_CHECKING:
    from r2tuning.evaluation.splits import EvaluationSplit
    from r2tuning.metrics import Prediction
    from r2tuning.training.config import Recipe

SUBMITTED = ("val", "test")
"""Splits that QVHighlights' server takes, in a file each."""


def evaluate(
    recipe: Annotated[str, typer.Argument(help="Recipe: which benchmark, and which part of it.", metavar="RECIPE")],
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", "-c", help="Published name, folder or .pth; by default the recipe's name."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="By default the split that papers report.")] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Folder of the annotations; by default where `download` puts them.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder of the features; by default that of the annotations.")
    ] = None,
    predictions: Annotated[Path | None, typer.Option(help="Write the answers to this .jsonl file.")] = None,
    submission: Annotated[
        Path | None, typer.Option(help="Folder to write the file that QVHighlights' server takes.", metavar="DIR")
    ] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Cover long videos with windows, as ground does; published: seen whole.")
    ] = False,
    bins: Annotated[bool, typer.Option("--bins", help="Also show mAP by the number of words of the query.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 …; the GPU by default where there is one.")
    ] = None,
    json: Annotated[str | None, typer.Option(help=SCORES_JSON_HELP)] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace output files that exist.")] = False,
) -> None:
    """Score a checkpoint on a benchmark, and compare with what the authors report.

    Example: r2tuning evaluate charades-sta --checkpoint runs/mine/best
    """
    from r2tuning.evaluation.splits import open_split
    from r2tuning.training.recipes import load_recipe

    plan = place_data(load_recipe(recipe), annotations, features)
    data = open_split(plan, split)
    targets = _output_files(data, predictions, submission, force)
    if json not in (None, "-"):
        check_target(json, force=force)
    if bins:
        _require_moments(data)
    if not data.labelled and not targets:
        with_truth = data.benchmark.find_split(data.name).files[0]
        raise MetricError(
            f"the truth of the {data.name} split of {data.benchmark.name} is withheld; write the answers with "
            f"--predictions or --submission, or put {with_truth}, which has it, beside the annotations"
        )

    model_name, answers = ask(data, checkpoint or plan.name, windows, device)
    for target, most in targets:
        _write_answers(target, answers, data, most, force)
    if not data.labelled:
        typer.echo(
            f"The truth of this split is withheld: {len(answers)} answers were written, but not scored.", err=True
        )
        return
    report(data, model_name, answers, json, bins=bins, force=force)


def place_data(recipe: Recipe, annotations: Path | None, features: Path | None) -> Recipe:
    """The recipe with its data elsewhere; None leaves it where the recipe says."""
    places = {"annotations": annotations, "features": features}
    given = {name: folder for name, folder in places.items() if folder is not None}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=given)})


def ask(data: EvaluationSplit, checkpoint: str, windows: bool, device: str | None) -> tuple[str, list[Prediction]]:
    """Name of a checkpoint's model, and its answers."""
    from r2tuning.backbones import choose_device
    from r2tuning.checkpoints import read_checkpoint
    from r2tuning.evaluation.splits import answer_split

    where = choose_device(device)
    config, model = read_checkpoint(checkpoint)
    with show_progress("Answering", "queries") as progress:
        answers = answer_split(data, config, model, windows=windows, device=where, progress=progress)
    return config.name, answers


def report(
    data: EvaluationSplit, model: str, answers: list[Prediction], json: str | None, *, bins: bool, force: bool
) -> None:
    """Scores answers and shows the scores."""
    from r2tuning.evaluation.score import score_predictions, score_query_lengths

    metrics = score_predictions(answers, data.annotations, data.benchmark)
    lengths = score_query_lengths(answers, data.annotations) if bins else []
    if json is not None:
        content: dict[str, object] = {"recipe": data.recipe, "split": data.name, "model": model}
        content |= {"queries": len(answers), "metrics": metrics, "published": dict(data.published)}
        if bins:
            content["bins"] = [{"words": s.words, "queries": s.queries, "mAP": s.mean_ap} for s in lengths]
        write_scores(json, content, force=force)
    if json != "-":
        print_scores(f"{model} on {data.recipe}, {data.name} split, {len(answers)} queries", metrics, data.published)
        if bins:
            print_lengths(lengths)


def _require_moments(data: EvaluationSplit) -> None:
    from r2tuning.evaluation.score import asks_for_moments

    if not asks_for_moments(data.benchmark):
        raise typer.BadParameter(f"{data.benchmark.name} has no moments to score by words", param_hint="--bins")


def _output_files(
    data: EvaluationSplit, predictions: Path | None, submission: Path | None, force: bool
) -> list[tuple[Path, int | None]]:
    """Files to write and most moments of a query in each; refused now rather than after the work."""
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


def _write_answers(
    target: Path, answers: list[Prediction], data: EvaluationSplit, most: int | None, force: bool
) -> None:
    from r2tuning.evaluation.predict import format_predictions

    write_atomically(target, format_predictions(answers, data.annotations, most=most), force=force)
    typer.echo(f"Answers: {target}", err=True)
