"""``r2tuning ground``, ``highlights`` and ``summarize``: questions about videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from r2tuning.cli import options, outputs, videos
from r2tuning.cli.options import show_progress
from r2tuning.errors import CheckpointError
from r2tuning.files import check_target
from r2tuning.output.registry import Target
from r2tuning.types import Sampling

if TYPE_CHECKING:
    from r2tuning.grounder import Grounder
    from r2tuning.output.media.footage import Footage
    from r2tuning.results import Grounding, Summary


def ground(
    words: videos.WordsArgument,
    query: videos.QueryOptions = None,
    queries: videos.QueriesOption = None,
    model: options.ModelOption = "qvhighlights",
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = None,
    engine: options.EngineOption = None,
    fps: options.FpsOption = None,
    sampling: options.SamplingOption = "exact",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=50, help="Most moments to report for a query.")] = 5,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score of a moment to report.")] = None,
    overlapping: Annotated[
        bool,
        typer.Option("--overlapping", help="Report the whole ranked list; by default moments do not overlap."),
    ] = False,
    present_only: Annotated[
        bool, typer.Option("--present-only", help="Report no moments of videos that probably do not show the query.")
    ] = False,
    output: outputs.OutputOption = None,
    json: outputs.JsonOption = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Put the (small) video into the .html page, which else links to the file.")
    ] = False,
    clips: outputs.ClipsOption = None,
    fast: outputs.FastOption = False,
    pad: outputs.PadOption = 0.0,
    reel: outputs.ReelOption = None,
    timecode: outputs.TimecodeOption = "source",
    save_features: Annotated[
        Path | None,
        typer.Option(help=f"Save the encoded video to this {options.FEATURE_SUFFIX} file, for later queries."),
    ] = None,
    moved: options.MovedOption = None,
    force: options.ForceOption = False,
) -> None:
    """Find the moments of videos that match a sentence.

    Example: r2tuning ground trip.mp4 "the dog catches the frisbee" "people dance"

    Example: r2tuning ground trip.mp4 party.mp4 -q "people dance"

    A folder is asked as a whole: the best moments of all its videos, in one ranking.

    Example: r2tuning ground holidays/ "people dance"
    """
    request = videos.read_request("ground", words, query or (), queries)
    if request.folders:
        single = {"--fps": fps, "--overlapping": overlapping, "--present-only": present_only, "--video": moved}
        for option, given in (single | {"--save-features": save_features}).items():
            if given:
                raise typer.BadParameter("is about videos one by one; give files, not folders", param_hint=option)
    several = len(request.videos) > 1
    if save_features is not None:
        if several:
            raise typer.BadParameter("holds one video; save each by a command of its own", param_hint="--save-features")
        if save_features.suffix != options.FEATURE_SUFFIX:
            raise typer.BadParameter(
                f"the file's name must end in {options.FEATURE_SUFFIX}", param_hint="--save-features"
            )
        check_target(save_features, force=force)
    own_json = None if request.folders else json  # hits of a library have their own JSON
    targets = outputs.plan_outputs(
        output, own_json, reel, labels=request.labels, queries=len(request.queries), force=force
    )
    if embed:
        if not any(target.form == "html" for target in targets):
            raise typer.BadParameter("there is no page to put the video into: give -o FILE.html", param_hint="--embed")
        # Features name their video once they are loaded.
        files = [video for video in request.videos if not video.endswith(options.FEATURE_SUFFIX)]
        from r2tuning.output.page import check_embedding

        check_embedding(*files)
    outputs.check_clips(clips, fast=fast, pad=pad, targets=targets)
    if request.folders:
        from r2tuning.cli.library import encode_folders, list_failures, refuse_failures
        from r2tuning.cli.search import check_json, show_pages, write_pages

        check_json(json, targets, force=force)
        opened, added = encode_folders(request.folders, model, backbone, device, engine, sampling)
        pages = [opened.search(each, top=top_k, threshold=threshold) for each in request.queries]
        if pages[0].videos or not added.failures:
            show_pages(pages, f"In {' '.join(request.folders)}", json, targets, force=force, more=False)
            write_pages(pages, opened, targets, clips, fast, pad=pad, force=force, timecode=timecode, embed=embed)
        list_failures(added)
        refuse_failures(added)
        return

    grounder = videos.open_model(request, model, backbone, device, engine, moved)
    if present_only and not grounder.tells_presence:
        raise CheckpointError(
            f"{grounder.config.name}: cannot tell whether a video shows a query; calibrate it with r2tuning calibrate, "
            "or leave out --present-only"
        )

    def answer(video: str, step: str) -> list[Grounding]:
        encoded = videos.encode(grounder, video, step, fps, sampling, moved)
        if not several:
            grounder.backbone.release()  # the next steps need the memory
        if save_features is not None:
            encoded.save(save_features)
        found = grounder.ground(encoded, request.queries, top_k=top_k, threshold=threshold, overlapping=overlapping)
        return [each.leave_out_absent() for each in found] if present_only else found

    answers = list(request.go_through(answer))
    _write(
        answers, targets, clips, fast, several=several, pad=pad, timecode=timecode, force=force, top=top_k, embed=embed
    )
    request.finish()


def _write(
    answers: list[tuple[str, list[Grounding]]],
    targets: Sequence[Target],
    clips: Path | None,
    fast: bool,
    *,
    several: bool,
    pad: float,
    force: bool,
    **options: Any,
) -> None:
    """Writes answers and clips; a single video that several of them show is opened once."""

    def open_footage(results: list[Grounding]) -> Footage:
        from r2tuning.output.media import Footage

        results[0].check_video()
        return Footage(results[0].video)

    shown = clips is not None or any("footage" in target.writer.options for target in targets)
    footage = open_footage(answers[0][1]) if shown and not several else None
    outputs.write_outputs(answers, targets, several=several, pad=pad, footage=footage, force=force, **options)
    if clips is not None:
        for label, results in answers:
            folder = clips / label if several else clips
            outputs.cut_clips(results, footage or open_footage(results), folder, fast=fast, pad=pad, force=force)


def highlights(
    words: videos.WordsArgument,
    query: videos.QueryOption = None,
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
    clips: outputs.ClipsOption = None,
    fast: outputs.FastOption = False,
    pad: outputs.PadOption = 0.0,
    reel: outputs.ReelOption = None,
    timecode: outputs.TimecodeOption = "source",
    moved: options.MovedOption = None,
    force: options.ForceOption = False,
) -> None:
    """Find the best seconds of videos: the highest peaks of their saliency, which do not overlap.

    Without a query, saliency is high for what a video shows most and newest.

    Example: r2tuning highlights trip.mp4 "the dog catches the frisbee" --top 3 --seconds 10
    """
    request = videos.read_request("highlights", words, [] if query is None else [query], needed=False)
    targets = outputs.plan_outputs(output, json, reel, labels=request.labels, force=force)
    outputs.check_clips(clips, fast=fast, pad=pad, targets=targets)
    grounder = videos.open_model(request, model, backbone, device, engine, moved)

    def answer(video: str, step: str) -> list[Grounding]:
        found = _answer_one(grounder, request, video, step, fps, sampling, moved)
        return [replace(found, moments=found.highlights(top, seconds))]

    answers = list(request.go_through(answer))
    _write(
        answers, targets, clips, fast, several=len(request.videos) > 1, pad=pad, timecode=timecode, force=force, top=top
    )
    request.finish()


def _answer_one(
    grounder: Grounder,
    request: videos.Request,
    video: str,
    step: str,
    fps: float | None,
    sampling: Sampling,
    moved: str | None,
) -> Grounding:
    """The answer to the query; without one, what the video shows most and newest."""
    encoded = videos.encode(grounder, video, step, fps, sampling, moved)
    if len(request.videos) == 1:
        grounder.backbone.release()  # the next steps need the memory
    return grounder.ground(encoded, request.queries[0]) if request.queries else grounder.outline(encoded)


def summarize(
    words: videos.WordsArgument,
    query: videos.QueryOption = None,
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
    timecode: outputs.TimecodeOption = "source",
    moved: options.MovedOption = None,
    force: options.ForceOption = False,
) -> None:
    """Sum up videos: choose the best shots of each within a budget, in order of time.

    Without a query, the best shots are those of what a video shows most and newest.

    Example: r2tuning summarize trip.mp4 --seconds 60 -o summary.mp4
    """
    from r2tuning.results import summarize as choose_shots

    if ratio is not None and seconds is not None:
        raise typer.BadParameter("give one of --ratio and --seconds, not both", param_hint="--seconds")
    if ratio is not None and not 0 < ratio <= 1:
        raise typer.BadParameter(f"must be above 0 and at most 1, not {ratio}", param_hint="--ratio")
    request = videos.read_request("summarize", words, [] if query is None else [query], needed=False)
    targets = outputs.plan_outputs(output, json, labels=request.labels, force=force, summary=True)
    grounder = videos.open_model(request, model, backbone, device, engine, moved)

    def answer(video: str, step: str) -> list[Summary]:
        found = _answer_one(grounder, request, video, step, fps, sampling, moved)
        with show_progress("Looking for cuts", "frames") as progress:
            return [choose_shots(found, ratio=ratio, seconds=seconds, progress=progress)]

    answers = list(request.go_through(answer))
    outputs.write_outputs(answers, targets, several=len(request.videos) > 1, timecode=timecode, force=force)
    request.finish()
