"""What a command leaves behind: a table on stdout, files of any format, and clips."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.console import Console

from r2tuning.cli.options import show_progress
from r2tuning.errors import OutputError, R2TuningError, show_on_one_line
from r2tuning.files import check_target
from r2tuning.output.registry import STDOUT, WRITERS, Target, find_target, list_moments, save_results, write_format

if TYPE_CHECKING:
    from r2tuning.output.media.footage import Footage
    from r2tuning.results import Grounding, Summary

_SUFFIXES = " ".join(f".{name}" for name in WRITERS if name != "sheet")

OutputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help=f"Write the answers to this file; its suffix names the format: {_SUFFIXES}. "
        "sheet:FILE.png draws a contact sheet, csv:- prints CSV instead of the table. May be repeated.",
    ),
]
SummaryOutputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the summary to this file; .mp4 joins the shots, with their sound; or "
        f"{_SUFFIXES}. May be repeated.",
    ),
]
JsonOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="Short for -o json:FILE; --json - prints JSON instead of the table.")
]
ClipsOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Cut each moment into an .mp4 in this folder.")]
FastOption = Annotated[
    bool, typer.Option("--fast", help="Copy clips as stored: at once, but from the key frame before the moment on.")
]

ReelOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Short for -o mp4:FILE, which joins the moments of all videos, each in order of time, into one.",
    ),
]
ReportOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="Short for -o html:FILE, one page about all videos.")
]
PadOption = Annotated[
    float, typer.Option(min=0, max=3600, help="Seconds that clips and reels show before and after each moment.")
]
TimecodeOption = Annotated[
    Literal["source", "zero"],
    typer.Option(help="What edit lists count from: the video's timecode, if it has any, or zero at its first frame."),
]


def plan_outputs(
    outputs: Sequence[str] | None,
    json: str | None,
    reel: str | None = None,
    *,
    force: bool,
    labels: Sequence[str] = ("",),
    queries: int = 1,
    summary: bool = False,
) -> list[Target]:
    """Checks ``--output``, ``--json`` and ``--reel`` before a long computation, and finds what is to be written.

    ``labels`` are the names of the videos: a format that is about one video gets a file for each of several.
    """
    texts = [*(outputs or []), *([] if json is None else [f"json:{json}"]), *([] if reel is None else [f"mp4:{reel}"])]
    targets = [find_target(text, summary=summary) for text in texts]
    taken = set()
    for target in (part for whole in targets for part in whole.part(labels)):
        for file in target.list_files(queries):
            place = file if file == STDOUT else os.path.realpath(file)
            if place in taken:
                raise typer.BadParameter(f"{file} would be written twice", param_hint="--output")
            taken.add(place)
        target.check(queries, force=force)
    return targets


Answers: TypeAlias = "Sequence[tuple[str, Sequence[Grounding | Summary]]]"
"""The results about each video, with its label."""


def write_outputs(
    answers: Answers, targets: Sequence[Target], *, several: bool = False, force: bool, **options: Any
) -> None:
    """Writes results to files, and to stdout in the format that a target names for it, by default as a table.

    With ``several`` videos, a format that is about one video gets a file for each.
    """
    everything = [result for _, results in answers for result in results]
    write_files(answers, targets, several=several, force=force, **options)
    if print_format(everything, targets, **options):
        return
    from r2tuning.output.text.terminal import print_results

    print_results(everything, Console(), options.get("top", 5))


def print_format(results: Sequence[Grounding | Summary], targets: Sequence[Target], **options: Any) -> bool:
    """Prints results in the format that a target names for stdout; returns whether there is such a target."""
    form = next((target.form for target in reversed(targets) if target.path == STDOUT), None)
    if form is not None:
        typer.echo(write_format(results, form, **options).encode(), nl=False)  # UTF-8 whatever the terminal's encoding
    return form is not None


def write_files(
    answers: Answers, targets: Sequence[Target], *, several: bool = True, force: bool, **options: Any
) -> None:
    """Writes results to those targets that are files, as `write_outputs`."""
    everything = [result for _, results in answers for result in results]
    for target in targets:
        if target.path != STDOUT and several and not target.writer.many_videos:
            labels = [label for label, _ in answers]
            for (_, results), part in zip(answers, target.part(labels, always=True), strict=True):
                _write_files(results, part, force=force, **options)
        elif target.path != STDOUT:
            _write_files(everything, target, force=force, **options)


def _write_files(results: Sequence[Grounding | Summary], target: Target, *, force: bool, **options: Any) -> None:
    for single, part in target.split(results):
        if target.form in ("gif", "mp4") and not any(list_moments(result) for result in part):
            typer.echo(f"No {single.path}: there is no moment to show", err=True)
            continue
        if "progress" in single.writer.options:
            with show_progress("Writing", "frames") as progress:
                save_results(part, single, force=force, progress=progress, **options)
        else:
            save_results(part, single, force=force, **options)
        typer.echo(f"Wrote {single.path}", err=True)


def check_clips(folder: Path | None, *, fast: bool, pad: float = 0.0, targets: Sequence[Target] = ()) -> None:
    """Checks, before a long computation, that clips can be written to a folder."""
    if pad and folder is None and not any(target.form == "mp4" for target in targets):
        raise typer.BadParameter("pads clips and reels; it needs --clips DIR or --reel FILE", param_hint="--pad")
    if folder is None:
        if fast:
            raise typer.BadParameter("copies clips; it needs --clips DIR", param_hint="--fast")
        return
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: give a folder for the clips")
    check_target(folder / "clip.mp4" if folder.is_dir() else folder, force=True)


def cut_clips(
    results: Sequence[Grounding], footage: Footage, folder: Path, *, fast: bool, force: bool, pad: float = 0.0
) -> None:
    """Cuts every moment out of the video, with ``pad`` seconds on both sides.

    An `OutputError` at the end says how many clips failed.
    """
    from r2tuning.output import media
    from r2tuning.output.media.cut import name_clip

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be created ({error.strerror}): choose another folder") from None
    moments = [(result.query, moment) for result in results for moment in result.moments]
    failures: list[str] = []
    with show_progress("Cutting", "clips") as progress:
        for number, (query, moment) in enumerate(moments, start=1):
            name = name_clip(number, len(moments), query, moment.start, moment.end)
            try:
                media.cut(footage, moment.start - pad, moment.end + pad, folder / name, not fast, force=force)
            except R2TuningError as error:
                failures.append(str(error))
            progress(number, len(moments))
    typer.echo(f"Clips: {len(moments) - len(failures)} in {folder}", err=True)
    if failures:
        for failure in failures:
            typer.echo(show_on_one_line(f"not cut: {failure}"), err=True)
        raise OutputError(f"{len(failures)} of {len(moments)} clips could not be cut; they are listed above")
