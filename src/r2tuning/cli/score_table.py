"""Scores as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from r2tuning.files import write_atomically
from r2tuning.output.text.labels import show_on_one_line

if TYPE_CHECKING:
    from r2tuning.evaluation.calibrate import CalibrationQuality
    from r2tuning.evaluation.score import LengthScore
    from r2tuning.training.seeds import Spread

SCORES_JSON_HELP = "Write all scores as JSON to this file; - for stdout, instead of the table."


def choose_metrics(metrics: Mapping[str, object]) -> list[str]:
    """The metrics that papers print, in their order; all of them where there are no such.

    Example:
        >>> choose_metrics({"MR-full-R5@0.95": 1.0, "MR-full-mAP": 2.0, "MR-full-R1@0.5": 3.0})
        ['MR-full-R1@0.5', 'MR-full-mAP']
        >>> choose_metrics({"mAP": 1.0})
        ['mAP']
    """
    from r2tuning.metrics import BRIEF

    return [name for name in BRIEF if name in metrics] or list(metrics)


def print_scores(title: str, metrics: Mapping[str, float], published: Mapping[str, float]) -> None:
    """Prints the scores, beside the published ones where there are any; all in percent."""
    table = _start_table("metric", "ours", *(("published", "difference") if published else ()))
    for name in choose_metrics(metrics):
        row = [name, f"{metrics[name]:.2f}"]
        if name in published:
            row += [f"{published[name]:.2f}", f"{metrics[name] - published[name]:+.2f}"]
        table.add_row(*row)
    _print(title, table)


def print_spread(title: str, spread: Mapping[str, Spread], published: Mapping[str, float]) -> None:
    """Prints mean ± standard deviation of several runs, beside the published scores; all in percent."""
    table = _start_table("metric", "trained", "published", "difference")
    sign = "+/-" if Console().options.ascii_only else "±"
    for name in choose_metrics(spread):
        mean, deviation = spread[name].mean, spread[name].deviation
        row = [name, f"{mean:.2f}" if deviation is None else f"{mean:.2f} {sign} {deviation:.2f}"]
        if name in published:
            row += [f"{published[name]:.2f}", f"{mean - published[name]:+.2f}"]
        table.add_row(*row)
    _print(title, table)


def print_lengths(scores: list[LengthScore]) -> None:
    """Prints MR mAP by the length of queries."""
    table = _start_table("words", "queries", "mAP")
    for score in scores:
        table.add_row(score.words, str(score.queries), "-" if score.mean_ap is None else f"{score.mean_ap:.2f}")
    _print("MR mAP by words in the query", table)


def print_calibration(title: str, quality: CalibrationQuality) -> None:
    """Prints how far scores were from what they say and how far they are now, and how well presence is told."""
    from r2tuning.metrics.reliability import expected_calibration_error

    table = _start_table("score", "number", "ECE before", "after")
    for name, score in (("moments", quality.moments), ("saliency", quality.saliency)):
        if score is not None:
            errors = (f"{100 * expected_calibration_error(points):.2f}" for points in (score.before, score.after))
            table.add_row(name, str(score.count), *errors)
    _print(title, table)
    if (presence := quality.presence) is not None:
        typer.echo(
            f"Presence: AUROC {presence.auroc:.3f}; the threshold keeps {presence.kept:.0%} of what is there and "
            f"notices {presence.noticed:.0%} of what is not."
        )


def write_scores(json_file: str, content: Mapping[str, object], *, force: bool) -> None:
    """Writes scores and what they are of as JSON to a file or, for ``-``, to stdout."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if json_file == "-":
        typer.echo(text.encode(), nl=False)  # UTF-8 whatever the terminal's encoding
    else:
        write_atomically(json_file, text, force=force)


def _print(title: str, table: Table) -> None:
    console = Console()
    # Not the table's own title, which would wrap at the table's width.
    shown = show_on_one_line(title).encode(console.encoding, "backslashreplace").decode(console.encoding)
    console.print(shown, style="bold", markup=False, highlight=False, soft_wrap=True)
    console.print(table)


def _start_table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
