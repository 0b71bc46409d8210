"""Custom data: a JSONL or CSV file of ``video, start, end, query``, one moment per row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
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
    """One moment, in seconds."""

    video: Text
    start: Time
    end: Time
    query: Text


def load_custom(path: str | Path) -> list[Annotation]:
    """Reads a ``.csv`` file with a header, or a ``.jsonl`` or ``.json`` file with an object per moment.

    In CSV, columns may also be separated by semicolons or tabs, and times may be written as ``m:ss.s`` or ``h:mm:ss.s``
    or with a decimal comma.

    Rows of one video and query become one annotation, in order of first appearance and numbered from 0, with moments
    sorted by start. The first wrong row is a DataError, as ``file:line: field: what``.
    """
    path = Path(path)
    is_csv = path.suffix.lower() == ".csv"
    moments: dict[tuple[str, str], dict[tuple[float, float], str]] = {}
    for entry in read_csv(path) if is_csv else read_json(path):
        # CSV has numbers as text.
        row = check(_read_times(entry) if is_csv else entry, CustomFields, strict=not is_csv)
        if row.end <= row.start:
            raise DataError(f"{entry.place}: end: {row.end:g} s is not after the start, {row.start:g} s; correct one")
        moments.setdefault((row.video.strip(), row.query.strip()), {}).setdefault((row.start, row.end), entry.place)
    return [
        Annotation(
            qid=qid,
            vid=video,
            query=query,
            duration=None,
            moments=tuple(sorted(places)),
            places=tuple(places[moment] for moment in sorted(places)),
        )
        for qid, ((video, query), places) in enumerate(moments.items())
    ]


def _read_times(entry: Entry) -> Entry:
    """Turns start and end of a row of text into seconds where they are clock times or have a decimal comma."""
    values = dict(entry.values)
    for name in ("start", "end"):
        if isinstance(text := values.get(name), str):
            values[name] = _read_time(text.strip(), f"{entry.place}: {name}", decimal_comma=entry.decimal_comma)
    return replace(entry, values=values)


def _read_time(text: str, place: str, *, decimal_comma: bool) -> str:
    """A time as a number of seconds in text; what is no time comes back as it is.

    Example:
        >>> [_read_time(text, "", decimal_comma=True) for text in ("2,5", "1:02.5", "1:00:00", "soon")]
        ['2.5', '62.5', '3600', 'soon']
    """
    if re.fullmatch(r"\d+,\d+", text):
        if not decimal_comma and re.fullmatch(r"\d+,\d{3}", text):
            dotted, joined = text.replace(",", "."), text.replace(",", "")
            raise DataError(f"{place}: is {text!r}, which may be {dotted} or {joined}; write one of them")
        return text.replace(",", ".")
    if ":" not in text:
        return text
    clock = re.fullmatch(r"(?:(\d+):(?=\d\d:))?(\d+):(\d\d)(?:[.,](\d+))?", text)
    hours, minutes, seconds = (int(part or 0) for part in clock.groups()[:3]) if clock else (0, 0, 60)
    if clock is None or seconds > 59 or (clock[1] is not None and minutes > 59):
        raise DataError(f"{place}: is {text!r}, which is no time; write seconds, m:ss.s or h:mm:ss.s")
    return f"{3600 * hours + 60 * minutes + seconds}" + (f".{clock[4]}" if clock[4] else "")


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
