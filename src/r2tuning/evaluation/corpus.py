"""Search across videos: its files of predictions and truth, and rankings of scored pairs; without PyTorch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from r2tuning.datasets import Annotation, Benchmark, load_annotations
from r2tuning.datasets.entries import read_json
from r2tuning.errors import DataError, MetricError
from r2tuning.intervals import FloatArray
from r2tuning.metrics import CorpusPrediction, CorpusTruth, Prediction
from r2tuning.metrics.corpus import RECALL_TOPS
from r2tuning.metrics.records import QueryId

_Record = TypeVar("_Record", CorpusPrediction, CorpusTruth)


def is_corpus_file(path: str | Path) -> bool:
    """Whether a file of predictions is about moments of several videos, which its first line says.

    False for what cannot be read; the reader of other predictions says why.
    """
    path = Path(path)
    try:
        # Not parsed: files of predictions are large, and are read again.
        if path.is_file():
            with path.open("rb") as file:
                return b'"pred_corpus"' in next((line for line in file if line.strip()), b"")
    except OSError:
        pass
    return False


def read_corpus_predictions(path: str | Path) -> list[CorpusPrediction]:
    """Reads a ``.jsonl`` file with a line per query: ``qid`` and ``pred_corpus``, see `CorpusPrediction.from_json`."""
    return _read(Path(path), CorpusPrediction.from_json)


def read_corpus_truth(
    path: str | Path, benchmark: Benchmark, *, split: str | None = None, domain: str | None = None
) -> list[CorpusTruth]:
    """Reads the truth of every query across videos.

    The file has lines with ``relevant_corpus``, see `CorpusTruth.from_json`, or is an annotation file of the benchmark,
    see `to_corpus_truth`.
    """
    if "relevant_corpus" in read_json(Path(path))[0].values:
        return _read(Path(path), CorpusTruth.from_json)
    return to_corpus_truth(load_annotations(path, benchmark, split=split, domain=domain))


def to_corpus_truth(annotations: Sequence[Annotation]) -> list[CorpusTruth]:
    """The truth across videos that annotations of single videos give: the moments of all with the same sentence.

    Upper and lower case are the same. Videos that are not annotated for a sentence count as wrong.

    Example:
        >>> rows = [Annotation(1, "a", "A dog", 30, ((0, 5),)), Annotation(2, "b", "a dog", 30, ((10, 20),))]
        >>> [(truth.qid, truth.videos) for truth in to_corpus_truth(rows)]
        [(1, ('a', 'b')), (2, ('a', 'b'))]
    """
    places: dict[str, dict[tuple[str, float, float], None]] = defaultdict(dict)
    for annotation in annotations:
        for start, end in annotation.moments:
            places[annotation.query.casefold()][annotation.vid, start, end] = None
    truths = []
    for annotation in annotations:
        rows = list(places[annotation.query.casefold()])
        windows = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 2)
        truths.append(CorpusTruth(annotation.qid, [row[0] for row in rows], windows, query=annotation.query))
    return truths


def rank_pairs(
    qids: Sequence[QueryId], videos: Sequence[str], moments: FloatArray, scores: FloatArray
) -> list[CorpusPrediction]:
    """Ranks the moments of every query in every video by their scores; the first hundred count.

    Args:
        qids: Q queries.
        videos: V videos.
        moments: ``[Q, V, K, 2]``, starts and ends in seconds of K moments for each pair.
        scores: ``[Q, V, K]``; moments of score -inf are left out, and of equal ones the first goes first.

    Example:
        >>> moments = np.array([[[[0.0, 5.0]], [[5.0, 9.0]]]])
        >>> rank_pairs([1], ["a", "b"], moments, np.array([[[0.2], [0.7]]]))[0].videos
        ('b', 'a')
    """
    places = np.repeat(np.array(videos, dtype=object), moments.shape[2])
    return [
        _rank(qid, places, spans, values)
        for qid, spans, values in zip(
            qids, moments.reshape(len(qids), -1, 2), scores.reshape(len(qids), -1), strict=True
        )
    ]


def rank_predictions(
    videos: Sequence[str],
    found: Iterable[Sequence[Prediction]],
    score: Callable[[Prediction], FloatArray] = lambda prediction: prediction.windows[:, 2],
) -> list[CorpusPrediction]:
    """Ranks the predictions of the same queries in several videos; the first hundred moments of each query count.

    Args:
        videos: V videos.
        found: For each video, the prediction of every query, see `r2tuning.evaluation.predict.predict_everywhere`.
        score: The scores ``[N]`` by which the moments of a prediction are ranked among those of all videos; -inf
            leaves one out.

    Example:
        >>> found = [[Prediction(1, [[0, 5, 0.9]], presence=0.2)], [Prediction(1, [[5, 9, 0.7]], presence=0.8)]]
        >>> rank_predictions(["a", "b"], found)[0].videos
        ('a', 'b')
        >>> rank_predictions(["a", "b"], found, lambda p: p.windows[:, 2] * p.presence)[0].videos
        ('b', 'a')
    """
    ranked = []
    for predictions in zip(*found, strict=True):
        places = np.repeat(np.array(videos, dtype=object), [len(prediction.windows) for prediction in predictions])
        spans = np.concatenate([prediction.windows[:, :2] for prediction in predictions])
        values = np.concatenate([score(prediction) for prediction in predictions])
        ranked.append(_rank(predictions[0].qid, places, spans, values))
    return ranked


def _rank(qid: QueryId, videos: NDArray[np.object_], spans: FloatArray, scores: FloatArray) -> CorpusPrediction:
    order = np.argsort(-scores, kind="stable")[: max(RECALL_TOPS)]
    order = order[scores[order] > -np.inf]
    return CorpusPrediction(qid, videos[order].tolist(), np.column_stack([spans[order], scores[order]]))


def _read(path: Path, parse: Callable[[Any], _Record]) -> list[_Record]:
    places: dict[QueryId, str] = {}
    records = []
    for entry in read_json(path):
        try:
            record = parse(entry.values)
        except MetricError as error:
            raise DataError(f"{entry.place}: {error}") from None
        if record.qid in places:
            raise DataError(f"{entry.place}: qid: {record.qid!r} is already that of {places[record.qid]}")
        places[record.qid] = entry.place
        records.append(record)
    return records
