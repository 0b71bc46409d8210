"""Opens the splits of a recipe, and makes features of custom videos where they are missing."""

from __future__ import annotations

import warnings
from dataclasses import replace

from r2tuning.backbones import ClipBackbone, choose_device
from r2tuning.errors import DataError, R2TuningWarning, RecipeError, TrainingError
from r2tuning.evaluation.splits import FAMILY_OF, OpenSplit, open_split, read_annotations
from r2tuning.features.encode import Progress
from r2tuning.features.extraction import QueryTask, VideoFolder, VideoTask, extract_queries, extract_videos
from r2tuning.features.store import STORE_FILE, FeatureStore, StoreFacts
from r2tuning.training.config import Recipe


def open_splits(recipe: Recipe) -> tuple[OpenSplit, OpenSplit]:
    """Opens the splits to train and to validate on; the first leaves out videos that are too short."""
    data, seed = recipe.data, recipe.training.seed
    benchmark = data.find_rules(recipe.fps)
    needed = FAMILY_OF[benchmark.task]
    if recipe.model.family != needed:
        raise RecipeError(
            f"{recipe.name}: a model of the {recipe.model.family} family cannot learn {benchmark.name}; "
            f"set model.family={needed}"
        )
    if benchmark.domains and data.domain is None:
        warnings.warn(
            f"{recipe.name}: one model learns all {len(benchmark.domains)} domains; the published scores are of one "
            f"each, such as recipe {benchmark.name}/{benchmark.domains[0]}",
            R2TuningWarning,
            stacklevel=2,
        )
    training, validation = (
        open_split(data, split, fps=recipe.fps, seed=seed) for split in (data.train_split, data.validation_split)
    )
    kept = benchmark.keep_trainable(training.annotations)
    if not kept:
        raise DataError(
            f"{recipe.name}: all {len(training.annotations)} training videos are shorter than "
            f"{benchmark.min_duration:g} s"
        )
    return replace(training, annotations=kept), validation


def prepare_features(recipe: Recipe, progress: Progress | None = None) -> None:
    """Makes the features of a recipe's custom videos and queries that are missing or out of date.

    Does nothing where the recipe names no folder of videos. An interrupted call leaves only complete features; the next
    call continues from there.
    """
    data = recipe.data
    if data.videos is None:
        return
    benchmark = data.find_rules(recipe.fps)
    splits = data.train_split, data.validation_split or benchmark.evaluation_split
    annotations = [a for split in splits for a in read_annotations(data, split, seed=recipe.training.seed)]
    files = VideoFolder(data.videos)
    names = dict.fromkeys(benchmark.video_name(annotation) for annotation in annotations)
    videos = [VideoTask(name, files.find(name), recipe.fps) for name in names]
    texts = {benchmark.query_name(annotation): annotation.query for annotation in annotations}
    queries = [QueryTask(name, text) for name, text in texts.items()]
    folder, layers = data.feature_folder, recipe.model.layers
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
            f"remove them from {data.annotations}"
        )
