"""``r2tuning cache``: what r2tuning keeps on this machine, and how to remove it."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.options import count, format_bytes
from r2tuning.cli.score import print_table
from r2tuning.errors import OutputError, R2TuningError, show_on_one_line

if TYPE_CHECKING:
    from r2tuning.caches import CacheEntry

cache = typer.Typer(
    no_args_is_help=True, add_completion=False, help="See and remove what r2tuning has downloaded or cached."
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON list instead of the table.")]


@cache.command("list")
def list_cache(json: JsonOption = False) -> None:
    """List everything that is cached: what it is, its size, and when it was last used.

    Example: r2tuning cache list
    """
    from r2tuning.caches import list_entries

    entries = list_entries()
    if json:
        content = [{**asdict(entry), "path": str(entry.path)} for entry in entries]
        typer.echo(json_module.dumps(content, indent=2))
        return
    rows = [[e.kind, e.name, e.content, format_bytes(e.size), _format_age(e.used)] for e in entries]
    print_table(_summarize(entries), ["kind", "name", "content", "size", "last used"], rows, names=3)


@cache.command()
def size(json: JsonOption = False) -> None:
    """Show how much space each kind takes, in which folders, and how much is free.

    Example: r2tuning cache size
    """
    from r2tuning.caches import CONTENTS, list_entries
    from r2tuning.files import cache_folder
    from r2tuning.hub import free_space, hub_cache

    entries = list_entries()
    kinds = {kind: [entry for entry in entries if entry.kind == kind] for kind in CONTENTS}
    sums = {kind: sum(entry.size for entry in found) for kind, found in kinds.items() if found}
    folders = (cache_folder(), hub_cache())
    if json:
        free = {str(folder): free_space(folder) for folder in folders}
        typer.echo(json_module.dumps({"bytes": sums, "free": free}, indent=2))
        return
    rows = [[kind, str(len(kinds[kind])), format_bytes(total)] for kind, total in sums.items()]
    print_table(_summarize(entries), ["kind", "number", "size"], rows)
    for folder in folders:
        typer.echo(f"{folder}: {format_bytes(free_space(folder))} free")


@cache.command()
def remove(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names as `r2tuning cache list` shows them, or kind:name; also paths.",
            metavar="[NAME…]",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything but data sets, which are removed by name only.")
    ] = False,
    unused_for: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="What --all means, if not used for so many days.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove what is cached. It can be downloaded or made again.

    Nothing else is removed: neither other files in the cache folders, nor libraries, nor what other programs put there.

    Example: r2tuning cache remove ViT-L/14 --yes
    """
    from r2tuning.caches import choose_entries, find_unused, list_entries, remove_entry

    if sum((bool(names), everything, unused_for is not None)) != 1:
        raise typer.BadParameter("give names, or --all, or --unused-for DAYS", param_hint="NAME")
    entries = list_entries()
    chosen = choose_entries(names, entries) if names else find_unused(entries, unused_for or 0)
    if not chosen:
        typer.echo("Nothing to remove.", err=True)
        return
    for entry in chosen:
        typer.echo(f"  {format_bytes(entry.size):>8}  {entry.full_name}", err=True)
    if not yes:
        _ask(chosen)
    removed = []
    for entry in chosen:
        with _listed_failure():
            remove_entry(entry)
            removed.append(entry)
    typer.echo(f"Removed {_summarize(removed)}.", err=True)
    if left := len(chosen) - len(removed):
        raise R2TuningError(f"{left} of {count(len(chosen), 'item')} could not be removed, as listed above")


@contextmanager
def _listed_failure() -> Iterator[None]:
    """Lets the others be removed."""
    try:
        yield
    except OutputError as error:
        typer.echo(show_on_one_line(f"not removed: {error}"), err=True)


def _ask(chosen: Sequence[CacheEntry]) -> None:
    """Asks on a terminal, and ends the command without a yes."""
    if not sys.stdin.isatty():
        raise R2TuningError(
            f"{count(len(chosen), 'item')} to remove: confirm with --yes, since no terminal can be asked"
        )
    if not typer.confirm(f"Remove {_summarize(chosen)}?", err=True):
        typer.echo("Nothing was removed.", err=True)
        raise typer.Exit(1)


def _summarize(entries: Sequence[CacheEntry]) -> str:
    return f"{count(len(entries), 'item')}, {format_bytes(sum(entry.size for entry in entries))}"


def _format_age(used: float) -> str:
    """When something was last used.

    Example:
        >>> _format_age(time.time() - 3600), _format_age(time.time() - 50 * 3600)
        ('today', '2 days ago')
    """
    days = int((time.time() - used) // 86_400)
    return f"{count(days, 'day')} ago" if days > 0 else "today"
