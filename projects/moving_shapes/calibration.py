"""Do scores mean what they say, and show what is absent? ``python -m projects.moving_shapes.calibration``.

The calibration in a checkpoint is measured on a split that it was not fitted to. The scores of the best moment and of
the top saliency are compared between queries that have a moment and absent ones, which differ by one thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from projects.moving_shapes.shared import draw_charts, make_parser, write_json
from r2tuning.checkpoints import find_checkpoint, read_checkpoint
from r2tuning.checkpoints.folder import load_calibration
from r2tuning.cli.evaluate import place_data
from r2tuning.cli.score import print_calibration
from r2tuning.errors import CheckpointError
from r2tuning.evaluation.calibrate import CalibrationQuality, measure_calibration
from r2tuning.evaluation.evidence import Evidence, find_absent, gather_evidence
from r2tuning.evaluation.splits import open_split
from r2tuning.grounder import Grounder
from r2tuning.metrics import expected_calibration_error
from r2tuning.metrics.reliability import auroc
from r2tuning.output.charts.experiments import ReliabilityDiagram, plot_reliability
from r2tuning.output.charts.figure import BLUE, ORANGE
from r2tuning.training.recipes import load_recipe
from r2tuning.types import Reliability

SCORES = "best moment", "top saliency"
"""Columns of the evidence for presence."""


def describe(quality: CalibrationQuality) -> dict[str, object]:
    """The numbers for JSON; errors are expected calibration errors in percent."""
    found: dict[str, object] = {
        name: {"count": score.count, "before": _percent(score.before), "after": _percent(score.after)}
        for name, score in (("moments", quality.moments), ("saliency", quality.saliency))
        if score is not None
    }
    if (presence := quality.presence) is not None:
        found["presence"] = {
            "present": presence.present,
            "absent": presence.absent,
            "auroc": round(presence.auroc, 4),
            "error": _percent(presence.reliability),
            "kept": round(100 * presence.kept, 2),
            "noticed": round(100 * presence.noticed, 2),
        }
    return found


def _percent(points: Reliability) -> float:
    return round(100 * expected_calibration_error(points), 2)


def list_diagrams(quality: CalibrationQuality) -> list[ReliabilityDiagram]:
    """A diagram for each kind of score, presence last."""
    diagrams = [
        ReliabilityDiagram(
            f"{name}: ECE {_percent(score.before):.1f} to {_percent(score.after):.1f} %",
            truth,
            [("raw", score.before), ("calibrated", score.after)],
        )
        for name, truth, score in (
            ("Moments", "right (IoU ≥ 0.5)", quality.moments),
            ("Saliency", "relevant frames", quality.saliency),
        )
        if score is not None
    ]
    if (presence := quality.presence) is not None:
        title = f"Presence: AUROC {presence.auroc:.2f}"
        diagrams.append(ReliabilityDiagram(title, "in the video", [("presence", presence.reliability)]))
    return diagrams


def separate(evidence: Evidence) -> dict[str, float]:
    """For each score, the chance that it is higher for a present query than for an absent one."""
    return {name: auroc(evidence.present[:, column], evidence.absent[:, column]) for column, name in enumerate(SCORES)}


def draw_separation(evidence: Evidence, path: Path) -> None:
    """Histograms of both scores, of present and of absent queries."""

    def fill(charts: Sequence[Axes]) -> None:
        for column, (axes, (name, value)) in enumerate(zip(charts, separate(evidence).items(), strict=True)):
            present, absent = evidence.present[:, column], evidence.absent[:, column]
            if column == 0:  # log-odds
                present, absent = (1 / (1 + np.exp(-odds)) for odds in (present, absent))
            both = np.concatenate([present, absent])
            edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-6), 31).tolist()
            for scores, label, color in ((present, "present", BLUE), (absent, "absent", ORANGE)):
                share = np.full(len(scores), 100 / len(scores))
                axes.hist(scores, edges, weights=share, color=color, alpha=0.35, label=f"{label} ({len(scores)})")
                axes.hist(scores, edges, weights=share, color=color, histtype="step", linewidth=1.5)
            axes.set(title=f"{name}: AUROC {value:.3f}", xlabel=f"score of {name}", ylabel="queries (%)")

    draw_charts(path, len(SCORES), 1, fill)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures a calibrated checkpoint on the queries and absent queries of a split."""
    parser = make_parser("Calibration errors, and how well scores tell absent queries.")
    parser.add_argument("--plot", type=Path, help="draw reliability diagrams into this .png, .svg or .pdf file")
    parser.add_argument("--separation", type=Path, help="draw scores of present and absent queries into this file")
    options = parser.parse_args(arguments)
    path = find_checkpoint(options.checkpoint)
    calibration = load_calibration(path)
    if calibration is None:
        raise CheckpointError(f"{path}: is not calibrated; run r2tuning calibrate {path} moving-shapes")
    plan = place_data(load_recipe("moving-shapes"), options.folder, None)
    data = open_split(plan.data, options.split, fps=plan.fps)
    config, model = read_checkpoint(path)
    evidence = gather_evidence(Grounder(model, config, None), data, find_absent(data))
    quality, separation = measure_calibration(calibration, evidence), separate(evidence)
    if options.plot is not None:
        plot_reliability(list_diagrams(quality), options.plot, force=True)
    if options.separation is not None:
        draw_separation(evidence, options.separation)
    rounded = {name: round(value, 4) for name, value in separation.items()}
    write_json(options.json, {"split": options.split} | describe(quality) | {"auroc": rounded})
    print_calibration(f"{config.name} on the {options.split} split", quality)
    for name, value in separation.items():
        print(f"{name:14}AUROC {value:.4f}")


if __name__ == "__main__":
    main()
