"""``r2tuning ground``, ``highlights`` and ``summarize``: questions about one video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from r2tuning.cli import options, outputs
from r2tuning.cli.options import show_progress
from r2tuning.files import check_target


def ground(
    video: options.VideoArgument,
    queries: Annotated[list[str], typer.Argument(help="What to look for; one sentence or more.", metavar="QUERY…")],
    model: options.ModelOption = "qvhighlights",
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = None,
    engine: options.EngineOption = None,
    fps: options.FpsOption = None,
    sampling: options.SamplingOption = "exact",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=50, help="Most moments to report for a query.")] = 5,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score of a moment to report.")] = None,
    output: outputs.OutputOption = None,
    json: outputs.JsonOption = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Put the (small) video into the .html page, which else links to the file.")
    ] = False,
    clips: outputs.ClipsOption = None,
    fast: outputs.FastOption = False,
    save_features: Annotated[
        Path | None,
        typer.Option(help=f"Save the encoded video to this {options.FEATURE_SUFFIX} file, for later queries."),
    ] = None,
    moved: options.MovedOption = None,
    force: options.ForceOption = False,
) -> None:
    """Find the moments of a video that match a sentence.

    Example: r2tuning ground trip.mp4 "the dog catches the frisbee" "people dance"
    """
    if save_features is not None:
        if save_features.suffix != options.FEATURE_SUFFIX:
            raise typer.BadParameter(
                f"the file's name must end in {options.FEATURE_SUFFIX}", param_hint="--save-features"
            )
        check_target(save_features, force=force)
    targets = outputs.plan_outputs(output, json, queries=len(queries), force=force)
    if embed:
        if not any(target.form == "html" for target in targets):
            raise typer.BadParameter("there is no page to put the video into: give -o FILE.html", param_hint="--embed")
        if not video.endswith(options.FEATURE_SUFFIX):  # features name their video once they are loaded
            from r2tuning.output.page import check_embedding

            check_embedding(video)
    outputs.check_clips(clips, fast=fast)

    grounder, encoded = options.open_video(video, model, backbone, device, engine, fps, sampling, moved)
    if save_features is not None:
        encoded.save(save_features)
    results = grounder.ground(encoded, queries, top_k=top_k, threshold=threshold)
    footage = None
    if clips is not None or any("footage" in target.writer.options for target in targets):
        from r2tuning.output.media import Footage

        results[0].check_video()
        footage = Footage(results[0].video)
    outputs.write_outputs(results, targets, force=force, top=top_k, embed=embed, footage=footage)
    if clips is not None and footage is not None:
        outputs.cut_clips(results, footage, clips, fast=fast, force=force)


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
    moved: options.MovedOption = None,
    force: options.ForceOption = False,
) -> None:
    """Find the best seconds of a video: the highest peaks of its saliency, which do not overlap.

    Example: r2tuning highlights trip.mp4 "the dog catches the frisbee" --top 3 --seconds 10
    """
    targets = outputs.plan_outputs(output, json, force=force)
    grounder, encoded = options.open_video(video, model, backbone, device, engine, fps, sampling, moved)
    answer = options.ground_or_outline(grounder, encoded, query)
    found = replace(answer, moments=answer.highlights(top, seconds))
    outputs.write_outputs([found], targets, force=force, top=top)


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
    moved: options.MovedOption = None,
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
    grounder, encoded = options.open_video(video, model, backbone, device, engine, fps, sampling, moved)
    answer = options.ground_or_outline(grounder, encoded, query)
    with show_progress("Looking for cuts", "frames") as progress:
        summary = choose_shots(answer, ratio=ratio, seconds=seconds, progress=progress)
    outputs.write_outputs([summary], targets, force=force)
