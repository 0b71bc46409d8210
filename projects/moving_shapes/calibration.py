"""Do scores mean what they say? ``python -m projects.moving_shapes.calibration``.

Nothing is fitted: the calibration that `r2tuning calibrate` stored in the checkpoint is held against a split that it
has not seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from r2tuning.checkpoints import find_checkpoint, read_checkpoint
from r2tuning.checkpoints.folder import load_calibration
from r2tuning.cli.evaluate import place_data
from r2tuning.cli.score_table import print_calibration
from r2tuning.errors import CheckpointError
from r2tuning.evaluation.calibrate import CalibrationQuality, measure_calibration
from r2tuning.evaluation.evidence import find_absent, gather_evidence
from r2tuning.evaluation.splits import open_split
from r2tuning.files import write_atomically
from r2tuning.grounder import Grounder
from r2tuning.metrics import expected_calibration_error
from r2tuning.output.charts.reliability import ReliabilityDiagram, plot_reliability
from r2tuning.synthetic.scenes import SPLITS
from r2tuning.training.recipes import load_recipe
from r2tuning.types import Reliability


def describe(quality: CalibrationQuality) -> dict[str, object]:
    """The numbers as JSON has them; errors are expected calibration errors in percent."""
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
    """A diagram for each kind of score, those of presence last."""
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Asks a model the queries of a split, and those that are asked in vain."""
    parser = argparse.ArgumentParser(description="How far scores are from what they say, and how well presence tells.")
    parser.add_argument("folder", type=Path, help="of SPLIT.jsonl, SPLIT_absent.jsonl and features/ of both")
    parser.add_argument("checkpoint", help="name or folder; calibrated")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--plot", type=Path, help="draw reliability diagrams into this .png, .svg or .pdf file")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)
    path = find_checkpoint(options.checkpoint)
    calibration = load_calibration(path)
    if calibration is None:
        raise CheckpointError(f"{path}: is not calibrated; run r2tuning calibrate {path} moving-shapes")
    plan = place_data(load_recipe("moving-shapes"), options.folder, None)
    data = open_split(plan.data, options.split, fps=plan.fps)
    config, model = read_checkpoint(path)
    evidence = gather_evidence(Grounder(model, config, None), data, find_absent(data))
    quality = measure_calibration(calibration, evidence)
    if options.plot is not None:
        plot_reliability(list_diagrams(quality), options.plot, force=True)
    if options.json is not None:
        content = {"split": options.split} | describe(quality)
        write_atomically(options.json, json.dumps(content, indent=2) + "\n", force=True)
    print_calibration(f"{config.name} on the {options.split} split", quality)


if __name__ == "__main__":
    main()
