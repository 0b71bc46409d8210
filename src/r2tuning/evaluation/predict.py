"""Answers as files: JSON Lines in the keys of QVHighlights, which other systems write too."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import isclose
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator, Field

from r2tuning.checkpoints import CheckpointConfig
from r2tuning.datasets import Annotation, Benchmark
from r2tuning.datasets.entries import Entry, Fields, Qid, Text, check, read_json
from r2tuning.errors import DataError, FeatureError
from r2tuning.evaluation.score import score_predictions
from r2tuning.features import EncodedVideo, EncodingFacts
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder
from r2tuning.metrics import Prediction
from r2tuning.metrics.records import QueryId
from r2tuning.model import R2Tuning
from r2tuning.results import Grounding
from r2tuning.training.source import require_features
from r2tuning.types import QueryFeatures

MOMENTS = 50
"""Moments kept of each answer, suppressed ones of score 0 included: the benchmarks count them."""

WHOLE = 1e9
"""A window in seconds that no video outlasts."""

DECIMALS = 6
"""Of seconds: 243 · 0.1 is to be 24.3, as the annotations have it, and nothing else is to change."""


def see_whole(config: CheckpointConfig) -> CheckpointConfig:
    """The configuration with videos seen whole however long they are, as for the published scores."""
    return config.model_copy(update={"window": WHOLE})


def predict(
    grounder: Grounder,
    annotations: Sequence[Annotation],
    benchmark: Benchmark,
    store: FeatureStore,
    progress: Callable[[int, int], None] | None = None,
    videos: Sequence[Annotation] | None = None,
) -> list[Prediction]:
    """Answers every query from stored features; those of a video are read and projected once for all its queries.

    Seconds count from the first frame, as they do in training.

    Args:
        grounder: The model; its configuration decides on windows (see `see_whole`).
        annotations: Queries and their videos; labels are not looked at beyond their number.
        benchmark: What they belong to.
        store: Features of videos and queries.
        progress: Told of the queries done and their number after every video.
        videos: Annotations of the videos to ask, one for each query; None for the queries' own.

    Returns:
        One prediction for each annotation, in their order: up to 50 moments (seconds, score in [0, 1]), best first,
        and the saliency of every frame.

    Raises:
        FeatureError: If features are missing, damaged, or were made for another model or frame rate.
        DataError: If a video has more or fewer frames than the benchmark's labels allow.
    """
    require_features(annotations, benchmark, store)
    asked = annotations if videos is None else videos
    layers = grounder.config.model.layers
    together: dict[tuple[str, float | None, int | None], list[int]] = defaultdict(list)
    for index, annotation in enumerate(asked):
        together[benchmark.video_name(annotation), annotation.duration, annotation.clips].append(index)
    found: dict[int, Prediction] = {}
    for indices in together.values():
        encoded = open_video(asked[indices[0]], benchmark, store, layers)
        queries = [open_query(annotations[index], benchmark, store, layers) for index in indices]
        answers = grounder.answer(encoded, queries, top_k=MOMENTS, threshold=0)
        for index, answer in zip(indices, answers, strict=True):
            found[index] = to_prediction(annotations[index], answer)
        if progress is not None:
            progress(len(found), len(annotations))
    return [found[index] for index in range(len(annotations))]


def evaluate_model(
    model: R2Tuning,
    config: CheckpointConfig,
    annotations: Sequence[Annotation],
    benchmark: Benchmark,
    store: FeatureStore,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Scores a model that may be in the middle of its training, in fp32 and with videos seen whole.

    Args:
        model: The model; it is left in the mode it was in.
        config: What its checkpoint will say.
        annotations: Labelled annotations with durations.
        benchmark: What they belong to.
        store: Features of videos and queries.
        progress: As for `predict`.

    Returns:
        Percent, see `score_predictions`.

    Raises:
        FeatureError: As `predict`.
        DataError: As `predict`, or if a duration is unknown.
        MetricError: If nothing is annotated.
    """
    training = model.training
    try:
        # Training may run this under autocast; users do not.
        with torch.autocast(model.level_scale.device.type, enabled=False):
            grounder = Grounder(model, see_whole(config), None)
            predictions = predict(grounder, annotations, benchmark, store, progress)
    finally:
        model.train(training)
    return score_predictions(predictions, annotations, benchmark)


def open_video(annotation: Annotation, benchmark: Benchmark, store: FeatureStore, layers: int) -> EncodedVideo:
    """The stored features of an annotation's video, cut to its label rows where the benchmark has labels.

    A model may read fewer layers than are stored: the last ones.

    Raises:
        FeatureError: If they are missing, damaged, or made at another frame rate.
        DataError: If frames and label rows differ by more than the benchmark allows.
    """
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
    )
    return EncodedVideo(facts, values[:frames, -layers:])


def open_query(annotation: Annotation, benchmark: Benchmark, store: FeatureStore, layers: int) -> QueryFeatures:
    """The stored features of an annotation's query, of the last layers.

    Raises:
        FeatureError: If they are missing or damaged.
    """
    values = store.query(benchmark.query_name(annotation))
    return QueryFeatures(annotation.query, values[:, -layers:].transpose(0, 1).float())


def to_prediction(annotation: Annotation, answer: Grounding) -> Prediction:
    """An answer as the metrics take it."""
    windows = [[round(m.start, DECIMALS), round(m.end, DECIMALS), m.score] for m in answer.moments]
    return Prediction(qid=annotation.qid, windows=windows, saliency=answer.saliency.scores)  # type: ignore[arg-type]


def _count_frames(annotation: Annotation, benchmark: Benchmark, frames: int, fps: float) -> int:
    if benchmark.labels is None:
        return frames
    if annotation.saliency is not None:
        return len(benchmark.saliency_target(annotation, frames, fps))
    # Labels are withheld; an answer must not depend on whether they are.
    return frames if annotation.duration is None else min(frames, max(1, int(annotation.duration * fps)))


def _check_order(moment: list[float]) -> list[float]:
    if moment[1] < moment[0]:
        raise ValueError("the start is after the end; swap the two")
    return moment


ScoredMoment = Annotated[list[float], Field(min_length=3, max_length=3), AfterValidator(_check_order)]


class MomentAnswer(Fields):
    """A line about moments, and highlights where the system gives them."""

    qid: Qid
    pred_relevant_windows: list[ScoredMoment]
    pred_saliency_scores: list[float] | None = None


class SaliencyAnswer(Fields):
    """A line about a video's highlights; one of ``qid`` and ``vid`` says which."""

    qid: Qid | None = None
    vid: Text | None = None
    pred_saliency_scores: list[float]


def read_predictions(path: str | Path, annotations: Sequence[Annotation], *, moments: bool) -> list[Prediction]:
    """Reads and checks the answers of any system.

    Args:
        path: A ``.jsonl`` file, an object per query: ``qid`` and ``pred_relevant_windows`` (``[start, end, score]``,
            seconds, best first), ``pred_saliency_scores`` where there are any. Without moments ``qid`` or ``vid``, and
            ``pred_saliency_scores``. Other keys are ignored.
        annotations: Of the same queries; they say what query a ``vid`` stands for.
        moments: Whether the benchmark asks for moments.

    Returns:
        In the order of the file.

    Raises:
        DataError: If the file cannot be read; at the first line that is wrong, as ``file:line: field: what``.
    """
    queries = {annotation.vid: annotation.qid for annotation in annotations}
    places: dict[QueryId, str] = {}
    predictions = []
    for entry in read_json(Path(path)):
        prediction = _read_moments(entry) if moments else _read_saliency(entry, queries)
        if prediction.qid in places:
            raise DataError(f"{entry.place}: qid: {prediction.qid!r} is already that of {places[prediction.qid]}")
        places[prediction.qid] = entry.place
        predictions.append(prediction)
    return predictions


def format_predictions(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, most: int | None = None
) -> str:
    """Answers as `read_predictions` and the benchmarks' own evaluators read them.

    Args:
        predictions: Answers.
        annotations: Of the same queries in the same order.
        most: Most moments of a query to write; None for all.

    Returns:
        One line per query; moments are left out where no answer has any.

    Example:
        >>> truth = Annotation(qid=1, vid="a", query="a dog", duration=4)
        >>> print(format_predictions([Prediction(1, [[0, 2, 0.5]], [0.25, 0.5])], [truth]), end="")
        {"qid": 1, "query": "a dog", "vid": "a", "pred_relevant_windows": [[0.0, 2.0, 0.5]], "pred_saliency_scores": [0.25, 0.5]}
    """  # noqa: E501  (a line of the file)
    moments = any(len(prediction.windows) for prediction in predictions)
    lines = []
    for prediction, annotation in zip(predictions, annotations, strict=True):
        line: dict[str, object] = {"qid": prediction.qid, "query": annotation.query, "vid": annotation.vid}
        if moments:
            line["pred_relevant_windows"] = prediction.windows[:most].tolist()
        if prediction.saliency is not None:
            line["pred_saliency_scores"] = prediction.saliency.tolist()
        lines.append(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines)


def _read_moments(entry: Entry) -> Prediction:
    fields = check(entry, MomentAnswer)
    windows = np.array(fields.pred_relevant_windows, dtype=np.float64).reshape(-1, 3)
    saliency = fields.pred_saliency_scores
    return Prediction(fields.qid, windows, None if saliency is None else np.array(saliency, dtype=np.float64))


def _read_saliency(entry: Entry, queries: dict[str, QueryId]) -> Prediction:
    fields = check(entry, SaliencyAnswer)
    if fields.qid is not None:
        qid = fields.qid
    elif fields.vid is None:
        raise DataError(f"{entry.place}: qid: is missing, and so is vid; give one of them")
    elif fields.vid in queries:
        qid = queries[fields.vid]
    else:
        raise DataError(f"{entry.place}: vid: {fields.vid!r} is not in the ground truth; remove the line")
    return Prediction(qid, np.empty((0, 3)), np.array(fields.pred_saliency_scores, dtype=np.float64))
