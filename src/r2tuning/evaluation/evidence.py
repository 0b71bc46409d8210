"""What a model says about a split, and what of it is right: the material of a calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2tuning.datasets import Annotation, Benchmark, load_annotations
from r2tuning.datasets.download import dataset_folder
from r2tuning.decoding.calibration import find_evidence
from r2tuning.errors import MetricError
from r2tuning.evaluation.predict import predict
from r2tuning.evaluation.score import asks_for_moments
from r2tuning.evaluation.splits import EvaluationSplit
from r2tuning.grounder import Grounder
from r2tuning.intervals import FloatArray, temporal_iou
from r2tuning.metrics import Prediction
from r2tuning.training.config import Recipe

RIGHT_IOU = 0.5
"""IoU with a true moment from which a moment is right."""


@dataclass(frozen=True)
class Judged:
    """Raw scores and whether each is right.

    Attributes:
        scores: ``[n]``.
        right: ``[n]``.
    """

    scores: FloatArray
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class AbsentQueries:
    """Queries that are asked in vain.

    Attributes:
        queries: The queries.
        videos: Annotations of the videos they are asked of, one for each.
        source: Where they come from, for people.
    """

    queries: Sequence[Annotation]
    videos: Sequence[Annotation]
    source: str


@dataclass(frozen=True)
class Evidence:
    """What a model says about a split, and what of it is right.

    Attributes:
        moments: All moments that overlap suppression left of the queries that have one; None for the saliency family.
        saliency: Frames of the videos of those queries; right are those that training would count as positive.
        present: ``[n, 2]``, see `find_evidence`; of queries that have a moment.
        absent: ``[m, 2]``, of queries that are asked in vain; m may be 0.
    """

    moments: Judged | None
    saliency: Judged
    present: FloatArray
    absent: FloatArray


def find_absent(recipe: Recipe, split: EvaluationSplit) -> AbsentQueries:
    """Queries that are asked in vain: of a file beside the split's, or else those of other videos.

    The file of ``val.jsonl`` is ``val_absent.jsonl``. Without one, each query is asked of a video half the split away
    that does not have it, and, in benchmarks of several domains, is of another one; a few are true of it by chance.

    Args:
        recipe: As for `open_split`.
        split: What it gave.

    Raises:
        DataError: If the file cannot be read.
    """
    benchmark = split.benchmark
    if not benchmark.is_custom:
        file = benchmark.find_file(recipe.data.annotations or dataset_folder(benchmark), split.name)
        file = file.with_name(f"{file.stem}_absent{file.suffix}")
        if file.is_file() and file.stat().st_size:
            queries = load_annotations(file, benchmark)
            return AbsentQueries(queries, queries, file.name)
    pairs = mismatch(split.annotations)
    return AbsentQueries([query for query, _ in pairs], [video for _, video in pairs], "queries of other videos")


def mismatch(annotations: Sequence[Annotation]) -> list[tuple[Annotation, Annotation]]:
    """Pairs of a query and a video that does not have it; queries that all videos have are left out.

    Example:
        >>> asked = [Annotation(i, vid, query, 9) for i, (vid, query) in enumerate(["ax", "ay", "bx"])]
        >>> [(query.query, video.vid) for query, video in mismatch(asked)]
        [('y', 'b')]
    """
    count = len(annotations)
    having: dict[str, set[str]] = {}
    for annotation in annotations:
        having.setdefault(annotation.query.casefold(), set()).add(annotation.vid)
    pairs = []
    for place, query in enumerate(annotations):
        # Neighbours in a file are often pieces of one recording.
        others = (annotations[(place + count // 2 + step) % count] for step in range(count))
        video = next(
            (
                other
                for other in others
                if other.vid not in having[query.query.casefold()]
                and (query.domain is None or other.domain != query.domain)
            ),
            None,
        )
        if video is not None:
            pairs.append((query, video))
    return pairs


def gather_evidence(
    grounder: Grounder,
    split: EvaluationSplit,
    absent: AbsentQueries,
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Asks a model all queries, as `Grounder.ground` does, and judges what it says.

    Args:
        grounder: Without a calibration.
        split: Labelled queries.
        absent: Queries asked in vain.
        progress: Told of the queries done and their number.

    Raises:
        MetricError: If the truth is withheld, or the benchmark asks for what the model does not give.
        FeatureError: If features are missing, damaged or made for another model.
        DataError: If a video has more or fewer frames than the labels allow.
    """
    benchmark, config = split.benchmark, grounder.config
    if not split.labelled:
        raise MetricError(f"the truth of the {split.name} split of {benchmark.name} is withheld; choose another split")
    gives_moments = config.model.family == "grounding"
    if gives_moments != asks_for_moments(benchmark):
        gives = "moments" if gives_moments else "saliency only"
        raise MetricError(f"{config.name}: gives {gives}, which {benchmark.name} does not ask for; name another recipe")
    total = len(split.annotations) + len(absent.queries)

    def tell(before: int) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, _: progress(before + done, total)

    answers = predict(grounder, split.annotations, benchmark, split.store, tell(0))
    in_vain = predict(grounder, absent.queries, benchmark, split.store, tell(len(answers)), absent.videos)
    return Evidence(
        judge_moments(answers, split.annotations) if gives_moments else None,
        judge_frames(answers, split.annotations, benchmark),
        _stack(answers),
        _stack(in_vain),
    )


def judge_moments(answers: Sequence[Prediction], annotations: Sequence[Annotation]) -> Judged:
    """All moments that overlap suppression left; right are those that overlap a true one with IoU ≥ 0.5.

    Several may overlap the same: a second right answer is not wrong, as it is for mAP.

    Example:
        >>> truth = Annotation(1, "a", "a dog", 30, ((10, 20),))
        >>> judge_moments([Prediction(1, [[11, 20, 0.9], [0, 8, 0.5], [0, 9, 0.0]])], [truth]).right.tolist()
        [True, False]
    """
    scores, right = [], []
    for answer, annotation in zip(answers, annotations, strict=True):
        left = answer.windows[answer.windows[:, 2] > 0]
        truth = np.array(annotation.moments, dtype=np.float64).reshape(-1, 2)
        scores.append(left[:, 2])
        right.append(temporal_iou(left[:, :2], truth).max(axis=1, initial=0) >= RIGHT_IOU)
    return Judged(np.concatenate(scores), np.concatenate(right))


def judge_frames(answers: Sequence[Prediction], annotations: Sequence[Annotation], benchmark: Benchmark) -> Judged:
    """All frames of the videos; right are those from which training would draw a positive."""
    scores, right = [], []
    for answer, annotation in zip(answers, annotations, strict=True):
        assert answer.saliency is not None  # our models always give it
        target = benchmark.saliency_target(annotation, len(answer.saliency), benchmark.frame_rate(annotation))
        scores.append(answer.saliency[: len(target)])
        right.append(benchmark.positive_frames(annotation, target))
    return Judged(np.concatenate(scores), np.concatenate(right))


def _stack(answers: Sequence[Prediction]) -> FloatArray:
    found = [find_evidence(a.windows[:, 2], a.saliency) for a in answers if a.saliency is not None]
    return np.array(found).reshape(-1, 2)
