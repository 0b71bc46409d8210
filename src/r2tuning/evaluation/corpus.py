"""Search across videos: its files of predictions and truth; without PyTorch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from r2tuning.datasets import Annotation, Benchmark, load_annotations
from r2tuning.datasets.entries import read_json
from r2tuning.errors import DataError, MetricError
from r2tuning.metrics import CorpusPrediction, CorpusTruth
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


def format_corpus_predictions(predictions: Sequence[CorpusPrediction]) -> str:
    """Moments found across videos as text that `read_corpus_predictions` reads, a line per query.

    Example:
        >>> print(format_corpus_predictions([CorpusPrediction(1, ["a"], [[0, 2, 0.5]])]), end="")
        {"qid": 1, "pred_corpus": [["a", 0.0, 2.0, 0.5]]}
    """
    lines = []
    for prediction in predictions:
        rows = [[video, *row] for video, row in zip(prediction.videos, prediction.windows.tolist(), strict=True)]
        lines.append(json.dumps({"qid": prediction.qid, "pred_corpus": rows}, ensure_ascii=False) + "\n")
    return "".join(lines)
