"""``r2tuning download``: annotations and features of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.options import format_bytes, show_progress

if TYPE_CHECKING:
    from r2tuning.hub import HubFile


def download(
    dataset: Annotated[
        str,
        typer.Argument(
            help="qvhighlights, ego4d-nlq, charades-sta, tacos, youtube-highlights or tvsum (moving-shapes is made by "
            "`r2tuning synthesize`).",
            metavar="DATASET",
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="Folder to put it in; by default one in the cache of r2tuning.", metavar="DIR")
    ] = None,
    annotations_only: Annotated[bool, typer.Option("--annotations-only", help="Skip the features.")] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep the archives in DIR/archives after unpacking.")
    ] = False,
) -> None:
    """Download a benchmark: its annotations, and the features that the authors' models were trained on.

    Run it again after an interruption: it continues where it stopped.

    Example: r2tuning download charades-sta --annotations-only
    """
    from r2tuning.datasets import find_benchmark
    from r2tuning.datasets.download import download_benchmark

    benchmark = find_benchmark(dataset)
    folder = download_benchmark(
        benchmark,
        to,
        annotations_only=annotations_only,
        keep_archives=keep_archives,
        announce=announce_files,
        progress=show_bytes,
    )
    typer.echo(folder)
    for split in benchmark.splits:
        if split.elsewhere and not (folder / PurePosixPath(split.elsewhere).name).exists():
            typer.echo(
                f"Labels of the {split.name} split are published elsewhere: to score it, put {split.elsewhere} "
                f"into {folder}",
                err=True,
            )


def announce_files(files: Sequence[HubFile]) -> None:
    """Lists on stderr the files to download, with sizes."""
    if not files:
        typer.echo("Nothing to download: all files exist.", err=True)
        return
    total = format_bytes(sum(file.size for file in files))
    typer.echo(f"{len(files)} files, {total}, from {files[0].repository} on the hub:", err=True)
    for file in files:
        typer.echo(f"  {format_bytes(file.size):>8}  {file.name}", err=True)


@contextmanager
def show_bytes(step: str) -> Iterator[Callable[[int, int], None]]:
    """A bar in bytes while the block runs; yields a function to call with the number done and expected."""
    with show_progress(step, "MB") as report:
        yield lambda done, total: report(done // 10**6, total // 10**6)
