"""Entries of the benchmarks with moments: one JSON line per query, in Moment-DETR's keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from r2tuning.datasets.annotations import Annotation
from r2tuning.datasets.entries import Entry
from r2tuning.datasets.schema import Duration, Fields, Qid, Text, Window, check


class MomentFields(Fields):
    """A query with its moments."""

    qid: Qid
    vid: Text
    query: Text
    duration: Duration
    relevant_windows: Annotated[list[Window], Field(min_length=1)]


def parse_moments(entry: Entry) -> Annotation:
    """The annotation of Charades-STA, TACoS and Ego4D-NLQ.

    Raises:
        DataError: If a field is missing or wrong.
    """
    fields = check(entry, MomentFields)
    return Annotation(
        qid=fields.qid,
        vid=fields.vid,
        query=fields.query,
        duration=fields.duration,
        moments=to_moments(fields.relevant_windows),
    )


def to_moments(windows: list[list[float]]) -> tuple[tuple[float, float], ...]:
    """Checked windows as an annotation keeps them.

    Example:
        >>> to_moments([[0, 4], [10, 12.5]])
        ((0, 4), (10, 12.5))
    """
    return tuple((start, end) for start, end in windows)
