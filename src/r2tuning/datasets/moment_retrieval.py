"""Charades-STA, TACoS and Ego4D-NLQ: benchmarks with moments only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from r2tuning.datasets.annotations import Annotation
from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.entries import Duration, Entry, Fields, Qid, Text, Window, check


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
    """Windows of a file as the moments of an annotation.

    Example:
        >>> to_moments([[0, 4], [10, 12.5]])
        ((0, 4), (10, 12.5))
    """
    return tuple((start, end) for start, end in windows)


CHARADES_STA = Benchmark(
    name="charades-sta",
    splits=(
        Split("train", "charades_train.jsonl", ("charades_train.jsonl",)),
        Split("test", "charades_test.jsonl", ("charades_test.jsonl",)),
    ),
    evaluation_split="test",
    main_metric="MR-full-R1@0.5",
    fps=1,
    hub_folder="charades",
    parse=parse_moments,
    min_duration=5,
)
"""There is no validation split: papers report the test split."""


TACOS = Benchmark(
    name="tacos",
    splits=tuple(
        Split(name, f"{name}.jsonl", (f"{name}.jsonl", f"tacos_{name}.jsonl")) for name in ("train", "val", "test")
    ),
    evaluation_split="test",
    main_metric="MR-full-R1@0.5",
    fps=0.5,
    hub_folder="tacos",
    parse=parse_moments,
    # Annotations name the recording; file names add the camera.
    video_suffix="-cam-002",
)
"""127 recordings, described by several people each, so that sentences may repeat."""


EGO4D_NLQ = Benchmark(
    name="ego4d-nlq",
    splits=(
        Split("train", "nlq_train.jsonl", ("nlq_train.jsonl",)),
        Split("val", "nlq_val.jsonl", ("nlq_val.jsonl",)),
    ),
    evaluation_split="val",
    main_metric="MR-full-R1@0.5",
    fps=0.5,
    hub_folder="ego4d",
    parse=parse_moments,
    min_duration=5,
)
"""Natural Language Queries; the test split's moments are withheld."""
