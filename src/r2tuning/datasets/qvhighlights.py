"""QVHighlights (Lei et al., NeurIPS 2021): moments, and every 2-second clip rated by three workers.

Moving Shapes is annotated in the same way.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from r2tuning.datasets.annotations import Annotation, LabelRule
from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.entries import Duration, Entry, Fields, Qid, Text, Window, check
from r2tuning.datasets.moment_retrieval import to_moments
from r2tuning.metrics.records import WORKERS

CLIPS_PER_SECOND = 0.5
HIGHEST = 4
"""The best rating, very good; 0 is very bad."""

Rating = Annotated[int, Field(ge=0, le=HIGHEST)]
Row = Annotated[list[Rating], Field(min_length=WORKERS, max_length=WORKERS)]


class QVHighlightsFields(Fields):
    """A query with its moments and the ratings of their clips; the test split withholds both."""

    qid: Qid
    vid: Text
    query: Text
    duration: Duration
    relevant_windows: list[Window] | None = None
    relevant_clip_ids: list[Annotated[int, Field(ge=0)]] | None = None
    saliency_scores: Annotated[list[Row] | None, Field(validate_default=True)] = None

    @field_validator("relevant_clip_ids")
    @classmethod
    def _check_clip_ids(cls, clip_ids: list[int] | None, info: ValidationInfo) -> list[int] | None:
        # Without a duration in it, the duration itself was refused.
        if clip_ids and "duration" in info.data:
            clips = int(info.data["duration"] * CLIPS_PER_SECOND)
            if max(clip_ids) >= clips:
                raise ValueError(f"clip {max(clip_ids)} is not one of the video's {clips}, counted from 0")
            if len(set(clip_ids)) < len(clip_ids):
                raise ValueError("name every clip once")
        return clip_ids

    @field_validator("saliency_scores")
    @classmethod
    def _check_pairing(cls, rows: list[Row] | None, info: ValidationInfo) -> list[Row] | None:
        if "relevant_clip_ids" not in info.data:
            return rows
        clip_ids = info.data["relevant_clip_ids"]
        if (rows is None) != (clip_ids is None):
            raise ValueError("scores and relevant_clip_ids come together; give both or neither")
        if rows is not None and len(rows) != len(clip_ids):
            raise ValueError(f"{len(rows)} rows of scores for {len(clip_ids)} relevant_clip_ids; give one row each")
        return rows


def parse_qvhighlights(entry: Entry) -> Annotation:
    """The annotation of one line; clips that are not listed are rated 0."""
    fields = check(entry, QVHighlightsFields)
    saliency = None
    if fields.saliency_scores is not None and fields.relevant_clip_ids is not None:
        saliency = np.zeros((int(fields.duration * CLIPS_PER_SECOND), WORKERS))
        if fields.relevant_clip_ids:
            saliency[fields.relevant_clip_ids] = fields.saliency_scores
    return Annotation(
        qid=fields.qid,
        vid=fields.vid,
        query=fields.query,
        duration=fields.duration,
        moments=to_moments(fields.relevant_windows or []),
        saliency=saliency,
        absent=fields.relevant_windows == [],
    )


QVHIGHLIGHTS = Benchmark(
    name="qvhighlights",
    splits=(
        Split("train", "qvhighlights_train.jsonl", ("qvhighlights_train.jsonl", "highlight_train_release.jsonl")),
        Split("val", "qvhighlights_val.jsonl", ("qvhighlights_val.jsonl", "highlight_val_release.jsonl")),
        # The labels of the test split were withheld at first; the file with them came later (CC BY-NC-SA 4.0).
        Split(
            "test",
            "qvhighlights_test.jsonl",
            ("highlight_test_with_gt.jsonl", "qvhighlights_test.jsonl", "highlight_test_release.jsonl"),
            elsewhere="https://github.com/jayleicn/moment_detr/blob/main/data/highlight_test_with_gt.jsonl",
        ),
    ),
    evaluation_split="val",
    main_metric="MR-full-mAP",
    fps=CLIPS_PER_SECOND,
    hub_folder="qvhighlights",
    parse=parse_qvhighlights,
    labels=LabelRule(lowest=0, highest=HIGHEST, threshold=0, slack=4),
    min_duration=5,
)
"""150-second YouTube videos of vlogs and news."""


MOVING_SHAPES = Benchmark(
    name="moving-shapes",
    splits=tuple(Split(name, f"{name}.jsonl", (f"{name}.jsonl",)) for name in ("train", "val", "test")),
    # Unlike the validation split, it has combinations of color, shape and action that training lacks.
    evaluation_split="test",
    main_metric="MR-full-mAP",
    fps=CLIPS_PER_SECOND,
    hub_folder="",
    parse=parse_qvhighlights,
    # Lower ratings say how large, occluded or fast an actor is. Training to rank those too lowers the score.
    # Videos last a whole number of clips, so a frame more or less would be an error.
    labels=LabelRule(lowest=0, highest=HIGHEST, threshold=0, slack=0, best_only=True),
)
"""Synthetic videos with exactly known moments, made by ``r2tuning synthesize``, not downloaded."""
