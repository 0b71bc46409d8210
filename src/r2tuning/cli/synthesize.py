"""``r2tuning synthesize``: videos made by program, with exact annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from r2tuning.cli.options import show_progress


def synthesize(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder to put videos and annotations into; run again to continue or to add.", metavar="DIR"
        ),
    ],
    videos: Annotated[int, typer.Option("--videos", "-n", min=1, max=1_000_000, help="How many videos.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other videos.")] = 0,
    split: Annotated[
        Literal["train", "val", "test"],
        typer.Option(help="Splits share no video; test has combinations that train and val lack."),
    ] = "train",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes that make videos side by side.")] = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Make all videos again, and replace other annotations.")
    ] = False,
) -> None:
    """Make videos of moving shapes, with every moment known exactly.

    Writes DIR/videos/*.mp4, and for the split its queries (QVHighlights' format), queries that are true of no moment,
    and a contact sheet. An interrupted run continues where it stopped.

    Example: r2tuning synthesize shapes/ --videos 200 --split test --jobs 2
    """
    from r2tuning.synthetic.generate import synthesize as make

    try:
        with show_progress("Videos", "videos") as progress:
            done = make(folder, videos, seed=seed, split=split, jobs=jobs, force=force, progress=progress)
    except KeyboardInterrupt:
        typer.echo(f"stopped; what is complete is in {folder}; run the same command again to continue", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{done.annotations}: {done.queries} queries of {videos} videos ({done.videos} made, {done.kept} kept)")
    typer.echo(f"{done.absent}: {done.absent_queries} queries that are true of no moment")
    typer.echo(f"{done.preview}: contact sheet")
