"""``r2tuning ground``: find moments in a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2tuning.cli.answers import plan_files, read_facts, report_answers
from r2tuning.cli.asking import (
    FEATURE_SUFFIX,
    BackboneOption,
    DeviceOption,
    EngineOption,
    ForceOption,
    FpsOption,
    ModelOption,
    SamplingOption,
    VideoArgument,
    check_fps,
    load_grounder,
    open_encoded,
)
from r2tuning.cli.cutting import ClipsOption, Cutting, FastOption, GifOption, SheetOption
from r2tuning.cli.thumbnails import read_thumbnails
from r2tuning.files import check_target
from r2tuning.output.page import MAX_EMBEDDED, check_report_target, write_report
from r2tuning.output.registry import SUFFIXES, Format

if TYPE_CHECKING:
    from r2tuning.results import Grounding


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
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output", "-o", help=f"Write the answers to this file ({', '.join(SUFFIXES)}); may be repeated."
        ),
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Format of --output, where - is stdout, instead of the table.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the answers as JSON to this file; - for stdout, instead of the table.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw moments and saliency to this .png, .svg or .pdf; numbered if there are more queries."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page to this .html: player, timelines to click on, downloads.")
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help=f"Put the video into the --report, up to {MAX_EMBEDDED // 10**6} MB.")
    ] = False,
    clips: ClipsOption = None,
    fast: FastOption = False,
    gif: GifOption = None,
    contact_sheet: SheetOption = None,
    save_features: Annotated[
        Path | None, typer.Option(help=f"Keep the encoded video in this {FEATURE_SUFFIX} file, to ask it again.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Find the moments of a video that match a sentence.

    Example: r2tuning ground trip.mp4 "the dog catches the frisbee" "people dance"
    """
    plots = _plot_files(plot, len(queries))
    check_fps(fps)
    if save_features is not None and save_features.suffix != FEATURE_SUFFIX:
        raise typer.BadParameter(f"the file's name must end in {FEATURE_SUFFIX}", param_hint="--save-features")
    if save_features is not None:
        check_target(save_features, force=force)
    files = plan_files(output or [], form, json, force=force)
    for target in plots:
        from r2tuning.output.charts.figure import check_plot_target

        check_plot_target(target, force=force)
    if embed and report is None:
        raise typer.BadParameter("there is no page to put the video into: give --report too", param_hint="--embed")
    if report is not None:
        # Features tell their video only once they are loaded.
        check_report_target(report, video, embed=embed and not video.endswith(FEATURE_SUFFIX), force=force)
    cutting = Cutting(clips, fast, _plot_files(gif, len(queries)), contact_sheet, force)
    cutting.check()

    grounder = load_grounder(model, backbone, device, engine)
    encoded = open_encoded(grounder, video, fps, sampling)
    if save_features is not None:
        encoded.save(save_features)
    facts = read_facts(files, encoded.facts.video)
    results = grounder.ground(encoded, queries, top_k=top_k, threshold=threshold)
    for file, result in zip(plots, results, strict=bool(plots)):
        _draw(file, result, force)
    if report is not None:
        write_report(results, report, embed=embed, top=top_k, force=force)
        typer.echo(f"Report: {report}", err=True)
    report_answers(results, files, facts, top_k, force=force)
    cutting.cut(results)


def _plot_files(plot: Path | None, queries: int) -> list[Path]:
    if plot is None:
        return []
    if queries == 1:
        return [plot]
    return [plot.with_stem(f"{plot.stem}-{number}") for number in range(1, queries + 1)]


def _draw(file: Path, result: Grounding, force: bool) -> None:
    from r2tuning.output.charts.grounding import plot_grounding

    thumbnails, times = read_thumbnails(result)
    plot_grounding(result, file, thumbnails=thumbnails, thumbnail_times=times, force=force)
    typer.echo(f"Plot: {file}", err=True)
