"""Custom data: a JSONL or CSV file of ``video, start, end, query``, one moment per row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated

from pydantic import Field

from r2tuning.datasets.annotations import Annotation
from r2tuning.datasets.benchmark import Benchmark
from r2tuning.datasets.entries import Fields, Text, check, read_csv, read_json
from r2tuning.errors import DataError

Time = Annotated[float, Field(ge=0, le=1e6)]


class CustomFields(Fields):
    """One moment, in seconds."""

    video: Text
    start: Time
    end: Time
    query: Text


def load_custom(path: str | Path) -> list[Annotation]:
    """Reads a ``.csv`` file with a header, or a ``.jsonl`` or ``.json`` file with an object per moment.

    Rows of one video and query become one annotation, in order of first appearance and numbered from 0, with moments
    sorted by start. The first wrong row is a DataError, as ``file:line: field: what``.
    """
    path = Path(path)
    is_csv = path.suffix.lower() == ".csv"
    moments: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for entry in read_csv(path) if is_csv else read_json(path):
        # CSV has numbers as text.
        row = check(entry, CustomFields, strict=not is_csv)
        if row.end <= row.start:
            raise DataError(f"{entry.place}: end: {row.end:g} s is not after the start, {row.start:g} s; correct one")
        moments.setdefault((row.video.strip(), row.query.strip()), []).append((row.start, row.end))
    return [
        Annotation(qid=qid, vid=video, query=query, duration=None, moments=tuple(sorted(set(windows))))
        for qid, ((video, query), windows) in enumerate(moments.items())
    ]


CUSTOM = Benchmark(
    name="custom",
    splits=(),
    evaluation_split="val",
    main_metric="MR-full-mAP",
    fps=None,
    hub_folder="",
    parse=None,
)
"""The user's videos. The frame rate is a choice: ``dataclasses.replace(CUSTOM, fps=1.0)``."""


def hold_out(annotations: Sequence[Annotation], seed: int) -> tuple[list[Annotation], list[Annotation]]:
    """Splits annotations of two or more videos into a training part and, with a fifth of the videos, a validation part.

    Example:
        >>> rows = [Annotation(qid=i, vid=f"{i % 3}.mp4", query="a dog", duration=9) for i in range(6)]
        >>> [len(part) for part in hold_out(rows, seed=0)]
        [4, 2]
    """
    videos = sorted({annotation.vid for annotation in annotations})
    if len(videos) < 2:
        raise DataError(
            f"one video ({videos[0]}) is not enough to train and validate on; annotate another, or give a validation "
            "file with data.validation"
        )
    aside = set(Random(seed).sample(videos, max(1, round(0.2 * len(videos)))))
    return [a for a in annotations if a.vid not in aside], [a for a in annotations if a.vid in aside]
