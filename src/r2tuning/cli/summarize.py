"""``r2tuning summarize``: the shots that sum up a video, and a video of them."""

from __future__ import annotations

from typing import Annotated

import typer

from r2tuning.cli.options import (
    BackboneOption,
    DeviceOption,
    EngineOption,
    ForceOption,
    FpsOption,
    ModelOption,
    SamplingOption,
    VideoArgument,
    check_positive,
    ground_or_outline,
    load_grounder,
    open_encoded,
)
from r2tuning.cli.outputs import JsonOption, SummaryOutputOption, plan_outputs, write_outputs
from r2tuning.cli.progress import show_progress


def summarize(
    video: VideoArgument,
    query: Annotated[
        str | None, typer.Argument(help="What it is about; without it, what the video shows most and newest.")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Share of the video that the summary may last.", show_default="0.15")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="How long the summary may last, instead of --ratio.")] = None,
    output: SummaryOutputOption = None,
    model: ModelOption = "qvhighlights",
    backbone: BackboneOption = None,
    device: DeviceOption = None,
    engine: EngineOption = None,
    fps: FpsOption = None,
    sampling: SamplingOption = "exact",
    json: JsonOption = None,
    force: ForceOption = False,
) -> None:
    """Sum up a video: choose its best shots within a budget, in order of time.

    Example: r2tuning summarize trip.mp4 --seconds 60 -o summary.mp4
    """
    from r2tuning.results import summarize as choose_shots

    check_positive("--fps", fps)
    check_positive("--seconds", seconds)
    if ratio is not None and seconds is not None:
        raise typer.BadParameter("give one of --ratio and --seconds, not both", param_hint="--seconds")
    if ratio is not None and not 0 < ratio <= 1:
        raise typer.BadParameter(f"must be above 0 and at most 1, not {ratio}", param_hint="--ratio")
    targets = plan_outputs(output, json, force=force, summary=True)
    grounder = load_grounder(model, backbone, device, engine)
    answer = ground_or_outline(grounder, open_encoded(grounder, video, fps, sampling), query)
    with show_progress("Looking for cuts", "frames") as progress:
        summary = choose_shots(answer, ratio=ratio, seconds=seconds, progress=progress)
    write_outputs([summary], targets, force=force)
