"""Predictions of a model, from stored features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from math import isclose

import torch

from r2tuning.checkpoints import CheckpointConfig
from r2tuning.datasets import Annotation, Benchmark
from r2tuning.errors import FeatureError, MetricError
from r2tuning.evaluation.score import score_predictions
from r2tuning.evaluation.splits import OpenSplit, require_features
from r2tuning.features import EncodedVideo, EncodingFacts
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder
from r2tuning.metrics import Prediction
from r2tuning.model import R2Tuning
from r2tuning.results import Grounding
from r2tuning.types import QueryFeatures

MOMENTS = 50
"""Moments kept of each prediction, with suppressed ones of score 0: the benchmarks count them."""

WHOLE = 1e9
"""Seconds; a window longer than any video."""

DECIMALS = 6
"""Of seconds: makes 243 · 0.1 the 24.3 of the annotations, and changes nothing else."""


def see_whole(config: CheckpointConfig) -> CheckpointConfig:
    """The configuration without windows, as for the published scores: videos are seen whole."""
    return config.model_copy(update={"window": WHOLE})


def predict(
    grounder: Grounder,
    annotations: Sequence[Annotation],
    benchmark: Benchmark,
    store: FeatureStore,
    progress: Callable[[int, int], None] | None = None,
    videos: Sequence[Annotation] | None = None,
) -> list[Prediction]:
    """Grounds every query in stored features; a video's are read and projected once for all its queries.

    The predictions, in the order of the queries, have up to 50 moments (seconds, score in [0, 1]), best first, and the
    saliency of every frame. Seconds count from the first frame, as they do in training. The grounder's configuration
    decides on windows, see `see_whole`. Of the labels, only the number is used. ``videos`` are annotations of the
    videos to search, one for each query, if not those of the queries.
    """
    require_features(annotations, benchmark, store)
    places = annotations if videos is None else videos
    layers = grounder.config.model.layers
    together: dict[tuple[str, float | None, int | None], list[int]] = defaultdict(list)
    for index, annotation in enumerate(places):
        together[benchmark.video_name(annotation), annotation.duration, annotation.clips].append(index)
    found: dict[int, Prediction] = {}
    for indices in together.values():
        encoded = open_video(places[indices[0]], benchmark, store, layers)
        queries = [open_query(annotations[index], benchmark, store, layers) for index in indices]
        results = grounder.answer(encoded, queries, top_k=MOMENTS, threshold=0)
        for index, result in zip(indices, results, strict=True):
            found[index] = _to_prediction(annotations[index], result)
        if progress is not None:
            progress(len(found), len(annotations))
    return [found[index] for index in range(len(annotations))]


def _to_prediction(annotation: Annotation, result: Grounding) -> Prediction:
    windows = [[round(m.start, DECIMALS), round(m.end, DECIMALS), m.score] for m in result.moments]
    return Prediction(annotation.qid, windows, result.saliency.scores, result.presence)  # type: ignore[arg-type]


def predict_split(
    split: OpenSplit,
    config: CheckpointConfig,
    model: R2Tuning,
    *,
    windows: bool = False,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Grounds all queries of a split with a checkpoint, see `predict`.

    With ``windows``, long videos are covered by windows, as `Grounder.ground` does; published scores see videos whole.
    """
    if config.model.family == "saliency" and split.benchmark.task == "moments":
        raise MetricError(
            f"{config.name}: gives saliency only, but {split.benchmark.name} scores moments; evaluate it on tvsum or "
            "youtube-highlights"
        )
    grounder = Grounder(model.to(device), config if windows else see_whole(config), None)
    return predict(grounder, split.annotations, split.benchmark, split.store, progress)


def evaluate_model(model: R2Tuning, config: CheckpointConfig, split: OpenSplit) -> dict[str, float]:
    """Scores a model on a labelled split, in percent (see `score_predictions`); in fp32, with videos seen whole.

    The model may be in training: its mode stays as it is.
    """
    training = model.training
    try:
        # Training may run under autocast; users' queries do not.
        with torch.autocast(model.level_scale.device.type, enabled=False):
            predictions = predict_split(split, config, model)
    finally:
        model.train(training)
    return score_predictions(predictions, split.annotations, split.benchmark)


def open_video(annotation: Annotation, benchmark: Benchmark, store: FeatureStore, layers: int) -> EncodedVideo:
    """The last layers of a video's stored features, cut to the annotation's label rows where there are labels."""
    name, fps = benchmark.video_name(annotation), benchmark.frame_rate(annotation)
    values, made = store.video(name), store.video_facts(name)
    if made is not None and not isclose(made.fps, fps, rel_tol=1e-6):
        raise FeatureError(
            f"{name}: features have {made.fps:g} frames per second, {benchmark.name} is seen at {fps:g}; "
            "run r2tuning extract again without --fps"
        )
    frames = _count_frames(annotation, benchmark, len(values), fps)
    facts = EncodingFacts(
        video=name,
        duration=annotation.duration or len(values) / fps,
        start=0,
        fps=fps,
        sampling="exact" if made is None else made.sampling,
        truncated=False if made is None else made.truncated,
        backbone="" if made is None else made.backbone,
        fingerprint="" if made is None else made.fingerprint,
        preprocess_version=0 if made is None else made.preprocess_version,
        summary="cls" if made is None else made.summary,
    )
    return EncodedVideo(facts, values[:frames, -layers:])


def open_query(annotation: Annotation, benchmark: Benchmark, store: FeatureStore, layers: int) -> QueryFeatures:
    """The last layers of the stored features of an annotation's query."""
    values = store.query(benchmark.query_name(annotation))
    return QueryFeatures(annotation.query, values[:, -layers:].transpose(0, 1).float())


def _count_frames(annotation: Annotation, benchmark: Benchmark, frames: int, fps: float) -> int:
    if benchmark.labels is None:
        return frames
    if annotation.saliency is not None:
        return len(benchmark.saliency_target(annotation, frames, fps))
    # Predictions must not depend on whether labels are withheld.
    return frames if annotation.duration is None else min(frames, max(1, int(annotation.duration * fps)))
