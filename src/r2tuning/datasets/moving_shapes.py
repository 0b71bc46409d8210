"""Moving Shapes: synthetic videos with exactly known moments, annotated as in QVHighlights."""

from __future__ import annotations

from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.qvhighlights import CLIPS_PER_SECOND, HIGHEST, parse_qvhighlights
from r2tuning.datasets.saliency import LabelRule

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
"""Made by ``r2tuning synthesize``, not downloaded."""
