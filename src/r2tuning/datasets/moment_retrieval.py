"""Charades-STA, TACoS and Ego4D-NLQ: benchmarks with moments only."""

from __future__ import annotations

from r2tuning.datasets.annotations import Annotation
from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.entries import Duration, Entry, Fields, Qid, Text, Window, check


class MomentFields(Fields):
    """A query with its moments; none where the video does not show it."""

    qid: Qid
    vid: Text
    query: Text
    duration: Duration
    relevant_windows: list[Window]


def parse_moments(entry: Entry) -> Annotation:
    """The annotation of one line."""
    fields = check(entry, MomentFields)
    return Annotation(
        qid=fields.qid,
        vid=fields.vid,
        query=fields.query,
        duration=fields.duration,
        moments=to_moments(fields.relevant_windows),
        absent=not fields.relevant_windows,
    )


def to_moments(windows: list[list[float]]) -> tuple[tuple[float, float], ...]:
    """Windows of a file as the moments of an annotation."""
    return tuple((start, end) for start, end in windows)


CHARADES_STA = Benchmark(
    name="charades-sta",
    splits=tuple(Split(name, f"charades_{name}.jsonl", (f"charades_{name}.jsonl",)) for name in ("train", "test")),
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
    splits=tuple(Split(name, f"nlq_{name}.jsonl", (f"nlq_{name}.jsonl",)) for name in ("train", "val")),
    evaluation_split="val",
    main_metric="MR-full-R1@0.5",
    fps=0.5,
    hub_folder="ego4d",
    parse=parse_moments,
    min_duration=5,
)
"""Natural Language Queries; the test split's moments are withheld."""
