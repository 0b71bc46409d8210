"""Your own annotations: a JSONL or CSV file of ``video, start, end, query``, one moment per row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from r2tuning.datasets.annotations import Annotation
from r2tuning.datasets.entries import Entry, read_csv, read_json
from r2tuning.datasets.schema import Fields, Text, check
from r2tuning.errors import DataError

Time = Annotated[float, Field(ge=0, le=1e6)]


class OwnFields(Fields):
    """One moment: where (``video``, a file), when (``start`` and ``end``, seconds) and what (``query``)."""

    video: Text
    start: Time
    end: Time
    query: Text


def load_own(path: str | Path) -> list[Annotation]:
    """Reads and checks your own annotations.

    Several rows of the same video and query are the moments of one annotation.

    Args:
        path: A ``.csv`` file with a header, or a ``.jsonl`` or ``.json`` file with an object per moment. Other columns
            are ignored.

    Returns:
        In order of first appearance, numbered from 0; ``vid`` is the video as written, ``duration`` is None. Moments
        are sorted by start.

    Raises:
        DataError: If the file cannot be read; at the first row that is wrong, as ``file:line: field: what``.
    """
    path = Path(path)
    is_csv = path.suffix.lower() == ".csv"
    moments: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for entry in read_csv(path) if is_csv else read_json(path):
        # CSV has numbers as text.
        row = check(entry, OwnFields, strict=not is_csv)
        moments.setdefault((row.video.strip(), row.query.strip()), []).append(_to_moment(entry, row))
    return [
        Annotation(qid=qid, vid=video, query=query, duration=None, moments=tuple(sorted(set(windows))))
        for qid, ((video, query), windows) in enumerate(moments.items())
    ]


def _to_moment(entry: Entry, row: OwnFields) -> tuple[float, float]:
    if row.end <= row.start:
        raise DataError(f"{entry.place}: end: {row.end:g} s is not after the start, {row.start:g} s; correct one")
    return row.start, row.end
