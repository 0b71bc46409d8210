"""``r2tuning calibrate``: make a checkpoint's scores probabilities."""

from __future__ import annotations

from typing import Annotated

import typer

from r2tuning.cli.evaluate import AnnotationsOption, FeaturesOption, RecipeArgument, open_data
from r2tuning.cli.options import DeviceOption
from r2tuning.cli.progress import show_progress
from r2tuning.cli.score_table import print_calibration
from r2tuning.errors import CheckpointError
from r2tuning.files import check_target


def calibrate(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder, or a published name.", metavar="CHECKPOINT")],
    recipe: RecipeArgument,
    split: Annotated[
        str | None, typer.Option(help="Labelled, and not trained on; by default the one that training validates on.")
    ] = None,
    annotations: AnnotationsOption = None,
    features: FeaturesOption = None,
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
    from r2tuning.evaluation.evidence import find_absent, gather_evidence
    from r2tuning.grounder import Grounder

    folder = find_checkpoint(checkpoint)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file, and a calibration needs a folder; make one with r2tuning convert")
    target = check_target(folder / CALIBRATION_FILE, force=force)
    plan, data = open_data(recipe, split, annotations, features)
    absent = find_absent(data)
    where = choose_device(device)
    config, model = read_checkpoint(folder)
    grounder = Grounder(model.to(where), config, None)
    with show_progress("Grounding", "queries") as progress:
        evidence = gather_evidence(grounder, data, absent, progress)
    calibration = fit_calibration(evidence)
    split_used = f"{plan.name}, {data.name} split"
    numbers = f"{len(evidence.present)} queries, {len(evidence.absent)} absent ({absent.source})"
    save_calibration(folder, calibration, f"{split_used}: {numbers}", force=force)
    quality = measure_calibration(calibration, evidence)
    print_calibration(f"{config.name} on {split_used}: {numbers}", quality)
    typer.echo(f"Calibration: {target}", err=True)
    if calibration.presence is None:
        typer.echo("No presence: scores of absent queries are no lower than by chance.", err=True)
