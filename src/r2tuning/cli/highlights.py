"""``r2tuning highlights``: the best seconds of a video."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from r2tuning.cli import options, outputs


def highlights(
    video: options.VideoArgument,
    query: Annotated[
        str | None, typer.Argument(help="What to look for; without it, what the video shows most and newest.")
    ] = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="Most highlights to report.")] = 5,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Length of each highlight; by default as long as its peak of saliency.",
            callback=options.check_positive,
        ),
    ] = None,
    model: options.ModelOption = "qvhighlights",
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = None,
    engine: options.EngineOption = None,
    fps: options.FpsOption = None,
    sampling: options.SamplingOption = "exact",
    output: outputs.OutputOption = None,
    json: outputs.JsonOption = None,
    force: options.ForceOption = False,
) -> None:
    """Find the best seconds of a video: the highest peaks of its saliency, which do not overlap.

    Example: r2tuning highlights trip.mp4 "the dog catches the frisbee" --top 3 --seconds 10
    """
    targets = outputs.plan_outputs(output, json, force=force)
    grounder, encoded = options.open_video(video, model, backbone, device, engine, fps, sampling)
    answer = options.ground_or_outline(grounder, encoded, query)
    found = replace(answer, moments=answer.highlights(top, seconds))
    outputs.write_outputs([found], targets, force=force, top=top)
