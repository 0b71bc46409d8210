"""``r2tuning serve``: a library over HTTP, for the page and for scripts."""

from __future__ import annotations

import re
import secrets
import webbrowser
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from r2tuning.cli import options

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_size(text: str) -> int:
    """Bytes, as a number with or without a unit.

    Example:
        >>> parse_size("4GB"), parse_size("500 MB"), parse_size("1000")
        (4000000000, 500000000, 1000)
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,3})?) ?([KMGT]?)B?", text.strip().upper())
    if not found or not (size := round(float(found[1]) * _UNITS[found[2]])):
        raise typer.BadParameter(f"{text} is no size; write it as 4GB or 500MB")
    return size


def serve(
    library: options.ServedArgument = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other than this machine's needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8420,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="R2TUNING_TOKEN",
            help="What clients must know; by default none on 127.0.0.1, and a new one elsewhere.",
            show_default=False,
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder from which videos may be added by path. May be repeated."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name by which clients call the server, such as behind a proxy."),
    ] = None,
    model: options.ServedModelOption = None,
    device: options.DeviceOption = None,
    engine: options.EngineOption = None,
    max_upload: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest video that may be uploaded, such as 4GB.")
    ] = "4GB",
    rate: Annotated[
        float,
        typer.Option(help="Requests a second of one client, on average.", callback=options.check_positive),
    ] = 1000,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a library over HTTP: search it, add videos, cut moments out. Ctrl-C ends it.

    Example: r2tuning serve --root ~/videos
    """
    size = parse_size(max_upload)
    if token is not None and not re.fullmatch(r"[!-~]{8,200}", token):
        raise typer.BadParameter("must have 8 to 200 letters, digits and signs without blanks", param_hint="--token")
    import uvicorn  # noqa: F401  (before anything else, to say which extra is missing)

    from r2tuning.server.served import open_served
    from r2tuning.server.serving import listen, serve, show_address
    from r2tuning.server.settings import Settings, is_loopback, make_roots

    settings = Settings(
        library=options.find_served_folder(library),
        model=model,
        device=device,
        engine=engine,
        host=host,
        port=port,
        token=token or ("" if is_loopback(host) else secrets.token_urlsafe(24)),
        roots=make_roots(root or []),
        allowed_hosts=tuple(allow_host or ()),
        max_upload=size,
        requests_per_second=rate,
    )
    with closing(listen(host, port)) as listener:
        address = show_address(settings, listener.getsockname()[1])
        served = open_served(settings)

        def announce() -> None:
            typer.echo(f"{settings.library}: {address}")
            if open_page:
                webbrowser.open(address)

        typer.echo("Loading the model…", err=True)
        serve(served, listener, announce)
