"""``r2tuning library export``: what a library knows, for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from r2tuning.cli import options


def export(
    file: Annotated[Path, typer.Argument(help="Parquet file to write.", metavar="FILE.parquet")],
    rows: Annotated[
        Literal["videos", "vectors"], typer.Option(help="What a row is: a video, or the vector of a frame.")
    ] = "videos",
    folder: options.FolderOption = None,
    force: options.ForceOption = False,
) -> None:
    """Write what a library knows of its videos as a Parquet file, for pandas, DuckDB, Spark and the like.

    Example: r2tuning library export videos.parquet
    """
    from r2tuning.files import check_target

    if file.suffix.lower() != ".parquet":
        raise typer.BadParameter(f"{file} must end with .parquet", param_hint="FILE.parquet")
    check_target(file, force=force)
    from r2tuning.library.export import export_library
    from r2tuning.library.library import Library

    written = export_library(Library(options.find_folder(folder)), file, rows, force=force)
    typer.echo(f"Wrote {file}: {options.count(written, 'row')}", err=True)
