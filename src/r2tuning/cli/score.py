"""``r2tuning score``: scores of answers that any system gave."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from r2tuning.cli.score_table import SCORES_JSON_HELP, print_lengths, print_scores, write_scores
from r2tuning.files import check_target


class Missing(str, Enum):
    """What a query without an answer is."""

    error = "error"
    zero = "zero"


def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Answers, a JSON line per query: qid, pred_relevant_windows, pred_saliency_scores; without moments "
            "qid or vid, pred_saliency_scores.",
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
        Missing, typer.Option(help="A query without an answer: error refuses the file, zero counts it 0.")
    ] = Missing.error,
    bins: Annotated[bool, typer.Option("--bins", help="Also show mAP by the number of words of the query.")] = False,
    json: Annotated[str | None, typer.Option(help=SCORES_JSON_HELP)] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the JSON file if it exists.")] = False,
) -> None:
    """Score a file of answers, ours or another system's, by the benchmark's own metrics.

    Example: r2tuning score hl_val_submission.jsonl highlight_val_release.jsonl
    """
    if json not in (None, "-"):
        check_target(json, force=force)

    from r2tuning.datasets import find_benchmark, load_annotations
    from r2tuning.evaluation.predict import read_predictions
    from r2tuning.evaluation.score import asks_for_moments, score_predictions, score_query_lengths

    rules = find_benchmark(benchmark)
    moments = asks_for_moments(rules)
    if bins and not moments:
        raise typer.BadParameter(f"{rules.name} has no moments to score by words", param_hint="--bins")
    truth = load_annotations(ground_truth, rules, split=split, domain=domain)
    answers = read_predictions(predictions, truth, moments=moments)
    metrics = score_predictions(answers, truth, rules, missing=missing.value)
    lengths = score_query_lengths(answers, truth, missing=missing.value) if bins else []
    if json is not None:
        content: dict[str, object] = {"benchmark": rules.name, "queries": len(truth), "metrics": metrics}
        if bins:
            content["bins"] = [{"words": s.words, "queries": s.queries, "mAP": s.mean_ap} for s in lengths]
        write_scores(json, content, force=force)
    if json != "-":
        print_scores(f"{predictions.name} on {rules.name}, {len(truth)} queries", metrics, {})
        if bins:
            print_lengths(lengths)
