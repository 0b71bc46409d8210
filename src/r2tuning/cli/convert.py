"""``r2tuning convert``: an authors' file as a checkpoint folder."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    file: Annotated[Path, typer.Argument(help="The authors' checkpoint.", metavar="FILE.pth")],
    folder: Annotated[Path, typer.Argument(help="Folder to write: config.json and model.safetensors.")],
) -> None:
    """Convert a checkpoint of the authors (.pth) to a folder that r2tuning reads without unpickling."""
    from r2tuning.checkpoints import convert as convert_file

    config = convert_file(file, folder)
    typer.echo(f"{folder}: {config.name}, {config.model.family} model, {config.fps:g} fps, CLIP {config.backbone}")
