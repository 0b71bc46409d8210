"""``r2tuning prepare``: fetches what models need, to work without a network later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.options import count, format_bytes
from r2tuning.errors import OutputError, R2TuningError

if TYPE_CHECKING:
    from r2tuning.checkpoints.resolve import Missing

DEFAULT = "qvhighlights"
"""What is fetched if nothing is named."""


def prepare(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Names (see `r2tuning models`) or checkpoint folders; {DEFAULT} if nothing is named.",
            metavar="[MODEL…]",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="A backbone instead of the models' own, or alone: name, hub name or folder."),
    ] = None,
) -> None:
    """Download models and their backbones, to work without a network later.

    It says the size first. Run it again after an interruption: it continues where it stopped. What is here already is
    not downloaded again.

    Example: r2tuning prepare qvhighlights tvsum/BK
    """
    from r2tuning.backbones.loading import load_files
    from r2tuning.checkpoints.resolve import find_backbone, find_checkpoint, find_missing, find_missing_backbone

    names = list(dict.fromkeys(models or ([] if backbone else [DEFAULT])))
    missing = [part for name in names for part in find_missing(name, backbone)]
    missing += find_missing_backbone(backbone) if backbone else []
    _announce(list(dict.fromkeys(missing)))

    parts: list[tuple[str, Callable[[str], Path]]] = [(name, find_checkpoint) for name in names]
    needed = [backbone] if backbone else [find_backbone(name) for name in names]
    parts += [(name, lambda name: load_files(name).folder) for name in dict.fromkeys(needed)]
    failures: list[R2TuningError] = []
    for name, fetch in parts:
        failures += _fetch(name, fetch)
    for failure in failures:
        typer.echo(f"not prepared: {failure}", err=True)
    if failures:
        raise R2TuningError(f"{len(failures)} of {count(len(parts), 'item')} could not be prepared, as listed above")


def _fetch(name: str, fetch: Callable[[str], Path]) -> list[R2TuningError]:
    """Fetches one thing and prints where it is; returns what went wrong, for the others to be fetched still."""
    try:
        typer.echo(f"{name}: {fetch(name)}")
    except R2TuningError as error:
        return [error]
    return []


def _announce(missing: list[Missing]) -> None:
    """Says what will be downloaded, and refuses what the disk has no room for."""
    from r2tuning.hub import free_space, hub_cache

    if not missing:
        typer.echo("Nothing to download: everything is on this machine.", err=True)
        return
    needed, free = 10**6 * sum(part.megabytes or 0 for part in missing), free_space(hub_cache())
    if free < needed:
        raise OutputError(
            f"{hub_cache()}: needs {format_bytes(needed)} of disk, {format_bytes(free)} are free; free the rest, or "
            "set HF_HOME to a folder on another disk"
        )
    total = f", {format_bytes(needed)} in all" if len(missing) > 1 else ""
    what = ", ".join(map(str, missing))
    typer.echo(f"Downloading {what}{total}; {format_bytes(free)} of disk are free.", err=True)
