"""``r2tuning evaluate``, ``calibrate`` and ``reproduce``: models measured on annotated splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.corpus import list_answerable, rank_split, report_corpus, search_split
from r2tuning.cli.download import announce_files, show_bytes
from r2tuning.cli.options import DeviceOption, ForceOption, show_progress
from r2tuning.cli.score import (
    BinsOption,
    PresenceThresholdOption,
    ScoresJsonOption,
    check_scores,
    print_calibration,
    print_scores,
    report_scores,
)
from r2tuning.cli.train import OverridesOption, describe_report
from r2tuning.errors import CheckpointError, MetricError, OutputError
from r2tuning.files import check_target, write_atomically

if TYPE_CHECKING:
    from r2tuning.checkpoints.resolve import Settings
    from r2tuning.evaluation.splits import OpenSplit
    from r2tuning.metrics import Prediction
    from r2tuning.training.loop import Report
    from r2tuning.training.recipes import Recipe


SUBMITTED = ("val", "test")
"""Splits that QVHighlights' server takes, in a file each."""

RecipeArgument = Annotated[str, typer.Argument(help="Recipe: which benchmark, and which part of it.", metavar="RECIPE")]
AnnotationsOption = Annotated[
    Path | None, typer.Option(help="Folder of the annotations; by default where `download` puts them.")
]
FeaturesOption = Annotated[
    Path | None, typer.Option(help="Folder of the features; by default that of the annotations.")
]
CandidatesOption = Annotated[
    int, typer.Option(min=1, help="Across videos: ground a query in so many, which the backbone finds nearest.")
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
    corpus: Annotated[
        bool, typer.Option("--corpus", help="Search all videos of the split for each query: VCMR and NDCG.")
    ] = False,
    candidates: CandidatesOption = 20,
    presence_threshold: PresenceThresholdOption = 0.5,
    bins: BinsOption = False,
    device: DeviceOption = None,
    json: ScoresJsonOption = None,
    force: ForceOption = False,
) -> None:
    """Score a checkpoint on a benchmark, and compare with what the authors report.

    Example: r2tuning evaluate charades-sta --checkpoint runs/mine/best
    """
    from r2tuning.checkpoints import read_checkpoint
    from r2tuning.evaluation.corpus import format_corpus_predictions
    from r2tuning.evaluation.predict import see_whole
    from r2tuning.evaluation.score import format_predictions

    if corpus and (submission is not None or bins):
        raise typer.BadParameter("cannot go with --submission or --bins", param_hint="--corpus")
    plan, data = open_data(recipe, split, annotations, features)
    check_scores(data.benchmark, json, bins=bins, force=force)
    targets = _plan_files(data, predictions, submission, force)
    if corpus:
        if not data.labelled:
            raise MetricError(
                f"the truth of the {data.name} split of {data.benchmark.name} is withheld; choose another"
            )
        config, model = read_checkpoint(name := checkpoint or plan.name, settings_of(plan))
        ranked = rank_split(config if windows else see_whole(config), model, name, data, candidates, device)
        for target, _ in targets:
            write_atomically(target, format_corpus_predictions(ranked), force=force)
            typer.echo(f"Predictions: {target}", err=True)
        report_corpus(plan.name, config.name, data, ranked, candidates, json=json, force=force)
        return
    if not data.labelled and not targets:
        with_truth = data.benchmark.find_split(data.name).files[0]
        raise MetricError(
            f"the truth of the {data.name} split of {data.benchmark.name} is withheld; write predictions with "
            f"--predictions or --submission, or put {with_truth}, which has it, beside the annotations"
        )
    model_name, found = run_model(plan, data, checkpoint or plan.name, windows, device)
    for target, most in targets:
        write_atomically(target, format_predictions(found, data.annotations, most=most), force=force)
        typer.echo(f"Predictions: {target}", err=True)
    if data.labelled:
        report(
            plan.name,
            data,
            model_name,
            found,
            presence_threshold=presence_threshold,
            json=json,
            bins=bins,
            force=force,
        )
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


def run_model(
    recipe: Recipe, data: OpenSplit, checkpoint: str, windows: bool, device: str | None
) -> tuple[str, list[Prediction]]:
    """The name of a checkpoint's model, and its predictions; what its file does not say is taken from the recipe."""
    from r2tuning.backbones import choose_device
    from r2tuning.checkpoints import read_checkpoint
    from r2tuning.evaluation.predict import predict_split

    where = choose_device(device)
    config, model = read_checkpoint(checkpoint, settings_of(recipe))
    with show_progress("Grounding", "queries") as progress:
        return config.name, predict_split(data, config, model, windows=windows, device=where, progress=progress)


def settings_of(recipe: Recipe) -> Settings:
    """What a recipe says about weights that do not say it themselves."""
    from r2tuning.checkpoints.resolve import Settings

    name = f"the recipe {recipe.name}"
    return Settings(name, recipe.fps, recipe.window, recipe.decoding, recipe.model.dropout, recipe.backbone)


def report(
    recipe: str,
    data: OpenSplit,
    model: str,
    predictions: list[Prediction],
    *,
    presence_threshold: float = 0.5,
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
        presence_threshold=presence_threshold,
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


def calibrate(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder, or a published name.", metavar="CHECKPOINT")],
    recipe: RecipeArgument,
    split: Annotated[
        str | None, typer.Option(help="Labelled, and not trained on; by default the one that training validates on.")
    ] = None,
    annotations: AnnotationsOption = None,
    features: FeaturesOption = None,
    library: Annotated[
        bool, typer.Option("--library", help="Also fit the ranking of moments across videos, for library search.")
    ] = False,
    candidates: CandidatesOption = 20,
    device: DeviceOption = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an older calibration.")] = False,
) -> None:
    """Turn a checkpoint's scores into probabilities, and let it tell whether a query is in a video at all.

    The calibration is fitted to its predictions on labelled videos.

    Example: r2tuning calibrate runs/mine/best charades-sta
    """
    from r2tuning.backbones import choose_device
    from r2tuning.checkpoints import find_checkpoint, read_checkpoint
    from r2tuning.checkpoints.folder import CALIBRATION_FILE, save_calibration
    from r2tuning.evaluation.calibrate import fit_calibration, measure_calibration
    from r2tuning.evaluation.corpus import to_corpus_truth
    from r2tuning.evaluation.evidence import find_absent, gather_evidence
    from r2tuning.evaluation.ranking import fit_ranking
    from r2tuning.grounder import Grounder

    folder = find_checkpoint(checkpoint)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file, and a calibration needs a folder; make one with r2tuning convert")
    target = check_target(folder / CALIBRATION_FILE, force=force)
    plan, data = open_data(recipe, split, annotations, features)
    absent = find_absent(data)
    where = choose_device(device)
    config, model = read_checkpoint(folder, settings_of(plan))
    grounder = Grounder(model.to(where), config, None)
    with show_progress("Grounding", "queries") as progress:
        evidence = gather_evidence(grounder, data, absent, progress)
    calibration = fit_calibration(evidence)
    if library:
        found, truths = search_split(config, model, data, candidates, device), to_corpus_truth(list_answerable(data))
        calibration = calibration.model_copy(update={"ranking": fit_ranking(found, truths)})
    split_used = f"{plan.name}, {data.name} split"
    numbers = f"{len(evidence.present)} queries, {len(evidence.absent)} absent ({absent.source})"
    save_calibration(folder, calibration, f"{split_used}: {numbers}", force=force)
    quality = measure_calibration(calibration, evidence)
    print_calibration(f"{config.name} on {split_used}: {numbers}", quality)
    typer.echo(f"Calibration: {target}", err=True)
    if calibration.presence is None:
        typer.echo("No presence: scores of absent queries are no lower than by chance.", err=True)


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
    model, predictions = run_model(recipe, data, recipe.name, False, device)
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
