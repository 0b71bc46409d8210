"""Options that several commands share, and what they make: the model, the encoded video, the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from r2tuning.checkpoints.published import DEMO, DEMO_WORLD
from r2tuning.errors import DownloadError
from r2tuning.types import Engine, Sampling

if TYPE_CHECKING:
    from r2tuning.features import EncodedVideo
    from r2tuning.grounder import Grounder
    from r2tuning.results import Grounding


FEATURE_SUFFIX = ".safetensors"


def check_positive(option: typer.CallbackParam, value: float | None) -> float | None:
    """Refuses a number that is not positive and finite."""
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"must be above 0, not {value}", param_hint=option.opts[0])
    return value


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
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Replace output files that exist.")]


def open_video(
    video: str,
    model: str,
    backbone: str | None,
    device: str | None,
    engine: Engine | None = None,
    fps: float | None = None,
    sampling: Sampling = "exact",
    moved: str | None = None,
) -> tuple[Grounder, EncodedVideo]:
    """Loads the model, and encodes a video file or loads saved features, whose video may have ``moved``."""
    from r2tuning.grounder import Grounder

    try:
        grounder = Grounder.from_pretrained(model, backbone=backbone, device=device, engine=engine)
    except DownloadError as error:
        raise DownloadError(
            f"{error}; to see r2tuning work without a network, --model {DEMO} is already here, "
            f"but it knows only {DEMO_WORLD}"
        ) from error
    if moved is not None and not video.endswith(FEATURE_SUFFIX):
        raise typer.BadParameter("is for saved features; give the video itself as VIDEO", param_hint="--video")
    if video.endswith(FEATURE_SUFFIX):
        from r2tuning.features import EncodedVideo

        return grounder, EncodedVideo.load(video, moved)
    with show_progress("Encoding", "frames") as progress:
        encoded = grounder.encode(video, fps=fps, sampling=sampling, progress=progress)
    grounder.backbone.release()  # a command encodes one video; the next steps need the memory
    return grounder, encoded


def ground_or_outline(grounder: Grounder, encoded: EncodedVideo, query: str | None) -> Grounding:
    """Answers a query; without one, finds what the video shows most and newest."""
    if query is not None:
        return grounder.ground(encoded, query)
    from r2tuning.grounder import outline_video

    return outline_video(encoded)


class _Rate(ProgressColumn):
    """Items per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self._unit}/s")


@contextmanager
def show_progress(label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar while the block runs; yields a function to call with the number done and the number expected."""
    console = Console(stderr=True)
    columns = TextColumn(label), BarColumn(), MofNCompleteColumn(), TextColumn(unit), _Rate(unit), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, expected: progress.update(task, completed=done, total=expected)
