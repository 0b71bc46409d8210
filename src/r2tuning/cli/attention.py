"""``r2tuning attention``: where the words of a query look in the frames of a video."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli import options
from r2tuning.errors import QueryError, VideoError

if TYPE_CHECKING:
    import numpy as np

    from r2tuning.features import EncodedVideo
    from r2tuning.types import PatchAttention


def attention(
    video: options.VideoArgument,
    query: Annotated[str, typer.Argument(help="What to look for; a sentence.")],
    model: options.ModelOption = "qvhighlights",
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = None,
    frames: Annotated[
        int, typer.Option(min=1, max=6, help="How many frames to show, evenly over the best moment.")
    ] = 4,
    at: Annotated[
        list[float] | None, typer.Option(help="Show the frame at this second instead. May be repeated.")
    ] = None,
    words: Annotated[
        str | None, typer.Option(help="Words to show, separated by commas; by default the first content words.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .svg or .pdf.")] = Path(
        "attention.png"
    ),
    force: options.ForceOption = False,
) -> None:
    """Draw how much each word of a query attends to each patch of some frames, in every refinement step.

    Example: r2tuning attention trip.mp4 "the dog catches the frisbee" --at 12 --at 15
    """
    from r2tuning.attention import find_attention
    from r2tuning.output.charts.attention import MOST_FRAMES, choose_words, plot_attention
    from r2tuning.output.charts.figure import check_plot_target

    check_plot_target(output, force=force)
    if at and len(at) > MOST_FRAMES:
        raise typer.BadParameter(f"{len(at)} frames would be too small to see; give at most {MOST_FRAMES}")
    grounder, encoded = options.open_video(video, model, backbone, device)
    if not at:
        result = grounder.ground(encoded, query, top_k=1)
        extent = [(best.start, best.end) for best in result.moments] or [(result.start, result.start + result.duration)]
        begin, end = extent[0]
        at = [begin + (end - begin) * (number + 0.5) / frames for number in range(frames)]
    found = find_attention(grounder, encoded, query, at)
    chosen = choose_words(found.words) if words is None else _find_words(found, words)
    name = f"{Path(encoded.facts.video).name}, model {grounder.config.name}"
    plot_attention(found, _read_frames(encoded, found), output, words=chosen, name=name, force=force)
    typer.echo(f"Plot: {output}", err=True)


def _find_words(found: PatchAttention, words: str) -> list[int]:
    known = [word.lower() for word in found.words]
    wanted = [word.strip().lower() for word in words.split(",") if word.strip()]
    for word in wanted:
        if word not in known:
            raise QueryError(f"{word!r} is not a word of the query; choose from {', '.join(found.words)}")
    if not wanted:
        raise QueryError(f"--words names no word; choose from {', '.join(found.words)}")
    return [index for index, word in enumerate(known) if word in wanted]


def _read_frames(encoded: EncodedVideo, found: PatchAttention) -> list[np.ndarray]:
    """The frames that the model saw, sampled again."""
    from r2tuning.video import sample_frames

    facts = encoded.facts
    wanted = [int((time - facts.start) * facts.fps) for time in found.times.tolist()]  # in order
    with sample_frames(facts.video, facts.fps, sampling=facts.sampling) as stream:
        frames = islice((frame for batch in stream for frame in batch.pixels), wanted[-1] + 1)
        shown = {index: frame.transpose(1, 2, 0) for index, frame in enumerate(frames) if index in wanted}
    if len(shown) < len(set(wanted)):
        raise VideoError(f"{facts.video}: no longer has a frame at {wanted[-1] / facts.fps:g} s; encode it again")
    return [shown[index] for index in wanted]
