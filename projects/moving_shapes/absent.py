"""Does a model notice that nothing is there? ``python -m projects.moving_shapes.absent``.

Queries that are true of no moment of their video differ from true ones by one word. Two scores of an answer are
compared: that of its best moment, and the mean of its highest saliency.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r2tuning.checkpoints import read_checkpoint
from r2tuning.datasets import find_benchmark, load_annotations
from r2tuning.decoding.calibration import top_saliency
from r2tuning.evaluation.predict import predict, see_whole
from r2tuning.features.store import FeatureStore
from r2tuning.files import write_atomically
from r2tuning.grounder import Grounder
from r2tuning.intervals import FloatArray
from r2tuning.metrics import Prediction
from r2tuning.metrics.reliability import auroc
from r2tuning.synthetic.scenes import SPLITS

_PRESENT, _ABSENT = "#0072B2", "#E69F00"  # Okabe and Ito's blue and orange, told apart with every kind of color vision
_BINS = 30


@dataclass(frozen=True)
class Separation:
    """How well a score tells present from absent.

    Attributes:
        name: Of the score.
        present: Scores of queries that have a moment.
        absent: Scores of queries that have none.
    """

    name: str
    present: FloatArray
    absent: FloatArray

    @property
    def auroc(self) -> float:
        """The chance that a present query scores higher than an absent one."""
        return auroc(self.present, self.absent)


def separate(present: Sequence[Prediction], absent: Sequence[Prediction]) -> list[Separation]:
    """Both scores of answers to queries that have moments, and to queries that have none."""
    return [
        Separation(name, *(np.array([score(answer) for answer in answers]) for answers in (present, absent)))
        for name, score in (("best moment", _best_moment), ("top saliency", _top_saliency))
    ]


def _best_moment(answer: Prediction) -> float:
    return float(answer.windows[:, 2].max(initial=0))


def _top_saliency(answer: Prediction) -> float:
    assert answer.saliency is not None  # our models always give it
    return top_saliency(answer.saliency)


def draw_separation(parts: Sequence[Separation]) -> bytes:
    """Histograms side by side, as a PNG file."""
    figure = Figure(figsize=(5 * len(parts), 3.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, part in zip(np.ravel(figure.subplots(1, len(parts))), parts, strict=True):
        both = np.concatenate([part.present, part.absent])
        edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-6), _BINS + 1)
        for scores, label, color in ((part.present, "present", _PRESENT), (part.absent, "absent", _ABSENT)):
            share = np.full(len(scores), 100 / len(scores))
            axes.hist(scores, edges, weights=share, color=color, alpha=0.35, label=f"{label} ({len(scores)})")
            axes.hist(scores, edges, weights=share, color=color, histtype="step", linewidth=1.5)
        axes.set_title(f"{part.name}: AUROC {part.auroc:.3f}", fontsize=11)
        axes.set_xlabel(f"score of {part.name}")
        axes.set_ylabel("queries (%)")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Asks a model the queries of a split, and those that are asked in vain."""
    parser = argparse.ArgumentParser(description="How well scores tell queries that are true of no moment.")
    parser.add_argument("folder", type=Path, help="of SPLIT.jsonl, SPLIT_absent.jsonl and features/ of both")
    parser.add_argument("checkpoint", help="name or folder")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--plot", type=Path, help="draw histograms into this PNG file")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)
    benchmark = find_benchmark("moving-shapes")
    config, model = read_checkpoint(options.checkpoint)
    grounder = Grounder(model, see_whole(config), None)
    store = FeatureStore.open(options.folder / "features")
    answers = [
        predict(
            grounder, load_annotations(options.folder / f"{options.split}{mark}.jsonl", benchmark), benchmark, store
        )
        for mark in ("", "_absent")
    ]
    parts = separate(*answers)
    if options.plot is not None:
        write_atomically(options.plot, draw_separation(parts), force=True)
    if options.json is not None:
        content = {"split": options.split, "present": len(answers[0]), "absent": len(answers[1])}
        found = {"auroc": {part.name: round(part.auroc, 4) for part in parts}}
        write_atomically(options.json, json.dumps(content | found, indent=2) + "\n", force=True)
    for part in parts:
        print(f"{part.name:14}AUROC {part.auroc:.4f}")


if __name__ == "__main__":
    main()
