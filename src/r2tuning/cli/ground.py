"""``r2tuning ground``: find moments in a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r2tuning.cli import options, outputs
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

    grounder, encoded = options.open_video(video, model, backbone, device, engine, fps, sampling)
    if save_features is not None:
        encoded.save(save_features)
    results = grounder.ground(encoded, queries, top_k=top_k, threshold=threshold)
    footage = None
    if clips is not None or any("footage" in target.writer.options for target in targets):
        from r2tuning.output.media import Footage

        footage = Footage(encoded.facts.video)
    outputs.write_outputs(results, targets, force=force, top=top_k, embed=embed, footage=footage)
    if clips is not None and footage is not None:
        outputs.cut_clips(results, footage, clips, fast=fast, force=force)
