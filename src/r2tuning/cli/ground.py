"""``r2tuning ground``: find moments in a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from r2tuning.checkpoints.demo import DEMO, DEMO_WORLD
from r2tuning.cli.progress import show_progress
from r2tuning.errors import DownloadError, VideoError
from r2tuning.output.files import check_target, write_atomically
from r2tuning.types import Sampling

if TYPE_CHECKING:
    import numpy as np

    from r2tuning.features import EncodedVideo
    from r2tuning.grounder import Grounder
    from r2tuning.types import Grounding

THUMBNAILS = 8
DECODED_WHOLE = 300.0
"""Seconds; for thumbnails of longer videos only key frames are decoded."""

FEATURE_SUFFIX = ".safetensors"


def ground(
    video: Annotated[str, typer.Argument(help="Video file, or features saved with --save-features.", metavar="VIDEO")],
    queries: Annotated[list[str], typer.Argument(help="What to look for; one sentence or more.", metavar="QUERY…")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name (see `r2tuning models`), checkpoint folder or .pth.")
    ] = "qvhighlights",
    backbone: Annotated[
        str | None, typer.Option(help="CLIP to use instead of the checkpoint's: ViT-B/32, hub name or folder.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 …; the GPU by default where there is one.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames to look at per second; by default as the model was trained.")
    ] = None,
    sampling: Annotated[
        Sampling,
        typer.Option(help="exact: frames at the asked times; fast: cheaper ones near them; keyframe: only key frames."),
    ] = "exact",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=50, help="Most moments to report for a query.")] = 5,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score of a moment to report.")] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the answers as JSON to this file; - for stdout, instead of the table.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw moments and saliency to this .png, .svg or .pdf; numbered if there are more queries."),
    ] = None,
    save_features: Annotated[
        Path | None, typer.Option(help=f"Keep the encoded video in this {FEATURE_SUFFIX} file, to ask it again.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace output files that exist.")] = False,
) -> None:
    """Find the moments of a video that match a sentence.

    Example: r2tuning ground trip.mp4 "the dog catches the frisbee" "people dance"
    """
    plots = _plot_files(plot, len(queries))
    if fps is not None and not 0 < fps < float("inf"):
        raise typer.BadParameter(f"must be above 0, not {fps}", param_hint="--fps")
    if save_features is not None and save_features.suffix != FEATURE_SUFFIX:
        raise typer.BadParameter(f"the file's name must end in {FEATURE_SUFFIX}", param_hint="--save-features")
    for target in (save_features, None if json == "-" else json):
        if target is not None:
            check_target(target, force=force)
    for target in plots:
        from r2tuning.output.plots import check_plot_target

        check_plot_target(target, force=force)

    grounder = _load(model, backbone, device)
    encoded = _encode(grounder, video, fps, sampling)
    if save_features is not None:
        encoded.save(save_features)
    results = grounder.ground(encoded, queries, top_k=top_k, threshold=threshold)
    for file, result in zip(plots, results, strict=bool(plots)):
        _draw(file, result, force)
    _report(results, json, top_k, force)


def _load(model: str, backbone: str | None, device: str | None) -> Grounder:
    from r2tuning.grounder import Grounder

    try:
        return Grounder.from_pretrained(model, backbone=backbone, device=device)
    except DownloadError as error:
        raise DownloadError(
            f"{error}; to see r2tuning work without a network, --model {DEMO} is already here, "
            f"but it knows only {DEMO_WORLD}"
        ) from error


def _encode(grounder: Grounder, video: str, fps: float | None, sampling: Sampling) -> EncodedVideo:
    if video.endswith(FEATURE_SUFFIX):
        from r2tuning.features import EncodedVideo

        return EncodedVideo.load(video)
    with show_progress("Encoding", "frames") as progress:
        return grounder.encode(video, fps=fps, sampling=sampling, progress=progress)


def _report(results: list[Grounding], json: str | None, top_k: int, force: bool) -> None:
    from r2tuning.output.json_format import to_json
    from r2tuning.output.table import print_grounding

    if json == "-":
        typer.echo(to_json(results).encode())  # UTF-8 whatever the terminal's encoding
        return
    if json is not None:
        write_atomically(json, to_json(results) + "\n", force=force)
    console = Console()
    for result in results:
        print_grounding(result, console, top_k)


def _plot_files(plot: Path | None, queries: int) -> list[Path]:
    if plot is None:
        return []
    if queries == 1:
        return [plot]
    return [plot.with_stem(f"{plot.stem}-{number}") for number in range(1, queries + 1)]


def _draw(file: Path, result: Grounding, force: bool) -> None:
    from r2tuning.output.plots import plot_grounding

    thumbnails, times = _thumbnails(result)
    plot_grounding(result, file, thumbnails=thumbnails, thumbnail_times=times, force=force)
    typer.echo(f"Plot: {file}", err=True)


def _thumbnails(result: Grounding) -> tuple[list[np.ndarray], list[float]]:
    """A few frames over the length of the video; none where the file is not at hand any more."""
    from r2tuning.video import sample_frames

    sampling: Sampling = "exact" if result.duration <= DECODED_WHOLE else "keyframe"
    try:
        with sample_frames(result.video, THUMBNAILS / result.duration, sampling=sampling) as frames:
            batches = list(frames)
    except VideoError:
        return [], []
    pixels = [image.transpose(1, 2, 0) for batch in batches for image in batch.pixels]
    return pixels, [float(time) for batch in batches for time in batch.times]
