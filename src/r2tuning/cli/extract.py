"""``r2tuning extract``: features of many videos and queries, for training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from r2tuning.cli.options import (
    ClusterOption,
    DeviceOption,
    EngineOption,
    GpusOption,
    JobsOption,
    SamplingOption,
    ShardOption,
    check_positive,
    choose_cluster,
    show_progress,
)
from r2tuning.errors import VideoError, show_on_one_line

if TYPE_CHECKING:
    from r2tuning.datasets import Benchmark
    from r2tuning.features.extraction import Failure, QueryTask, VideoTask


def extract(
    annotations: Annotated[Path, typer.Argument(help="Annotation file: what videos and queries there are.")],
    videos: Annotated[Path, typer.Argument(help="Folder of the video files, named as in the annotations.")],
    store: Annotated[Path, typer.Argument(help="Folder to put the features into; run again to continue or to update.")],
    benchmark: Annotated[
        str, typer.Option("--benchmark", "-b", help="Name of the benchmark; custom for your CSV or JSONL.")
    ] = "custom",
    backbone: Annotated[
        str, typer.Option(help="Backbone to use: ViT-B/32, SigLIP2-B/16 …, hub name or folder.")
    ] = "ViT-B/32",
    layers: Annotated[int, typer.Option(min=1, help="How many of its last layers to keep.")] = 4,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames to sample per second; by default the benchmark's; required for custom data.",
            callback=check_positive,
        ),
    ] = None,
    sampling: SamplingOption = "exact",
    jobs: JobsOption = None,
    device: DeviceOption = None,
    engine: EngineOption = "torch",
    layout: Annotated[
        Literal["safetensors", "npy"], typer.Option(help="safetensors; or npy, the layout of the authors.")
    ] = "safetensors",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first videos and their queries.")] = None,
    shard: ShardOption = None,
    cluster: ClusterOption = None,
    gpus: GpusOption = 0,
) -> None:
    """Extract features of the videos and queries of an annotation file.

    Features that are up to date are kept, so an interrupted run continues where it stopped. With --shard 1/8 to
    --shard 8/8, eight processes on any machines fill one store at the same time; --cluster does the same with Ray.

    Example: r2tuning extract charades_train.jsonl videos/ features/ --benchmark charades-sta --jobs 4
    """
    from r2tuning.datasets import find_benchmark

    rules = find_benchmark(benchmark)
    machines = choose_cluster(cluster, jobs, gpus)
    if machines and shard:
        raise typer.BadParameter("a cluster shares out the videos itself; leave out --shard", param_hint="--shard")
    if fps is None and rules.is_custom:
        raise typer.BadParameter("custom videos need a rate, such as --fps 1", param_hint="--fps")
    video_tasks, query_tasks, missing = _plan(annotations, videos, rules, fps, limit)
    if shard is not None:
        video_tasks = [task for task in video_tasks if shard.takes(task.name)]
        missing = [failure for failure in missing if shard.takes(failure.name)]
        query_tasks = query_tasks if shard.number == 1 else []  # in the same batches as without shards

    from r2tuning.backbones import choose_device, load_backbone
    from r2tuning.features.extraction import extract_queries, extract_videos
    from r2tuning.features.store import FeatureStore

    model = load_backbone(backbone, layers=layers, device=choose_device(device), engine=engine)
    try:
        with FeatureStore.fill(store, model, layout, shard) as target:
            with show_progress("Queries", "queries") as progress:
                queries = extract_queries(query_tasks, target, model, progress=progress)
            with show_progress("Videos", "videos") as progress:
                done = extract_videos(
                    video_tasks,
                    target,
                    model,
                    sampling=sampling,
                    jobs=jobs or 1,
                    machines=machines,
                    progress=progress,
                )
    except KeyboardInterrupt:
        typer.echo(f"stopped; what is complete is in {store}; run the same command again to continue", err=True)
        raise typer.Exit(130) from None
    failures = [*missing, *done.failures]
    share = "" if shard is None else f" shard {shard}:"
    typer.echo(
        f"{store}:{share} videos: {done.extracted} extracted, {done.skipped} skipped, {len(failures)} failed; "
        f"queries: {queries.extracted} extracted, {queries.skipped} skipped"
    )
    for failure in failures:
        typer.echo(show_on_one_line(f"failed: {failure.name}: {failure.reason}"), err=True)
    if failures:
        raise typer.Exit(1)


def _plan(
    annotations: Path, folder: Path, benchmark: Benchmark, fps: float | None, limit: int | None
) -> tuple[list[VideoTask], list[QueryTask], list[Failure]]:
    """What there is to do, and the videos that have no file."""
    from r2tuning.datasets import load_annotations
    from r2tuning.features.extraction import Failure, QueryTask, VideoFolder, VideoTask

    files = VideoFolder(folder)
    videos: dict[str, VideoTask | Failure] = {}
    queries: dict[str, QueryTask] = {}
    for entry in load_annotations(annotations, benchmark, find=files.find):
        video, query = benchmark.video_name(entry), benchmark.query_name(entry)
        if video not in videos:
            if len(videos) == limit:
                continue
            rate = fps or benchmark.frame_rate(entry)
            try:
                videos[video] = VideoTask(video, files.find(video), rate)
            except VideoError as error:
                videos[video] = Failure(video, str(error))
        queries.setdefault(query, QueryTask(query, entry.query))
    found = [task for task in videos.values() if isinstance(task, VideoTask)]
    missing = [failure for failure in videos.values() if isinstance(failure, Failure)]
    return found, list(queries.values()), missing
