"""``r2tuning summarize``: the shots that sum a video up, and a video of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from r2tuning.cli.asking import (
    BackboneOption,
    DeviceOption,
    EngineOption,
    ForceOption,
    FpsOption,
    ModelOption,
    SamplingOption,
    VideoArgument,
    ask_or_outline,
    check_fps,
    load_grounder,
    open_encoded,
)
from r2tuning.cli.progress import show_progress
from r2tuning.files import check_target, write_atomically
from r2tuning.results import Summary


def summarize(
    video: VideoArgument,
    query: Annotated[
        str | None, typer.Argument(help="What it is to be about; without it, what the video shows most and newest.")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Share of the video that the summary may last.", show_default="0.15")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="How long the summary may last, instead of --ratio.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Join the shots, with their sound, into this .mp4.")
    ] = None,
    model: ModelOption = "qvhighlights",
    backbone: BackboneOption = None,
    device: DeviceOption = None,
    engine: EngineOption = None,
    fps: FpsOption = None,
    sampling: SamplingOption = "exact",
    json: Annotated[
        str | None, typer.Option(help="Write the summary as JSON to this file; - for stdout, instead of the table.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Sum a video up: choose its best shots within a budget, in order of time.

    Example: r2tuning summarize trip.mp4 --seconds 60 -o summary.mp4
    """
    check_fps(fps)
    if ratio is not None and seconds is not None:
        raise typer.BadParameter("give one of --ratio and --seconds, not both", param_hint="--seconds")
    if ratio is not None and not 0 < ratio <= 1:
        raise typer.BadParameter(f"must be above 0 and at most 1, not {ratio}", param_hint="--ratio")
    if seconds is not None and not seconds > 0:
        raise typer.BadParameter(f"must be above 0, not {seconds}", param_hint="--seconds")
    if output is not None and output.suffix != ".mp4":
        raise typer.BadParameter("the file's name must end in .mp4", param_hint="--output")
    for target in (output, None if json == "-" else json):
        if target is not None:
            check_target(target, force=force)
    grounder = load_grounder(model, backbone, device, engine)
    encoded = open_encoded(grounder, video, fps, sampling)
    answer = ask_or_outline(grounder, encoded, query)
    from r2tuning.results import summarize as choose

    with show_progress("Looking for cuts", "frames") as progress:
        summary = choose(answer, ratio=ratio, seconds=seconds, progress=progress)
    if output is not None:
        _join(summary, output, force)
    _report(summary, json, force)


def _join(summary: Summary, output: Path, force: bool) -> None:
    from r2tuning.output.media.cut import join

    spans = [(shot.start, shot.end) for shot in summary.shots]
    with show_progress("Writing", "frames") as progress:
        join(summary.answer.video, spans, output, force=force, progress=progress)
    typer.echo(f"Summary: {output}", err=True)


def _report(summary: Summary, json: str | None, force: bool) -> None:
    from r2tuning.output.text.json import summary_to_json
    from r2tuning.output.text.terminal import print_summary

    if json == "-":
        typer.echo(summary_to_json(summary).encode())  # UTF-8 whatever the terminal's encoding
        return
    if json is not None:
        write_atomically(json, summary_to_json(summary) + "\n", force=force)
    print_summary(summary, Console())
