"""``r2tuning ground``: find moments in a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r2tuning.cli.options import (
    FEATURE_SUFFIX,
    BackboneOption,
    DeviceOption,
    EngineOption,
    ForceOption,
    FpsOption,
    ModelOption,
    SamplingOption,
    VideoArgument,
    check_positive,
    load_grounder,
    open_encoded,
)
from r2tuning.cli.outputs import (
    ClipsOption,
    FastOption,
    JsonOption,
    OutputOption,
    check_clips,
    cut_clips,
    plan_outputs,
    write_outputs,
)
from r2tuning.files import check_target


def ground(
    video: VideoArgument,
    queries: Annotated[list[str], typer.Argument(help="What to look for; one sentence or more.", metavar="QUERY…")],
    model: ModelOption = "qvhighlights",
    backbone: BackboneOption = None,
    device: DeviceOption = None,
    engine: EngineOption = None,
    fps: FpsOption = None,
    sampling: SamplingOption = "exact",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=50, help="Most moments to report for a query.")] = 5,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score of a moment to report.")] = None,
    output: OutputOption = None,
    json: JsonOption = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Put the (small) video into the .html page, which else links to the file.")
    ] = False,
    clips: ClipsOption = None,
    fast: FastOption = False,
    save_features: Annotated[
        Path | None, typer.Option(help=f"Save the encoded video to this {FEATURE_SUFFIX} file, for later queries.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Find the moments of a video that match a sentence.

    Example: r2tuning ground trip.mp4 "the dog catches the frisbee" "people dance"
    """
    check_positive("--fps", fps)
    if save_features is not None:
        if save_features.suffix != FEATURE_SUFFIX:
            raise typer.BadParameter(f"the file's name must end in {FEATURE_SUFFIX}", param_hint="--save-features")
        check_target(save_features, force=force)
    targets = plan_outputs(output, json, queries=len(queries), force=force)
    if embed:
        if not any(target.form == "html" for target in targets):
            raise typer.BadParameter("there is no page to put the video into: give -o FILE.html", param_hint="--embed")
        if not video.endswith(FEATURE_SUFFIX):  # features name their video once they are loaded
            from r2tuning.output.page import check_embedding

            check_embedding(video)
    check_clips(clips, fast=fast)

    grounder = load_grounder(model, backbone, device, engine)
    encoded = open_encoded(grounder, video, fps, sampling)
    if save_features is not None:
        encoded.save(save_features)
    results = grounder.ground(encoded, queries, top_k=top_k, threshold=threshold)
    footage = None
    if clips is not None or any("footage" in target.writer.options for target in targets):
        from r2tuning.output.media import Footage

        footage = Footage(encoded.facts.video)
    write_outputs(results, targets, force=force, top=top_k, embed=embed, footage=footage)
    if clips is not None and footage is not None:
        cut_clips(results, footage, clips, fast=fast, force=force)
