"""Options that several commands share, and what they make: the model, the encoded video, the answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from platformdirs import user_data_dir
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from r2tuning.checkpoints.published import DEMO, DEMO_WORLD
from r2tuning.errors import DownloadError
from r2tuning.processes import Shard
from r2tuning.types import Engine, Sampling

if TYPE_CHECKING:
    from r2tuning.cluster import Cluster
    from r2tuning.grounder import Grounder


FEATURE_SUFFIX = ".safetensors"


def check_positive(option: typer.CallbackParam, value: float | None) -> float | None:
    """Refuses a number that is not positive and finite."""
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"must be above 0, not {value}", param_hint=option.opts[0])
    return value


def _parse_shard(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


VideoArgument = Annotated[
    str, typer.Argument(help="Video file, or features saved with --save-features.", metavar="VIDEO")
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Name (see `r2tuning models`), checkpoint folder or .pth.")
]
BackboneOption = Annotated[
    str | None, typer.Option(help="Where the checkpoint's backbone is, if not where it says: hub name or folder.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …; the GPU by default where there is one.")]
EngineOption = Annotated[
    Engine | None,
    typer.Option(
        help="What runs the image tower: torch, as published; torch-bf16, faster on a CPU with AMX and the default "
        "there for a single video; onnx-int8, faster on any CPU. Features differ slightly."
    ),
]
FpsOption = Annotated[
    float | None,
    typer.Option(help="Frames to sample per second; by default as the model was trained.", callback=check_positive),
]
SamplingOption = Annotated[
    Sampling,
    typer.Option(help="exact: frames at the exact times; fast: cheaper ones near them; keyframe: only key frames."),
]
MovedOption = Annotated[
    str | None,
    typer.Option("--video", metavar="FILE", help="Where the video of saved features is now, if it was moved."),
]
ShardOption = Annotated[
    Shard | None,
    typer.Option(
        metavar="I/N",
        parser=_parse_shard,
        help="Only the I-th of N shares of the videos, for job arrays; all N may run at once. The first has the "
        "queries.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Processes that encode videos side by side; 1 by default, or as many as the --cluster has CPUs.",
        show_default=False,
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Encode on a Ray cluster: the address of its head, or auto for the cluster of this machine. All machines "
        "must see the files at the same paths.",
    ),
]
GpusOption = Annotated[
    float,
    typer.Option(min=0, help="With --cluster: the share of a GPU that each process takes, such as 0.25; 0 for none."),
]
FolderOption = Annotated[
    str | None,
    typer.Option(
        "--library",
        metavar="DIR",
        help="Folder of the library, or an address such as s3://bucket/videos; by default $R2TUNING_LIBRARY, or a "
        "folder in your data folder.",
        show_default=False,
    ),
]
ServedArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[LIBRARY]",
        help="Folder of the library, created if it is not there; by default $R2TUNING_LIBRARY, or a folder in your "
        "data folder.",
        show_default=False,
    ),
]
ServedModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name (see `r2tuning models`), checkpoint folder or .pth; by default that of the library, or "
        "qvhighlights for a new one.",
        show_default=False,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Replace output files that exist.")]


def find_folder(given: str | None) -> str:
    """The folder, or the address, of the library that a command is about."""
    chosen = given or os.environ.get("R2TUNING_LIBRARY")
    return chosen or os.path.join(user_data_dir("r2tuning", appauthor=False), "library")  # noqa: PTH118


def find_served_folder(given: str | None) -> Path:
    """The folder of the library that a server is for; one in an object store is wrong usage."""
    from r2tuning.library.catalog import is_remote

    folder = find_folder(given)
    if is_remote(folder):
        raise typer.BadParameter(f"{folder} is in an object store; serve a library in a folder", param_hint="LIBRARY")
    return Path(folder).expanduser().absolute()


def count(number: int, noun: str) -> str:
    """A number of things, for people.

    Example:
        >>> count(1, "video"), count(0, "video"), count(12_000, "file")
        ('1 video', '0 videos', '12,000 files')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_bytes(size: int) -> str:
    """A number of bytes, for people.

    Example:
        >>> format_bytes(1_500), format_bytes(605_000_000), format_bytes(4_545_000_000)
        ('1.5 kB', '605.0 MB', '4.5 GB')
    """
    for unit, number in (("GB", 10**9), ("MB", 10**6)):
        if size >= number:
            return f"{size / number:.1f} {unit}"
    return f"{size / 1000:.1f} kB"


def format_hours(seconds: float) -> str:
    """How long videos last, for people.

    Example:
        >>> format_hours(90), format_hours(5400)
        ('1.5 min', '1.5 h')
    """
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.1f} min"


def choose_cluster(address: str | None, jobs: int | None, gpus: float) -> Cluster | None:
    """The cluster that was asked for; None to encode on this machine."""
    if address is None:
        if gpus:
            raise typer.BadParameter("is for --cluster; on this machine, choose with --device", param_hint="--gpus")
        return None
    from r2tuning.cluster import Cluster

    return Cluster(address, jobs, gpus)


def announce_download(model: str, backbone: str | None) -> None:
    """Says what a model and its backbone need from the network, if anything."""
    from r2tuning.checkpoints.resolve import find_missing

    if missing := find_missing(model, backbone):
        what = " and ".join(map(str, missing))
        typer.echo(f"First use: downloading {what} from the Hugging Face hub; later runs need no network.", err=True)


def load_model(model: str, backbone: str | None, device: str | None, engine: Engine | None = None) -> Grounder:
    """Loads a model and its backbone; an error of the network also names the model that needs none."""
    from r2tuning.grounder import Grounder

    try:
        return Grounder.from_pretrained(model, backbone=backbone, device=device, engine=engine)
    except DownloadError as error:
        raise DownloadError(
            f"{error}; to see r2tuning work without a network, --model {DEMO} is already here, "
            f"but it knows only {DEMO_WORLD}"
        ) from error


class _Rate(ProgressColumn):
    """Items per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self._unit}/s")


@contextmanager
def show_progress(label: str, unit: str, line: str = "") -> Iterator[Callable[[int, int], None]]:
    """Shows a bar while the block runs; yields a function to call with the number done and the number expected.

    Where stderr is no terminal, there is no bar; ``line``, if any, is printed instead.
    """
    console = Console(stderr=True)
    if line and not console.is_terminal:
        typer.echo(line, err=True)
    columns = (
        TextColumn(escape(label)),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, expected: progress.update(task, completed=done, total=expected)
