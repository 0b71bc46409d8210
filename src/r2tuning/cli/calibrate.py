"""``r2tuning calibrate``: scores that mean something."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r2tuning.cli.evaluate import place_data
from r2tuning.cli.progress import show_progress
from r2tuning.cli.score_table import print_calibration
from r2tuning.errors import CheckpointError
from r2tuning.files import check_target


def calibrate(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder, or a published name.", metavar="CHECKPOINT")],
    recipe: Annotated[str, typer.Argument(help="Recipe: which benchmark, and which part of it.", metavar="RECIPE")],
    split: Annotated[
        str | None, typer.Option(help="Labelled, and not trained on; by default the one that training validates on.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Folder of the annotations; by default where `download` puts them.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder of the features; by default that of the annotations.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 …; the GPU by default where there is one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an older calibration.")] = False,
) -> None:
    """Make a checkpoint's scores probabilities, and tell what is not in a video, by its answers about labelled videos.

    Example: r2tuning calibrate runs/mine/best charades-sta
    """
    from r2tuning.backbones import choose_device
    from r2tuning.checkpoints import find_checkpoint, read_checkpoint
    from r2tuning.checkpoints.folder import CALIBRATION_FILE, save_calibration
    from r2tuning.evaluation.calibrate import fit_calibration, measure_calibration
    from r2tuning.evaluation.evidence import find_absent, gather_evidence
    from r2tuning.evaluation.splits import open_split
    from r2tuning.grounder import Grounder
    from r2tuning.training.recipes import load_recipe

    folder = find_checkpoint(checkpoint)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file, and a calibration needs a folder; make one with r2tuning convert")
    target = check_target(folder / CALIBRATION_FILE, force=force)
    plan = place_data(load_recipe(recipe), annotations, features)
    data = open_split(plan, split)
    absent = find_absent(plan, data)
    where = choose_device(device)
    config, model = read_checkpoint(folder)
    grounder = Grounder(model.to(where), config, None)
    with show_progress("Answering", "queries") as progress:
        evidence = gather_evidence(grounder, data, absent, progress)
    calibration = fit_calibration(evidence)
    asked = f"{len(evidence.present)} queries, {len(evidence.absent)} in vain ({absent.source})"
    save_calibration(folder, calibration, f"{plan.name}, {data.name} split: {asked}", force=force)
    quality = measure_calibration(calibration, evidence)
    print_calibration(f"{config.name} on {plan.name}, {data.name} split: {asked}", quality)
    typer.echo(f"Calibration: {target}", err=True)
    if calibration.presence is None:
        typer.echo("Presence is not told: scores of queries asked in vain are no lower than chance has it.", err=True)
