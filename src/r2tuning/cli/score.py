"""``r2tuning score``: scores of predictions that any system made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from r2tuning.cli.options import ForceOption
from r2tuning.cli.score_table import BinsOption, ScoresJsonOption, check_scores, report_scores


def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Predictions, a JSON line per query: qid, pred_relevant_windows, pred_saliency_scores; without "
            "moments qid or vid, pred_saliency_scores.",
            metavar="PREDICTIONS.jsonl",
        ),
    ],
    ground_truth: Annotated[Path, typer.Argument(help="The benchmark's annotation file.", metavar="GROUND_TRUTH")],
    benchmark: Annotated[
        str, typer.Option("--benchmark", "-b", help="Whose metrics: qvhighlights, charades-sta, tvsum …")
    ] = "qvhighlights",
    split: Annotated[
        str | None, typer.Option(help="Only these videos, where one file holds all (YouTube Highlights, TVSum).")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Only the videos of this domain.")] = None,
    missing: Annotated[
        Literal["error", "zero"],
        typer.Option(help="A query without a prediction: error refuses the file, zero counts it 0."),
    ] = "error",
    bins: BinsOption = False,
    json: ScoresJsonOption = None,
    force: ForceOption = False,
) -> None:
    """Score a file of predictions, ours or another system's, by the benchmark's own metrics.

    Example: r2tuning score hl_val_submission.jsonl highlight_val_release.jsonl
    """
    from r2tuning.datasets import find_benchmark, load_annotations
    from r2tuning.evaluation.score import read_predictions

    rules = find_benchmark(benchmark)
    check_scores(rules, json, bins=bins, force=force)
    truth = load_annotations(ground_truth, rules, split=split, domain=domain)
    found = read_predictions(predictions, truth, moments=rules.task == "moments")
    title, source = f"{predictions.name} on {rules.name}", {"benchmark": rules.name}
    report_scores(title, source, found, truth, rules, missing=missing, bins=bins, json_file=json, force=force)
