"""``r2tuning library``: index many videos once, ask all of them with one sentence."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from r2tuning.cli import options, outputs
from r2tuning.cli.export import export
from r2tuning.errors import LibraryError, show_on_one_line
from r2tuning.files import file_name
from r2tuning.output.registry import Target
from r2tuning.types import Sampling

if TYPE_CHECKING:
    from r2tuning.library.hits import Hits
    from r2tuning.library.indexing import Added
    from r2tuning.library.library import Library
    from r2tuning.library.scanning import Scan
    from r2tuning.results import Grounding

library = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Index many videos once, and ask all of them with one sentence."
)

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name (see `r2tuning models`), checkpoint folder or .pth; by default that of the library, or qvhighlights "
        "for a new one.",
        show_default=False,
    ),
]
KeepOption = Annotated[
    Literal["vectors", "answers", "raw"] | None,
    typer.Option(
        help="What to keep of each video: vectors, to find it; answers, also what the model needs for starts and ends "
        "(the default); raw, the features too.",
        show_default=False,
    ),
]
SamplingOption = Annotated[
    Sampling | None,
    typer.Option(
        help="exact: frames at the exact times (the default); fast: cheaper ones near them; keyframe: only key frames.",
        show_default=False,
    ),
]
RetryOption = Annotated[bool, typer.Option("--retry", help="Try files again that could not be used before.")]


def _open(folder: str | None, **arguments: Any) -> Library:
    from r2tuning.library.library import Library

    return Library(options.find_folder(folder), **arguments)


@library.command()
def add(
    paths: Annotated[list[Path], typer.Argument(help="Videos, and folders with all videos in them.", metavar="PATH…")],
    folder: options.FolderOption = None,
    model: ModelOption = None,
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = None,
    engine: options.EngineOption = None,
    keep: KeepOption = None,
    sampling: SamplingOption = None,
    jobs: options.JobsOption = None,
    cluster: options.ClusterOption = None,
    gpus: options.GpusOption = 0,
    retry: RetryOption = False,
) -> None:
    """Add videos. What is there already is skipped, so an interrupted run continues where it stopped.

    Example: r2tuning library add ~/videos party.mp4 --jobs 4
    """
    opened = _open(folder, model=model, backbone=backbone, device=device, engine=engine, keep=keep, sampling=sampling)
    if model is not None or not Path(options.find_folder(folder)).exists():
        from r2tuning.library.library import DEFAULT_MODEL

        options.announce_download(model or DEFAULT_MODEL, backbone)
    machines = options.choose_cluster(cluster, jobs, gpus)
    _index(opened, lambda **calls: opened.add(paths, jobs=jobs or 1, machines=machines, retry=retry, **calls))


@library.command()
def rescan(
    folder: options.FolderOption = None,
    model: ModelOption = None,
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = None,
    engine: options.EngineOption = None,
    keep: KeepOption = None,
    sampling: SamplingOption = None,
    jobs: options.JobsOption = None,
    cluster: options.ClusterOption = None,
    gpus: options.GpusOption = 0,
    retry: RetryOption = False,
) -> None:
    """Look again at everything that was added: encode what is new or changed, follow what was moved.

    With another --model, --engine, --keep or --sampling than the library's, all videos are encoded anew; the old ones
    answer until that is complete.

    Example: r2tuning library rescan
    """
    opened = _open(folder, model=model, backbone=backbone, device=device, engine=engine, keep=keep, sampling=sampling)
    machines = options.choose_cluster(cluster, jobs, gpus)
    _index(opened, lambda **calls: opened.rescan(jobs=jobs or 1, machines=machines, retry=retry, **calls))


def _index(opened: Library, run: Any) -> None:
    def announce(scan: Scan, tasks: int) -> None:
        if tasks:
            typer.echo(f"{tasks} videos to encode ({_count(scan)})", err=True)

    try:
        with options.show_progress("Encoding", "videos") as progress:
            added: Added = run(progress=progress, announce=announce)
    except KeyboardInterrupt:
        typer.echo(f"stopped; what is complete is in {opened.name}; run the same command to continue", err=True)
        raise typer.Exit(130) from None
    done = added.indexed
    size = f", {done.bytes / 1e6:,.1f} MB" if done.videos else ""
    encoded = f"{done.videos} videos encoded, {_hours(done.seconds)}{size}"
    typer.echo(f"{opened.name}: {encoded}; files: {_count(added.scan)}")
    for failure in added.failures:
        reason = failure.reason if failure.path in failure.reason else f"{failure.path}: {failure.reason}"
        typer.echo(show_on_one_line(f"left out: {reason}"), err=True)
    if added.failures:
        raise LibraryError(f"{len(added.failures)} files could not be used; they are listed above")


def _count(scan: Scan) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(scan.counts.items())) or "none"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.1f} min"


def _read_date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"{text} is no date; write it as 2024-05-31", param_hint="--since") from None


@library.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.", metavar="QUERY")],
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
    clips: outputs.ClipsOption = None,
    fast: outputs.FastOption = False,
    pad: outputs.PadOption = 0.0,
    force: options.ForceOption = False,
) -> None:
    """Find the moments of all videos that match a sentence.

    Example: r2tuning library search "the dog catches the frisbee" --top 5 --clips found/
    """
    from_date = _read_date(since)
    if json is not None and json != "-":
        from r2tuning.files import check_target

        check_target(json, force=force)
    targets = outputs.plan_outputs(output, None, force=force)
    outputs.check_clips(clips, fast=fast, pad=pad, targets=targets)
    opened = _open(folder, device=device)
    hits = opened.search(
        query, top=top, within=within, since=from_date, min_duration=min_duration, threshold=threshold, after=after
    )
    text = json_module.dumps(to_dict(hits), indent=2, ensure_ascii=False) + "\n"
    if json == "-":
        typer.echo(text.encode(), nl=False)
    elif json is not None:
        from r2tuning.files import write_atomically

        write_atomically(json, text, force=force)
        typer.echo(f"Wrote {json}", err=True)
    if json != "-":
        _print_hits(hits, options.find_folder(folder))
    if targets or clips is not None:
        _write(hits, opened.to_groundings(hits), targets, clips, fast, pad=pad, force=force)


def to_dict(hits: Hits) -> dict[str, Any]:
    """The hits as JSON has them; seconds have 3 decimals and scores 6."""
    return {
        "query": hits.query,
        "videos": hits.videos,
        "seconds": round(hits.seconds, 3),
        "calibrated": hits.calibrated,
        "present": hits.present,
        "next": hits.next,
        "hits": [
            {
                "video": hit.video,
                "start": round(hit.moment.start, 3) + 0.0,
                "end": round(hit.moment.end, 3) + 0.0,
                "score": round(hit.score, 6),
                "cosine": round(hit.cosine, 6),
                "refined": hit.refined,
                "copies": list(hit.copies),
            }
            for hit in hits
        ],
    }


def _print_hits(hits: Hits, folder: str) -> None:
    from r2tuning.output.text.labels import format_clock

    console = Console()

    def say(text: str, style: str = "") -> None:
        shown = show_on_one_line(text).encode(console.encoding, "backslashreplace").decode(console.encoding)
        console.print(Text(shown, style=style, overflow="fold"))

    say(f"Query: {hits.query}", "bold")
    say(f"Library: {folder} ({hits.videos} videos, {_hours(hits.seconds)})")
    if not hits.hits:
        say("No moments: no video fits, or none reaches the threshold.")
        return
    if hits.present is False:
        say("Probably not in your videos; these are the nearest guesses.", "bold")
    if not all(hit.refined for hit in hits):
        say("The library keeps vectors only: times are those of frames like the query, not found by the model.", "dim")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, row_styles=["dim"] if hits.present is False else [])
    for name in ("rank", "start", "end", "score"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("video", overflow="fold")
    for place, hit in enumerate(hits, start=1):
        table.add_row(
            str(place),
            format_clock(max(hit.moment.start, 0.0)),
            format_clock(max(hit.moment.end, 0.0)),
            f"{hit.score:.3f}",
            Text(show_on_one_line(hit.video).encode(console.encoding, "backslashreplace").decode(console.encoding)),
        )
    console.print(table)
    if hits.next:
        say(f"More: --after {hits.next}", "dim")


def _write(
    hits: Hits,
    groundings: Sequence[Grounding],
    targets: Sequence[Target],
    clips: Path | None,
    fast: bool,
    *,
    pad: float,
    force: bool,
) -> None:
    from r2tuning.output.media import Footage

    if not groundings:
        typer.echo("No files: there is no moment to show", err=True)
        return
    stems = [file_name(Path(found.video).stem, "") for found in groundings]
    labels = [f"{stem}-{place}" if stems.count(stem) > 1 else stem for place, stem in enumerate(stems, start=1)]
    answers = [(label, [found]) for label, found in zip(labels, groundings, strict=True)]
    outputs.write_files(answers, targets, pad=pad, force=force, top=len(hits))
    if clips is not None:
        for label, (found,) in answers:
            found.check_video()
            outputs.cut_clips([found], Footage(found.video), clips / label, fast=fast, pad=pad, force=force)


@library.command("list")
def list_files(
    folder: options.FolderOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the files of a library, with what became of each."""
    listed = _open(folder).list()
    if json:
        rows = [
            {
                "path": one.file.path,
                "state": one.state,
                "duration": None if one.video is None else round(one.video.duration, 3),
                "reason": one.file.reason,
            }
            for one in listed
        ]
        typer.echo(json_module.dumps({"files": rows}, indent=2, ensure_ascii=False).encode())
        return
    for one in listed:
        length = f"{one.video.duration:10.1f} s" if one.video is not None else " " * 12
        reason = f" ({one.file.reason.removeprefix(f'{one.file.path}: ')})" if one.file.reason else ""
        typer.echo(f"{one.state:9}" + length + "  " + show_on_one_line(one.file.path + reason))


@library.command()
def info(folder: options.FolderOption = None) -> None:
    """Show what a library holds and what made it."""
    found = _open(folder).info()
    made = found.generation.facts if found.generation is not None else None
    rows = {
        "library": found.name,
        "files": f"{found.files} ({found.missing} missing, {found.failed} could not be used)",
        "videos": f"{found.videos}, {_hours(found.seconds)}",
        "size": f"{found.bytes / 1e6:,.1f} MB, {found.rows} vectors ({found.dead} of removed videos)",
    }
    if made is not None:
        rows["model"] = f"{made.model}, {made.backbone}, engine {made.engine}"
        rows["frames"] = f"{made.fps:g} per second, {made.sampling}"
        rows["keeps"] = made.keep
    if found.building is not None:
        rows["building"] = f"{found.building.facts.model}; r2tuning library rescan continues"
    for name, value in rows.items():
        typer.echo(f"{name:9} {show_on_one_line(value)}")


@library.command()
def remove(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files, and folders with all that is in them.", metavar="PATH…")
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Take out all files that are gone.")] = False,
    folder: options.FolderOption = None,
) -> None:
    """Take files out of a library; the files themselves stay."""
    if not paths and not missing:
        raise typer.BadParameter("say what to take out, or give --missing", param_hint="PATH…")
    removed = _open(folder).remove(paths or (), missing=missing)
    typer.echo(f"{options.find_folder(folder)}: {len(removed)} files taken out")


@library.command()
def check(
    folder: options.FolderOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop what is damaged; r2tuning library rescan encodes it again.")
    ] = False,
) -> None:
    """Look for damage."""
    problems = _open(folder).check(repair_it=repair)
    for problem in problems:
        typer.echo(show_on_one_line(problem), err=True)
    if not problems:
        typer.echo(f"{options.find_folder(folder)}: nothing is wrong")
    elif repair:
        typer.echo(f"{options.find_folder(folder)}: {len(problems)} problems; dropped, now run r2tuning library rescan")
    else:
        raise LibraryError(f"{len(problems)} problems; they are listed above; run r2tuning library check --repair")


library.command()(export)
