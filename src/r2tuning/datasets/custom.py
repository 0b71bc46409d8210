"""Custom data: a JSONL or CSV file of ``video, start, end, query``, one moment per row."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Annotated

from pydantic import Field

from r2tuning.datasets.annotations import Annotation
from r2tuning.datasets.benchmark import Benchmark
from r2tuning.datasets.entries import Entry, Fields, Text, check, read_csv, read_json
from r2tuning.errors import DataError, VideoError
from r2tuning.types import VIDEO_SUFFIXES

Time = Annotated[float, Field(ge=0, le=1e6)]


class CustomFields(Fields):
    """One moment, in seconds; without times, a query that the video does not show."""

    video: Text
    start: Time | None
    end: Time | None
    query: Text


def load_custom(path: str | Path, find: Callable[[str], Path] | None = None) -> list[Annotation]:
    """Reads a ``.csv`` file with a header, or a ``.jsonl`` or ``.json`` file with an object per moment.

    In CSV, columns may also be separated by semicolons or tabs, and times may be written as ``m:ss.s`` or ``h:mm:ss.s``
    or with a decimal comma. A row whose times are empty (in JSON: null) says that the video does not show the query.

    Rows of one video and query become one annotation, in order of first appearance and numbered from 0, with moments
    sorted by start. The first wrong row is a DataError, as ``file:line: field: what``. A video has one name, see
    `name_videos`, which takes ``find``.
    """
    path = Path(path)
    is_csv = path.suffix.lower() == ".csv"
    rows: list[tuple[CustomFields, str]] = []
    for entry in read_csv(path) if is_csv else read_json(path):
        # CSV has numbers as text.
        row = check(_read_times(entry) if is_csv else entry, CustomFields, strict=not is_csv)
        if (row.start is None) != (row.end is None):
            raise DataError(
                f"{entry.place}: has one of start and end; give both, or neither if the video lacks the query"
            )
        if row.start is not None and row.end is not None and row.end <= row.start:
            raise DataError(f"{entry.place}: end: {row.end:g} s is not after the start, {row.start:g} s; correct one")
        rows.append((row, entry.place))
    names = name_videos([row.video for row, _ in rows], find)
    moments: dict[tuple[str, str], dict[tuple[float, float], str]] = {}
    absent: dict[tuple[str, str], str] = {}
    for row, place in rows:
        pair = names[row.video], row.query.strip()
        places = moments.setdefault(pair, {})
        if row.start is None or row.end is None:
            absent.setdefault(pair, place)
        else:
            places.setdefault((row.start, row.end), place)
    for pair, place in absent.items():
        if moments[pair]:
            raise DataError(
                f"{place}: has no times, but {next(iter(moments[pair].values()))} gives the query a moment in "
                f"{pair[0]}; remove one of them"
            )
    return [
        Annotation(
            qid=qid,
            vid=video,
            query=query,
            duration=None,
            moments=tuple(sorted(places)),
            places=tuple(places[moment] for moment in sorted(places)),
            absent=(video, query) in absent,
        )
        for qid, ((video, query), places) in enumerate(moments.items())
    ]


def _read_times(entry: Entry) -> Entry:
    """Turns start and end of a row of text into seconds where they are clock times or have a decimal comma."""
    values = dict(entry.values)
    for name in ("start", "end"):
        if isinstance(text := values.get(name), str):
            place = f"{entry.place}: {name}"
            values[name] = _read_time(text.strip(), place, decimal_comma=entry.decimal_comma) if text.strip() else None
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


def name_videos(spellings: Iterable[str], find: Callable[[str], Path] | None = None) -> dict[str, str]:
    """One name for each video, however it is spelled: ``kitchen.mp4``, ``kitchen``, ``./kitchen.mp4``, in NFC or NFD.

    Args:
        spellings: As in the annotations.
        find: Finds the file of a video, or raises a VideoError; without it, texts are compared.

    Example:
        >>> name_videos(["kitchen", "./kitchen.mp4", "garden"])
        {'kitchen': 'kitchen.mp4', './kitchen.mp4': 'kitchen.mp4', 'garden': 'garden'}
    """
    plain = {text: posixpath.normpath(unicodedata.normalize("NFC", text.strip())) for text in spellings}
    stems: dict[str, set[str]] = defaultdict(set)
    for name in plain.values():
        if (stem := strip_suffix(name)) != name:
            for short in {stem, posixpath.basename(stem)}:
                stems[short].add(name)
    names = {text: next(iter(stems[name])) if len(stems[name]) == 1 else name for text, name in plain.items()}
    if find is None:
        return names
    files: dict[object, str] = {}
    for text, name in sorted(names.items(), key=lambda item: (strip_suffix(item[1]) == item[1], item[1])):
        try:
            status = find(text.strip()).stat()
        except (VideoError, OSError):  # reported when it is needed
            continue
        names[text] = files.setdefault((status.st_dev, status.st_ino), name)
    return names


def strip_suffix(name: str) -> str:
    """A video's name without the ending that tells its format, if it has one.

    Example:
        >>> strip_suffix("a/kitchen.MTS"), strip_suffix("v1.5")
        ('a/kitchen', 'v1.5')
    """
    stem, suffix = posixpath.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


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
    groups: dict[str, set[str]] = defaultdict(set)  # kitchen.mp4 and kitchen.mkv are likely one recording
    for annotation in annotations:
        groups[strip_suffix(annotation.vid)].add(annotation.vid)
    videos = sorted(groups.values(), key=min)
    if len(videos) < 2:
        raise DataError(
            f"one video ({min(videos[0])}) is not enough to train and validate on; annotate another, or give a "
            "validation file with data.validation"
        )
    aside = set().union(*Random(seed).sample(videos, max(1, round(0.2 * len(videos)))))
    return [a for a in annotations if a.vid not in aside], [a for a in annotations if a.vid in aside]
