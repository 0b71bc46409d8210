"""``r2tuning mcp``: a library for assistants, over the Model Context Protocol."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from r2tuning.cli import options


def mcp(
    library: options.ServedArgument = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder whose videos may be read by path. May be repeated."),
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that clips are written to; by default `clips` in the library's.",
            show_default=False,
        ),
    ] = None,
    model: options.ServedModelOption = None,
    device: options.DeviceOption = None,
    engine: options.EngineOption = None,
) -> None:
    """Let an assistant search a library: tools over the Model Context Protocol, on stdin and stdout.

    Example: r2tuning mcp --root ~/videos
    """
    import mcp.server  # noqa: F401  (before anything else, to say which extra is missing)

    from r2tuning.server.desk import prepare_library
    from r2tuning.server.protocol import serve_stdio
    from r2tuning.server.settings import Settings, make_roots
    from r2tuning.server.tools import Tools

    folder = options.find_served_folder(library)
    settings = Settings(library=folder, model=model, device=device, engine=engine, roots=make_roots(root or []))
    prepare_library(settings)
    place = folder / "clips" if clips is None else clips.expanduser()
    serve_stdio(Tools(settings, Path(os.path.realpath(place))))
