"""Moving Shapes: videos made by program, of which every moment is known exactly, annotated as QVHighlights is."""

from __future__ import annotations

import numpy as np

from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.qvhighlights import CLIPS_PER_SECOND, HIGHEST, parse_qvhighlights
from r2tuning.datasets.saliency import LabelRule, above_zero
from r2tuning.intervals import FloatArray


def mark_very_good(labels: FloatArray) -> FloatArray:
    """1 where a rater gives the best rating, as Hit@1 counts, else 0: ``[clips, 3]`` to ``[clips]``.

    Lower ratings tell how large, hidden or fast an actor is. Training that ranks them, too, has less left for what is
    scored.

    Example:
        >>> mark_very_good(np.array([[4, 3, 3], [3, 3, 3], [0, 0, 0]]))
        array([1., 0., 0.])
    """
    return np.asarray((labels == HIGHEST).any(axis=1), dtype=np.float64)


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
    labels=LabelRule(scale=mark_very_good, threshold=above_zero, slack=0),
)
"""Made on the spot, not on the hub."""
