"""``r2tuning library search``: moments of all videos for a sentence, another moment or a picture."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from r2tuning.cli import options, outputs
from r2tuning.cli.options import count
from r2tuning.cli.videos import Request
from r2tuning.errors import show_on_one_line
from r2tuning.files import check_target, write_atomically
from r2tuning.output.registry import STDOUT, Target

if TYPE_CHECKING:
    from r2tuning.library.hits import Hits
    from r2tuning.library.library import Library
    from r2tuning.results import Grounding


def search(
    queries: Annotated[
        list[str] | None, typer.Argument(help="What to look for.", metavar="QUERY…", show_default=False)
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="VIDEO@START-END", help="Find more like a moment of a video, such as trip.mp4@0:12-0:18."),
    ] = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="Find frames like a picture.")] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="QUERY", help="What must not be there. May be repeated.")
    ] = None,
    folder: options.FolderOption = None,
    device: options.DeviceOption = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, max=1000, help="Most moments to report.")] = 10,
    within: Annotated[
        str | None, typer.Option("--in", metavar="GLOB", help="Only videos in this folder, or whose path fits.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only files changed at this date or later, such as 2024-05-31.")
    ] = None,
    min_duration: Annotated[
        float | None, typer.Option(help="Only videos of at least so many seconds.", callback=options.check_positive)
    ] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score of a moment to report.")] = None,
    after: Annotated[
        str, typer.Option(metavar="PAGE", help="Go on after a page of moments, which says how to.", show_default=False)
    ] = "",
    output: outputs.OutputOption = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the moments as JSON; --json - prints it.")
    ] = None,
    report: outputs.ReportOption = None,
    clips: outputs.ClipsOption = None,
    fast: outputs.FastOption = False,
    pad: outputs.PadOption = 0.0,
    reel: outputs.ReelOption = None,
    force: options.ForceOption = False,
) -> None:
    """Find the moments of all videos that match a sentence.

    Example: r2tuning library search "the dog catches the frisbee" --top 5 --clips found/
    """
    from r2tuning.library.library import Library

    _check_question(queries, like, image, without, after)
    moment = None if like is None else _read_moment(like)
    from_date = _read_date(since)
    pages_too = [] if report is None else [f"html:{report}"]
    targets = outputs.plan_outputs([*(output or []), *pages_too], None, reel, queries=len(queries or "1"), force=force)
    check_json(json, targets, force=force)
    outputs.check_clips(clips, fast=fast, pad=pad, targets=targets)
    opened = Library(options.find_folder(folder), device=device)
    pages = [
        opened.search(
            query,
            like=moment,
            image=image,
            without=without or (),
            top=top,
            within=within,
            since=from_date,
            min_duration=min_duration,
            threshold=threshold,
            after=after,
        )
        for query in (queries or (None,))
    ]
    show_pages(pages, f"Library: {opened.name}", json, targets, force=force)
    write_pages(pages, opened, targets, clips, fast, pad=pad, force=force)


def check_json(json: str | None, targets: Sequence[Target], *, force: bool) -> None:
    """Checks, before a long computation, that the moments can be written as JSON."""
    if json == STDOUT and any(target.path == STDOUT for target in targets):
        raise typer.BadParameter("- would be written twice", param_hint="--output")
    if json is not None and json != STDOUT:
        check_target(json, force=force)


def show_pages(
    pages: Sequence[Hits], place: str, json: str | None, targets: Sequence[Target], *, force: bool, more: bool = True
) -> None:
    """Prints what was found for each query, as tables or as ``json``, which may be a file's name.

    ``place`` says where it was found, and ``more`` whether the next page can be asked for. There are no tables if one
    of the ``targets`` is stdout.
    """
    found = pages[0].to_dict() if len(pages) == 1 else {"searches": [hits.to_dict() for hits in pages]}
    text = json_module.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if json == STDOUT:
        typer.echo(text.encode(), nl=False)
        return
    if json is not None:
        write_atomically(json, text, force=force)
        typer.echo(f"Wrote {json}", err=True)
    if any(target.path == STDOUT for target in targets):
        return
    for number, hits in enumerate(pages):
        typer.echo("\n" if number else "", nl=False)
        _print_hits(hits, place, more=more)


def _check_question(
    queries: Sequence[str] | None, like: str | None, image: Path | None, without: Sequence[str] | None, after: str
) -> None:
    if sum(bool(given) for given in (queries, like, image)) != 1:
        raise typer.BadParameter("say what to look for: a query, or --like, or --image", param_hint="QUERY…")
    if without and not queries:
        raise typer.BadParameter("goes with a query", param_hint="--without")
    if queries and len(queries) > 1 and after:
        raise typer.BadParameter("--after takes one query at a time", param_hint="QUERY…")


def _read_moment(text: str) -> tuple[str, float, float]:
    """A moment as ``VIDEO@START-END``, in seconds or as a clock shows them.

    Example:
        >>> _read_moment("a@b.mp4@1:02-75.5")
        ('a@b.mp4', 62.0, 75.5)
    """
    video, _, times = text.rpartition("@")
    try:
        start, end = (_read_clock(part) for part in times.split("-"))
    except ValueError:
        start = end = 0.0
    if not video or not start < end:
        raise typer.BadParameter(f"{text} is no moment; write it as trip.mp4@0:12-0:18", param_hint="--like")
    return video, start, end


def _read_clock(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        if not part.replace(".", "", 1).isdigit():
            raise ValueError(text)
        seconds = 60 * seconds + float(part)
    return seconds


def _read_date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"{text} is no date; write it as 2024-05-31", param_hint="--since") from None


def _print_hits(hits: Hits, place: str, *, more: bool) -> None:
    from r2tuning.output.text import format_clock

    console = Console()

    def say(text: str, style: str = "") -> None:
        shown = show_on_one_line(text).encode(console.encoding, "backslashreplace").decode(console.encoding)
        console.print(Text(shown, style=style, overflow="fold"))

    say(f"Query: {hits.query}", "bold")
    say(f"{place} ({count(hits.videos, 'video')}, {options.format_hours(hits.seconds)})")
    if not hits.hits:
        say("No moments: no video fits, or none reaches the threshold.")
        return
    if hits.present is False:
        say("Probably not in your videos; these are the nearest guesses.", "bold")
    if not all(hit.refined for hit in hits):
        say("Times are those of similar frames, not found by the model.", "dim")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, row_styles=["dim"] if hits.present is False else [])
    for name in ("rank", "start", "end", "score"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("video", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        table.add_row(
            str(rank),
            format_clock(max(hit.moment.start, 0.0)),
            format_clock(max(hit.moment.end, 0.0)),
            f"{hit.score:.3f}",
            Text(show_on_one_line(hit.video).encode(console.encoding, "backslashreplace").decode(console.encoding)),
        )
    console.print(table)
    if hits.next and more:
        say(f"More: --after {hits.next}", "dim")


def write_pages(
    pages: Sequence[Hits],
    library: Library,
    targets: Sequence[Target],
    clips: Path | None,
    fast: bool,
    *,
    pad: float,
    force: bool,
    **settings: Any,
) -> None:
    """Writes what was found to files: one about all videos where the format allows it, otherwise one for each.

    ``settings`` are more options of `save_results`. Videos that cannot be read any more are left out of what shows
    them, and end in an error.
    """
    if not targets and clips is None:
        return
    from r2tuning.output.media import Footage

    of_video: dict[str, list[Grounding]] = {}
    for grounding in (grounding for hits in pages for grounding in library.to_groundings(hits)):
        of_video.setdefault(grounding.video, []).append(grounding)
    if not of_video:
        typer.echo("No files: there is no moment to show", err=True)
        return
    request = Request(list(of_video), [])

    def find_answers(video: str, _: str) -> list[Grounding]:
        of_video[video][0].check_video()
        return of_video[video]

    def cut(video: str, _: str) -> None:
        folder = (clips or Path()) / request.labels[request.videos.index(video)]
        outputs.cut_clips(find_answers(video, ""), Footage(video), folder, fast=fast, pad=pad, force=force)

    settings |= {"pad": pad, "top": max(map(len, pages))}
    showing = [target for target in targets if target.writer.framed or "footage" in target.writer.options]
    everything = list(zip(request.labels, of_video.values(), strict=True))
    for target in targets:
        if target.path == STDOUT:
            target.part(request.labels)  # which refuses a format about one video
    outputs.write_files(everything, [target for target in targets if target not in showing], force=force, **settings)
    outputs.print_format([each for _, answers in everything for each in answers], targets, **settings)
    if showing:
        outputs.write_files(list(request.go_through(find_answers)), showing, force=force, **settings)
    if clips is not None:
        for _ in request.go_through(cut):
            pass
    request.finish()
