"""Scores of a model on a split, and whether each is right: what a calibration is fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2tuning.datasets import Annotation, Benchmark, load_annotations
from r2tuning.decoding.calibration import find_evidence, log_odds
from r2tuning.errors import MetricError
from r2tuning.evaluation.predict import predict
from r2tuning.evaluation.splits import FAMILY_OF, OpenSplit, absent_file
from r2tuning.grounder import Grounder
from r2tuning.intervals import FloatArray, temporal_iou
from r2tuning.metrics import Prediction

RIGHT_IOU = 0.5
"""IoU with a true moment from which a moment is right."""


@dataclass(frozen=True)
class Judged:
    """Raw scores ``[n]`` and whether each is right."""

    scores: FloatArray
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class AbsentQueries:
    """Queries that are true of no moment of their video, and for each an annotation of that video."""

    queries: Sequence[Annotation]
    videos: Sequence[Annotation]
    source: str  # where they come from, to be shown


@dataclass(frozen=True)
class Evidence:
    """The scores of a model on a split, judged.

    Attributes:
        moments: Moments that suppression kept, of the queries that have a true one; None for the saliency family.
        saliency: Frames of the videos of those queries; right are those that training would count as positive.
        present: ``[n, 3]``, see `find_evidence`; of queries that have a moment.
        absent: ``[m, 3]``, of absent queries; m may be 0.
    """

    moments: Judged | None
    saliency: Judged
    present: FloatArray
    absent: FloatArray


def find_absent(split: OpenSplit) -> AbsentQueries:
    """Absent queries: those of the split, or of a file beside the split's, or else queries of other videos.

    The file of ``val.jsonl`` is ``val_absent.jsonl``. Without one, each query goes to a video half the split away that
    does not have it and, in benchmarks of several domains, is of another domain; a few are true of it by chance.
    """
    if annotated := [annotation for annotation in split.annotations if annotation.absent]:
        return AbsentQueries(annotated, annotated, "annotated")
    if split.file is not None and (file := absent_file(split.file)) is not None:
        queries = load_annotations(file, split.benchmark)
        return AbsentQueries(queries, queries, file.name)
    pairs = mismatch(split.annotations)
    return AbsentQueries([query for query, _ in pairs], [video for _, video in pairs], "queries of other videos")


def mismatch(annotations: Sequence[Annotation]) -> list[tuple[Annotation, Annotation]]:
    """Pairs of a query and a video that does not have it; queries that all videos have are left out.

    Example:
        >>> rows = [Annotation(i, vid, query, 9) for i, (vid, query) in enumerate(["ax", "ay", "bx"])]
        >>> [(query.query, video.vid) for query, video in mismatch(rows)]
        [('y', 'b')]
    """
    count = len(annotations)
    videos_with: dict[str, set[str]] = {}
    for annotation in annotations:
        videos_with.setdefault(annotation.query.casefold(), set()).add(annotation.vid)
    pairs = []
    for place, query in enumerate(annotations):
        # Neighbors in a file are often pieces of one recording.
        for step in range(count):
            other = annotations[(place + count // 2 + step) % count]
            elsewhere = query.domain is None or other.domain != query.domain
            if elsewhere and other.vid not in videos_with[query.query.casefold()]:
                pairs.append((query, other))
                break
    return pairs


def gather_evidence(
    grounder: Grounder,
    split: OpenSplit,
    absent: AbsentQueries,
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Grounds all queries, as `Grounder.ground` does, and judges the scores; the grounder must have no calibration."""
    benchmark, config = split.benchmark, grounder.config
    if not split.labelled:
        raise MetricError(f"the truth of the {split.name} split of {benchmark.name} is withheld; choose another split")
    if config.model.family != FAMILY_OF[benchmark.task]:
        raise MetricError(
            f"{config.name}: is of the {config.model.family} family, but {benchmark.name} scores {benchmark.task}; "
            "choose another recipe"
        )
    annotations = [annotation for annotation in split.annotations if not annotation.absent]
    total = len(annotations) + len(absent.queries)

    def report_from(before: int) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, _: progress(before + done, total)

    found = predict(grounder, annotations, benchmark, split.store, report_from(0))
    not_there = predict(grounder, absent.queries, benchmark, split.store, report_from(len(found)), absent.videos)
    return Evidence(
        judge_moments(found, annotations) if benchmark.task == "moments" else None,
        _judge_frames(found, annotations, benchmark),
        _stack(found),
        _stack(not_there),
    )


def judge_moments(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> Judged:
    """Judges the moments that suppression kept: right are those with IoU ≥ 0.5 with a true one.

    Several may be right about the same true moment, unlike in mAP.

    Example:
        >>> truth = Annotation(1, "a", "a dog", 30, ((10, 20),))
        >>> judge_moments([Prediction(1, [[11, 20, 0.9], [0, 8, 0.5], [0, 9, 0.0]])], [truth]).right.tolist()
        [True, False]
    """
    scores, right = [], []
    for prediction, annotation in zip(predictions, annotations, strict=True):
        kept = prediction.windows[prediction.windows[:, 2] > 0]
        truth = np.array(annotation.moments, dtype=np.float64).reshape(-1, 2)
        scores.append(kept[:, 2])
        right.append(temporal_iou(kept[:, :2], truth).max(axis=1, initial=0) >= RIGHT_IOU)
    return Judged(np.concatenate(scores), np.concatenate(right))


def _judge_frames(predictions: Sequence[Prediction], annotations: Sequence[Annotation], benchmark: Benchmark) -> Judged:
    scores, right = [], []
    for prediction, annotation in zip(predictions, annotations, strict=True):
        assert prediction.saliency is not None  # our models always give it
        target = benchmark.saliency_target(annotation, len(prediction.saliency), benchmark.frame_rate(annotation))
        scores.append(prediction.saliency[: len(target)])
        right.append(benchmark.positive_frames(annotation, target))
    return Judged(np.concatenate(scores), np.concatenate(right))


def _stack(predictions: Sequence[Prediction]) -> FloatArray:
    found = [
        find_evidence(
            p.windows[:, 2], p.saliency, None if p.presence is None else float(log_odds(np.array(p.presence)))
        )
        for p in predictions
        if p.saliency is not None
    ]
    return np.array(found).reshape(-1, 3)
