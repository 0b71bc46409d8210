"""``r2tuning highlights``: the best seconds of a video."""

from __future__ import annotations

from dataclasses import replace
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
from r2tuning.cli.outputs import JsonOption, OutputOption, plan_outputs, write_outputs


def highlights(
    video: VideoArgument,
    query: Annotated[
        str | None, typer.Argument(help="What to look for; without it, what the video shows most and newest.")
    ] = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="Most highlights to report.")] = 5,
    seconds: Annotated[
        float | None, typer.Option(help="Length of each highlight; by default as long as its peak of saliency.")
    ] = None,
    model: ModelOption = "qvhighlights",
    backbone: BackboneOption = None,
    device: DeviceOption = None,
    engine: EngineOption = None,
    fps: FpsOption = None,
    sampling: SamplingOption = "exact",
    output: OutputOption = None,
    json: JsonOption = None,
    force: ForceOption = False,
) -> None:
    """Find the best seconds of a video: the highest peaks of its saliency, which do not overlap.

    Example: r2tuning highlights trip.mp4 "the dog catches the frisbee" --top 3 --seconds 10
    """
    check_positive("--fps", fps)
    check_positive("--seconds", seconds)
    targets = plan_outputs(output, json, force=force)
    grounder = load_grounder(model, backbone, device, engine)
    answer = ground_or_outline(grounder, open_encoded(grounder, video, fps, sampling), query)
    found = replace(answer, moments=answer.highlights(top, seconds))
    write_outputs([found], targets, force=force, top=top)
