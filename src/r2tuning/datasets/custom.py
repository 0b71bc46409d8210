"""Custom data: a JSONL or CSV file of ``video, start, end, query``, one moment per row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated

from pydantic import Field

from r2tuning.datasets.annotations import Annotation
from r2tuning.datasets.benchmark import Benchmark
from r2tuning.datasets.entries import Entry, Fields, Text, check, read_csv, read_json
from r2tuning.errors import DataError

Time = Annotated[float, Field(ge=0, le=1e6)]


class CustomFields(Fields):
    """One moment: where (``video``, a file), when (``start`` and ``end``, seconds) and what (``query``)."""

    video: Text
    start: Time
    end: Time
    query: Text


def load_custom(path: str | Path) -> list[Annotation]:
    """Reads and checks a custom annotation file; rows of one video and query become one annotation.

    Args:
        path: A ``.csv`` file with a header, or a ``.jsonl`` or ``.json`` file with an object per moment. Other columns
            are ignored.

    Returns:
        In order of first appearance, numbered from 0, with moments sorted by start. ``vid`` is the video as written,
        ``duration`` is None.

    Raises:
        DataError: If the file cannot be read, or at the first wrong row, as ``file:line: field: what``.
    """
    path = Path(path)
    is_csv = path.suffix.lower() == ".csv"
    moments: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for entry in read_csv(path) if is_csv else read_json(path):
        # CSV has numbers as text.
        row = check(entry, CustomFields, strict=not is_csv)
        moments.setdefault((row.video.strip(), row.query.strip()), []).append(_to_moment(entry, row))
    return [
        Annotation(qid=qid, vid=video, query=query, duration=None, moments=tuple(sorted(set(windows))))
        for qid, ((video, query), windows) in enumerate(moments.items())
    ]


def _to_moment(entry: Entry, row: CustomFields) -> tuple[float, float]:
    if row.end <= row.start:
        raise DataError(f"{entry.place}: end: {row.end:g} s is not after the start, {row.start:g} s; correct one")
    return row.start, row.end


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


def hold_out(
    annotations: Sequence[Annotation], seed: int, share: float = 0.2
) -> tuple[list[Annotation], list[Annotation]]:
    """Splits annotations by video into a training and a validation part, each of at least one video.

    Args:
        annotations: Of at least two videos.
        seed: Of the random choice.
        share: Of the videos to validate on.

    Returns:
        The training part and the validation part.

    Raises:
        DataError: If there is only one video.

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
    aside = set(Random(seed).sample(videos, max(1, round(share * len(videos)))))
    return [a for a in annotations if a.vid not in aside], [a for a in annotations if a.vid in aside]
