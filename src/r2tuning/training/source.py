"""From a recipe to its annotations and features; features of custom data are made where missing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path

from r2tuning.backbones import ClipBackbone, choose_device
from r2tuning.datasets import Annotation, Benchmark, find_benchmark, fit_moments, load_annotations, load_custom
from r2tuning.datasets.custom import CUSTOM, hold_out
from r2tuning.datasets.download import dataset_folder
from r2tuning.errors import DataError, FeatureError, R2TuningWarning, RecipeError, TrainingError
from r2tuning.evaluation.score import asks_for_moments
from r2tuning.features.encode import Progress
from r2tuning.features.extraction import QueryTask, VideoFolder, VideoTask, extract_queries, extract_videos
from r2tuning.features.store import STORE_FILE, FeatureStore, StoreFacts
from r2tuning.training.config import Recipe


@dataclass(frozen=True)
class Source:
    """What a run reads.

    Attributes:
        benchmark: Rules of the data.
        store: Features of all videos and queries.
        training: Annotations to train on.
        validation: Annotations to validate on.
    """

    benchmark: Benchmark
    store: FeatureStore
    training: list[Annotation]
    validation: list[Annotation]


def open_source(recipe: Recipe) -> Source:
    """Reads the annotations of a recipe and opens its features.

    Args:
        recipe: The recipe; features must be there.

    Raises:
        RecipeError: If it does not say where its data is, or its family of models is not the benchmark's.
        DataError: If annotations cannot be read, or all videos are too short to train on.
        FeatureError: If features are missing, or made at another frame rate.
    """
    benchmark, training, validation = read_annotations(recipe)
    needed = "grounding" if asks_for_moments(benchmark) else "saliency"
    if recipe.model.family != needed:
        raise RecipeError(
            f"{recipe.name}: a model of the {recipe.model.family} family cannot learn {benchmark.name}; "
            f"set model.family={needed}"
        )
    store = FeatureStore.open(features_folder(recipe))
    require_features([*training, *validation], benchmark, store)
    training, validation = (_fill_in(part, benchmark, store) for part in (training, validation))
    kept = benchmark.keep_trainable(training)
    if not kept:
        raise DataError(
            f"{recipe.name}: all {len(training)} training videos are shorter than {benchmark.min_duration:g} s"
        )
    return Source(benchmark, store, kept, validation)


def require_features(annotations: Sequence[Annotation], benchmark: Benchmark, store: FeatureStore) -> None:
    """Says at once how many features are missing, rather than at the first that is, in the middle of the work.

    Raises:
        FeatureError: If any is.
    """
    for kind, names, has in (
        ("videos", dict.fromkeys(benchmark.video_name(a) for a in annotations), store.has_video),
        ("queries", dict.fromkeys(benchmark.query_name(a) for a in annotations), store.has_query),
    ):
        missing = [name for name in names if not has(name)]
        if missing:
            first = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise FeatureError(
                f"{store.folder}: no features of {len(missing)} of {len(names)} {kind} ({first}); make them with "
                f"r2tuning extract, or fetch the authors' with r2tuning download"
            )


def read_annotations(recipe: Recipe) -> tuple[Benchmark, list[Annotation], list[Annotation]]:
    """Rules, training and validation annotations of a recipe.

    Raises:
        RecipeError: If it does not say where its data is.
        DataError: If annotations cannot be read.
    """
    data = recipe.data
    if data.benchmark == "custom":
        if data.annotations is None:
            raise RecipeError(f"{recipe.name}: your annotations are not named; add --set data.annotations=FILE.csv")
        training = load_custom(data.annotations)
        if data.validation is not None:
            # Queries are numbered by file; numbers of the two must not meet.
            validation = [replace(a, qid=len(training) + i) for i, a in enumerate(load_custom(data.validation))]
        else:
            training, validation = hold_out(training, recipe.training.seed)
        return replace(CUSTOM, fps=recipe.fps), training, validation
    benchmark = find_benchmark(data.benchmark)
    folder = data.annotations or dataset_folder(benchmark)
    if benchmark.domains and data.domain is None:
        warnings.warn(
            f"{recipe.name}: one model learns all {len(benchmark.domains)} domains; the published scores are of one "
            f"each, such as recipe {benchmark.name}/{benchmark.domains[0]}",
            R2TuningWarning,
            stacklevel=2,
        )
    train, val = (
        load_annotations(benchmark.find_file(folder, split), benchmark, split=split, domain=data.domain)
        for split in (data.train_split, data.validation_split or benchmark.evaluation_split)
    )
    return benchmark, train, val


def features_folder(recipe: Recipe) -> Path:
    """Where a recipe's features are, or are to be made.

    Raises:
        RecipeError: If it does not say.
    """
    data = recipe.data
    if data.features is not None:
        return data.features
    if data.benchmark != "custom":
        benchmark = find_benchmark(data.benchmark)
        folder = data.annotations or dataset_folder(benchmark)
        # Benchmarks made on the spot have their videos in that folder, where features would mix with them.
        return folder if benchmark.hub_folder else folder / "features"
    if data.annotations is None:
        raise RecipeError(f"{recipe.name}: your annotations are not named; add --set data.annotations=FILE.csv")
    return data.annotations.with_suffix(".features")


def _fill_in(annotations: Sequence[Annotation], benchmark: Benchmark, store: FeatureStore) -> list[Annotation]:
    """Own annotations do not say how long their videos are and count from the player's zero; the features know."""
    return [a if a.duration is not None else _fit_to_video(a, benchmark, store) for a in annotations]


def _fit_to_video(annotation: Annotation, benchmark: Benchmark, store: FeatureStore) -> Annotation:
    name, fps = benchmark.video_name(annotation), benchmark.frame_rate(annotation)
    made = store.video_facts(name)
    if made is not None and not isclose(made.fps, fps, rel_tol=1e-6):
        raise FeatureError(
            f"{store.folder}: {name} has features of {made.fps:g} frames per second; set fps={made.fps:g}, or name the "
            "folder of the videos with data.videos to make them anew"
        )
    start = 0 if made is None else made.start
    duration = store.frames(name) / fps if made is None else made.duration
    moments = tuple((first - start, last - start) for first, last in annotation.moments)
    try:
        return fit_moments(replace(annotation, duration=duration, moments=moments))
    except DataError as error:
        raise DataError(f"{annotation.vid}: {annotation.query!r}: {error}") from None


def prepare_features(recipe: Recipe, progress: Progress | None = None) -> None:
    """Makes the features of a recipe's own videos and queries that are not there or not up to date.

    Does nothing where the recipe names no folder of videos. Interrupted, it leaves only complete features, and called
    again goes on from there.

    Args:
        recipe: The recipe.
        progress: Told of the videos done and of those to do.

    Raises:
        DataError: If annotations cannot be read.
        VideoError: If a video has no file.
        FeatureError: If the folder of features has those of another CLIP.
        BackboneError: If the CLIP cannot be loaded.
        TrainingError: If a video cannot be used.
    """
    if recipe.data.videos is None:
        return
    benchmark, training, validation = read_annotations(recipe)
    annotations = [*training, *validation]
    files = VideoFolder(recipe.data.videos)
    names = dict.fromkeys(benchmark.video_name(annotation) for annotation in annotations)
    videos = [VideoTask(name, files.find(name), recipe.fps) for name in names]
    texts = {benchmark.query_name(annotation): annotation.query for annotation in annotations}
    queries = [QueryTask(name, text) for name, text in texts.items()]
    folder, layers = features_folder(recipe), recipe.model.layers
    if (folder / STORE_FILE).is_file():
        layers = max(layers, StoreFacts.read(folder).layers)  # a model may read fewer than there are
    wanted = recipe.training.accelerator
    backbone = ClipBackbone.load(
        recipe.backbone, layers=layers, device=choose_device(None if wanted == "auto" else wanted)
    )
    store = FeatureStore.create(folder, backbone)
    extract_queries(queries, store, backbone)
    failures = extract_videos(videos, store, backbone, progress=progress).failures
    if failures:
        first = failures[0]
        raise TrainingError(
            f"{first.name}: {first.reason} ({len(failures)} of {len(videos)} videos cannot be used); replace them, or "
            f"remove them from {recipe.data.annotations}"
        )
