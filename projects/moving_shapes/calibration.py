"""Do scores mean what they say, and show what is absent? ``python -m projects.moving_shapes.calibration``.

The calibration in a checkpoint is measured on a split that it was not fitted to. Scores are compared between queries
that have a moment and absent ones: those that differ from a true one by one thing, and those of other videos, which are
looked up in the state of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from projects.moving_shapes.kinds import recall_meanings, recall_script
from projects.moving_shapes.shared import draw_charts, make_parser, write_json
from r2tuning.checkpoints import find_checkpoint, read_checkpoint
from r2tuning.checkpoints.folder import load_calibration
from r2tuning.cli.evaluate import place_data
from r2tuning.cli.score import print_calibration
from r2tuning.datasets import Annotation
from r2tuning.errors import CheckpointError
from r2tuning.evaluation.calibrate import CalibrationQuality, measure_calibration
from r2tuning.evaluation.evidence import AbsentQueries, Evidence, find_absent, gather_evidence, mismatch
from r2tuning.evaluation.splits import open_split
from r2tuning.grounder import Grounder
from r2tuning.metrics import expected_calibration_error
from r2tuning.metrics.reliability import auroc
from r2tuning.output.charts import BLUE, ORANGE
from r2tuning.output.charts.experiments import ReliabilityDiagram, plot_reliability
from r2tuning.synthetic.actions import track_script
from r2tuning.synthetic.queries import choose_absent_queries, choose_queries, names_held_out
from r2tuning.synthetic.semantics import find_truth
from r2tuning.training.recipes import load_recipe
from r2tuning.types import Reliability

SCORES = "best moment", "top saliency", "presence head"
"""Columns of the evidence for presence; models without a head have two."""


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


def list_scores(evidence: Evidence) -> tuple[str, ...]:
    """The names of the columns of evidence that the model has."""
    return SCORES if evidence.present[:, 2].any() else SCORES[:2]


def separate(evidence: Evidence, chosen: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """For each score, the chance that it is higher for a present query than for an absent one (of those chosen)."""
    absent = evidence.absent if chosen is None else evidence.absent[chosen]
    return {
        name: auroc(evidence.present[:, column], absent[:, column]) for column, name in enumerate(list_scores(evidence))
    }


def find_elsewhere(annotations: Sequence[Annotation]) -> AbsentQueries:
    """Each query on another video, in no frame of which it possibly holds."""
    meanings = dict(zip([a.qid for a in annotations], recall_meanings(annotations), strict=True))
    scenes = {vid: track_script(recall_script(vid)) for vid in {a.vid for a in annotations}}
    pairs = [
        (query, video)
        for query, video in mismatch(annotations)
        if not find_truth(meanings[query.qid], scenes[video.vid]).possible.any()
    ]
    return AbsentQueries([query for query, _ in pairs], [video for _, video in pairs], "queries of other videos")


def are_unseen(absent: Sequence[Annotation]) -> NDArray[np.bool_]:
    """Which absent queries of `describe_absent` name a combination that training lacks."""
    unseen = {}
    for script in map(recall_script, {a.vid for a in absent}):
        for query in choose_absent_queries(script, choose_queries(script)):
            unseen[script.vid, query.text] = names_held_out(query.meaning)
    return np.array([unseen[a.vid, a.query] for a in absent], dtype=bool)


def draw_separation(evidence: Evidence, path: Path) -> None:
    """Histograms of both scores, of present and of absent queries."""

    def fill(charts: Sequence[Axes]) -> None:
        for column, (axes, (name, value)) in enumerate(zip(charts, separate(evidence).items(), strict=True)):
            present, absent = evidence.present[:, column], evidence.absent[:, column]
            if column != 1:  # log-odds
                present, absent = (1 / (1 + np.exp(-odds)) for odds in (present, absent))
            both = np.concatenate([present, absent])
            edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-6), 31).tolist()
            for scores, label, color in ((present, "present", BLUE), (absent, "absent", ORANGE)):
                share = np.full(len(scores), 100 / len(scores))
                axes.hist(scores, edges, weights=share, color=color, alpha=0.35, label=f"{label} ({len(scores)})")
                axes.hist(scores, edges, weights=share, color=color, histtype="step", linewidth=1.5)
            axes.set(title=f"{name}: AUROC {value:.3f}", xlabel=f"score of {name}", ylabel="queries (%)")

    draw_charts(path, len(list_scores(evidence)), 1, fill)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures a calibrated checkpoint on the queries and absent queries of a split."""
    parser = make_parser("Calibration errors, and how well scores tell absent queries.")
    parser.add_argument("--plot", type=Path, help="draw reliability diagrams into this .png, .svg or .pdf file")
    parser.add_argument("--separation", type=Path, help="draw scores of present and absent queries into this file")
    parser.add_argument("--world", action="store_true", help="look up what is true of other videos; not for other data")
    options = parser.parse_args(arguments)
    path = find_checkpoint(options.checkpoint)
    calibration = load_calibration(path)
    if calibration is None:
        raise CheckpointError(f"{path}: is not calibrated; run r2tuning calibrate {path} moving-shapes")
    plan = place_data(load_recipe("moving-shapes"), options.folder, None)
    data = open_split(plan.data, options.split, fps=plan.fps)
    config, model = read_checkpoint(path)
    grounder, absent = Grounder(model, config, None), find_absent(data)
    evidence = gather_evidence(grounder, data, absent)
    quality = measure_calibration(calibration, evidence)
    rows = [_describe_separation("one thing differs", evidence, np.ones(len(evidence.absent), dtype=bool))]
    others: dict[str, float] = {}
    if options.world:
        unseen = are_unseen(absent.queries)
        for name, chosen in (("of these, combination unseen", unseen), ("of these, combination seen", ~unseen)):
            if chosen.any():
                rows.append(_describe_separation(name, evidence, chosen))
        elsewhere = gather_evidence(grounder, data, find_elsewhere(data.annotations))
        rows.append(
            _describe_separation("queries of other videos", elsewhere, np.ones(len(elsewhere.absent), dtype=bool))
        )
        if (found := measure_calibration(calibration, elsewhere).presence) is not None:
            others = {"auroc": round(found.auroc, 4), "noticed": round(100 * found.noticed, 2)}
    if options.plot is not None:
        plot_reliability(list_diagrams(quality), options.plot, force=True)
    if options.separation is not None:
        draw_separation(evidence, options.separation)
    write_json(options.json, {"split": options.split, **describe(quality), "others": others, "separation": rows})
    print_calibration(f"{config.name} on the {options.split} split", quality)
    if others:
        print(f"Queries of other videos: AUROC {others['auroc']:.3f}; {others['noticed']:.0f}% are noticed.")
    for row in rows:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in row["auroc"].items())
        print(f"{row['absent']} ({row['queries']}): AUROC of {scores}")


def _describe_separation(name: str, evidence: Evidence, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    rounded = {score: round(value, 4) for score, value in separate(evidence, chosen).items()}
    return {"absent": name, "queries": int(chosen.sum()), "auroc": rounded}


if __name__ == "__main__":
    main()
