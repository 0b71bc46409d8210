"""Moving Shapes: videos made by program, of which every moment is known exactly, annotated as QVHighlights is."""

from __future__ import annotations

from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.qvhighlights import CLIPS_PER_SECOND, parse_qvhighlights, scale_ratings
from r2tuning.datasets.saliency import LabelRule, above_zero

MOVING_SHAPES = Benchmark(
    name="moving-shapes",
    splits=tuple(Split(name, f"{name}.jsonl", (f"{name}.jsonl",)) for name in ("train", "val", "test")),
    # Unlike the validation split, it asks for combinations of colour, shape and action that training lacks.
    evaluation_split="test",
    main_metric="MR-full-mAP",
    fps=CLIPS_PER_SECOND,
    hub_folder="",
    parse=parse_qvhighlights,
    # Videos last a whole number of clips: a frame more or less would be an error.
    labels=LabelRule(scale=scale_ratings, threshold=above_zero, slack=0),
)
"""Made on the spot, not on the hub."""
