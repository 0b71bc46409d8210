"""``r2tuning library``: index many videos once, ask all of them with one sentence."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from r2tuning.cli import options
from r2tuning.cli.options import count
from r2tuning.cli.search import search
from r2tuning.errors import LibraryError, show_on_one_line
from r2tuning.types import Engine, Sampling

if TYPE_CHECKING:
    from r2tuning.library.indexing import Added
    from r2tuning.library.library import Library
    from r2tuning.library.scanning import Scan


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

WATCH_SECONDS = 5.0
"""Between two looks."""


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
    watch: Annotated[
        bool, typer.Option("--watch", help="Then look again every few seconds, and add what is new, until Ctrl-C.")
    ] = False,
) -> None:
    """Add videos. What is there already is skipped, so an interrupted run continues where it stopped.

    Example: r2tuning library add ~/videos party.mp4 --jobs 4
    """
    opened = _open(folder, model=model, backbone=backbone, device=device, engine=engine, keep=keep, sampling=sampling)
    if model is not None or not Path(options.find_folder(folder)).exists():
        from r2tuning.library.library import DEFAULT_MODEL

        options.announce_download(model or DEFAULT_MODEL, backbone)
    machines = options.choose_cluster(cluster, jobs, gpus)
    add_paths = partial(opened.add, paths, jobs=jobs or 1, machines=machines)
    added = _index(opened, partial(add_paths, retry=retry))
    if watch:
        _watch(opened, add_paths)
    refuse_failures(added)


def _watch(opened: Library, run: Any) -> NoReturn:
    """Looks again and again. A file that is still being copied is tried again when it has changed."""
    typer.echo(f"{opened.name}: watching; Ctrl-C ends it", err=True)
    try:
        while True:
            try:
                added: Added = run()
            except LibraryError as error:  # such as another writer, or a disk that is away for a while
                typer.echo(show_on_one_line(str(error)), err=True)
            else:
                if added.indexed.videos or added.indexed.failures or added.scan.files or added.scan.dropped:
                    _report(opened, added)
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        typer.echo(f"stopped; what is complete is in {opened.name}", err=True)
        raise typer.Exit(130) from None


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

    With another --model, --engine or --sampling than the library's, or to --keep more, all videos are encoded again;
    the old ones answer until that is complete. To --keep less, nothing is encoded.

    Example: r2tuning library rescan
    """
    opened = _open(folder, model=model, backbone=backbone, device=device, engine=engine, keep=keep, sampling=sampling)
    machines = options.choose_cluster(cluster, jobs, gpus)
    refuse_failures(_index(opened, partial(opened.rescan, jobs=jobs or 1, machines=machines, retry=retry)))


def encode_folders(
    folders: Sequence[str],
    model: str,
    backbone: str | None,
    device: str | None,
    engine: Engine | None,
    sampling: Sampling,
) -> tuple[Library, Added]:
    """Brings the cached library of some folders up to date; makes it if there is none."""
    from r2tuning.library.library import Library
    from r2tuning.library.places import cached_library
    from r2tuning.library.records import name_model

    options.announce_download(model, backbone)
    named = name_model(model), None if backbone is None else name_model(backbone)
    place = cached_library(folders, [*named, engine, sampling])
    opened = Library(place, model, backbone=backbone, device=device, engine=engine, sampling=sampling)
    # Not `add` again: if the weights of the model have changed, rescan encodes again.
    known = False
    with suppress(LibraryError):  # there is none yet
        known = bool(opened.list())
    return opened, encode(opened, opened.rescan if known else partial(opened.add, folders))


def encode(opened: Library, run: Any) -> Added:
    """Lets a library look at its videos and encode what it lacks, with progress; Ctrl-C says how to go on."""

    def announce(scan: Scan, tasks: int) -> None:
        if tasks:
            typer.echo(f"{count(tasks, 'video')} to encode ({_count(scan)})", err=True)

    try:
        with options.show_progress("Encoding", "videos") as progress:
            added: Added = run(progress=progress, announce=announce)
    except KeyboardInterrupt:
        typer.echo(f"stopped; what is complete is in {opened.name}; run the same command to continue", err=True)
        raise typer.Exit(130) from None
    return added


def _index(opened: Library, run: Any) -> Added:
    added = encode(opened, run)
    _report(opened, added)
    return added


def list_failures(added: Added) -> None:
    """Lists the files that could not be used."""
    for failure in added.failures:
        reason = failure.reason if failure.path in failure.reason else f"{failure.path}: {failure.reason}"
        typer.echo(show_on_one_line(f"left out: {reason}"), err=True)


def refuse_failures(added: Added) -> None:
    """Raises an error if files could not be used, which are listed above."""
    if added.failures:
        raise LibraryError(f"{count(len(added.failures), 'file')} could not be used, as listed above")


def _report(opened: Library, added: Added) -> None:
    done = added.indexed
    size = f", {done.bytes / 1e6:,.1f} MB" if done.videos else ""
    encoded = f"{count(done.videos, 'video')} encoded, {options.format_hours(done.seconds)}{size}"
    typer.echo(f"{opened.name}: {encoded}; files: {_count(added.scan)}")
    list_failures(added)


def _count(scan: Scan) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(scan.counts.items())) or "none"


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
        "videos": f"{found.videos}, {options.format_hours(found.seconds)}",
        "size": f"{found.bytes / 1e6:,.1f} MB, {count(found.rows, 'vector')} ({found.dead} of removed videos)",
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
    """Take files out of a library; the files themselves stay.

    What is named stays out, also with the next rescan, until `library add` names it again. Files taken out by
    --missing come back if they are there again.
    """
    if not paths and not missing:
        raise typer.BadParameter("say what to take out, or give --missing", param_hint="PATH…")
    removed = _open(folder).remove(paths or (), missing=missing)
    typer.echo(f"{options.find_folder(folder)}: {count(len(removed), 'file')} taken out")


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
        found = count(len(problems), "problem")
        typer.echo(f"{options.find_folder(folder)}: {found}; dropped, now run r2tuning library rescan")
    else:
        raise LibraryError(f"{count(len(problems), 'problem')}, as listed above; run r2tuning library check --repair")


library.command()(search)


@library.command()
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
    typer.echo(f"Wrote {file}: {count(written, 'row')}", err=True)
