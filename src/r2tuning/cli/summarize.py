"""``r2tuning summarize``: the shots that sum up a video, and a video of them."""

from __future__ import annotations

from typing import Annotated

import typer

from r2tuning.cli import options, outputs
from r2tuning.cli.progress import show_progress


def summarize(
    video: options.VideoArgument,
    query: Annotated[
        str | None, typer.Argument(help="What it is about; without it, what the video shows most and newest.")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Share of the video that the summary may last.", show_default="0.15")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="How long the summary may last, instead of --ratio.", callback=options.check_positive),
    ] = None,
    output: outputs.SummaryOutputOption = None,
    model: options.ModelOption = "qvhighlights",
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = None,
    engine: options.EngineOption = None,
    fps: options.FpsOption = None,
    sampling: options.SamplingOption = "exact",
    json: outputs.JsonOption = None,
    force: options.ForceOption = False,
) -> None:
    """Sum up a video: choose its best shots within a budget, in order of time.

    Example: r2tuning summarize trip.mp4 --seconds 60 -o summary.mp4
    """
    from r2tuning.results import summarize as choose_shots

    if ratio is not None and seconds is not None:
        raise typer.BadParameter("give one of --ratio and --seconds, not both", param_hint="--seconds")
    if ratio is not None and not 0 < ratio <= 1:
        raise typer.BadParameter(f"must be above 0 and at most 1, not {ratio}", param_hint="--ratio")
    targets = outputs.plan_outputs(output, json, force=force, summary=True)
    grounder, encoded = options.open_video(video, model, backbone, device, engine, fps, sampling)
    answer = options.ground_or_outline(grounder, encoded, query)
    with show_progress("Looking for cuts", "frames") as progress:
        summary = choose_shots(answer, ratio=ratio, seconds=seconds, progress=progress)
    outputs.write_outputs([summary], targets, force=force)
