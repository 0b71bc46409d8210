"""``r2tuning models`` and ``convert``: checkpoints by name, and the authors' files as folders."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from r2tuning.checkpoints.published import CONFIG_FILE, DEMO, DEMO_FPS, DEMO_WORLD, PUBLISHED, demo_size

HEADLINES = ("mAP", "R1@0.5")
"""The published score to show: the first of these that exists."""


def models() -> None:
    """List the named checkpoints: task, frame rate, score, size, and whether they are cached."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("task")
    table.add_column("fps", justify="right")
    table.add_column("score", no_wrap=True)
    table.add_column("size", justify="right")
    table.add_column("cached")
    table.add_row(DEMO, "moments", f"{DEMO_FPS:g}", "", f"{demo_size() / 1e6:.0f} MB", "yes")
    for entry in PUBLISHED:
        shown = {metric.removeprefix("MR-full-"): score for metric, score in entry.scores.items()}
        score = next(f"{metric} {shown[metric]:.2f}" for metric in HEADLINES if metric in shown)
        task = "moments" if entry.family == "grounding" else "saliency"
        size = f"~{entry.approximate_size / 1e6:.0f} MB"
        table.add_row(entry.name, task, f"{entry.fps:g}", score, size, "yes" if entry.is_cached else "no")
    console = Console()
    console.print(table)
    console.print(
        f"{DEMO} comes with r2tuning, needs no network, and knows only {DEMO_WORLD}.", style="dim", highlight=False
    )
    console.print(
        "Scores are the authors', on validation. Use one with: r2tuning ground VIDEO QUERY --model NAME", style="dim"
    )


def convert(
    file: Annotated[Path, typer.Argument(help="The authors' checkpoint.", metavar="FILE.pth")],
    folder: Annotated[Path, typer.Argument(help="Folder to write: config.json and model.safetensors.")],
) -> None:
    """Convert a checkpoint of the authors (.pth) to a folder that r2tuning reads without unpickling."""
    from r2tuning.checkpoints import convert as convert_file

    config = convert_file(file, folder)
    typer.echo(f"{folder}: {config.name}, {config.model.family} model, {config.fps:g} fps, CLIP {config.backbone}")
    if config.provenance.assumed is not None:
        typer.echo(
            f"Assumed, since the file does not say how it was trained: fps, window, decoding and CLIP of "
            f"{config.provenance.assumed}. Correct them in {folder / CONFIG_FILE} and set provenance.assumed to null; "
            "until then evaluate and calibrate use those of their recipe.",
            err=True,
        )
