"""``r2tuning highlights``: the best seconds of a video."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from r2tuning.cli.answers import plan_files, report_answers
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


def highlights(
    video: VideoArgument,
    query: Annotated[
        str | None, typer.Argument(help="What is to be seen; without it, what the video shows most and newest.")
    ] = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="Most highlights to report.")] = 5,
    seconds: Annotated[
        float | None, typer.Option(help="How long each is to last; by default as long as its peak of saliency.")
    ] = None,
    model: ModelOption = "qvhighlights",
    backbone: BackboneOption = None,
    device: DeviceOption = None,
    engine: EngineOption = None,
    fps: FpsOption = None,
    sampling: SamplingOption = "exact",
    json: Annotated[
        str | None, typer.Option(help="Write the highlights as JSON to this file; - for stdout, instead of the table.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Find the best seconds of a video: the highest peaks of its saliency, which do not overlap.

    Example: r2tuning highlights trip.mp4 "the dog catches the frisbee" --top 3 --seconds 10
    """
    check_fps(fps)
    if seconds is not None and not seconds > 0:
        raise typer.BadParameter(f"must be above 0, not {seconds}", param_hint="--seconds")
    files = plan_files([], None, json, force=force)
    grounder = load_grounder(model, backbone, device, engine)
    encoded = open_encoded(grounder, video, fps, sampling)
    answer = ask_or_outline(grounder, encoded, query)
    found = replace(answer, moments=answer.highlights(top, seconds))
    report_answers([found], files, None, top, force=force)
