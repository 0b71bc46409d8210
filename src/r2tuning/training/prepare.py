"""Features of your own videos, made before training where they are missing."""

from __future__ import annotations

from r2tuning.backbones import ClipBackbone, choose_device
from r2tuning.errors import TrainingError
from r2tuning.features.batch import extract_queries, extract_videos
from r2tuning.features.extract import Progress
from r2tuning.features.store import FeatureStore
from r2tuning.features.store_facts import STORE_FILE, StoreFacts
from r2tuning.features.tasks import QueryTask, VideoTask
from r2tuning.features.video_folder import VideoFolder
from r2tuning.training.config import Recipe
from r2tuning.training.source import features_folder, read_annotations


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
