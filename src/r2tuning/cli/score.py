"""``r2tuning score``, and the tables and files of scores that other commands show too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from r2tuning.ablation.table import Spread, format_spread
from r2tuning.cli.options import ForceOption
from r2tuning.errors import MetricError, show_on_one_line
from r2tuning.files import check_target, write_atomically

if TYPE_CHECKING:
    from r2tuning.datasets import Annotation, Benchmark
    from r2tuning.evaluation.calibrate import CalibrationQuality
    from r2tuning.metrics import Prediction
    from r2tuning.metrics.evaluate import Missing


def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Predictions, a JSON line per query: qid, pred_relevant_windows, pred_saliency_scores, pred_presence; "
            "without moments qid or vid, pred_saliency_scores; across videos qid, pred_corpus.",
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
    presence_threshold: PresenceThresholdOption = 0.5,
    bins: BinsOption = False,
    json: ScoresJsonOption = None,
    force: ForceOption = False,
) -> None:
    """Score a file of predictions, ours or another system's, by the benchmark's own metrics.

    Example: r2tuning score hl_val_submission.jsonl highlight_val_release.jsonl
    """
    from r2tuning.datasets import find_benchmark, load_annotations
    from r2tuning.evaluation.corpus import is_corpus_file, read_corpus_predictions, read_corpus_truth
    from r2tuning.evaluation.score import read_predictions
    from r2tuning.metrics import evaluate_corpus

    rules = find_benchmark(benchmark)
    check_scores(rules, json, bins=bins, force=force)
    title, source = f"{predictions.name} on {rules.name}", {"benchmark": rules.name}
    if is_corpus_file(predictions):
        if bins:
            raise typer.BadParameter("moments across videos are not scored by words", param_hint="--bins")
        everywhere = read_corpus_truth(ground_truth, rules, split=split, domain=domain)
        with _name_option():
            metrics = evaluate_corpus(read_corpus_predictions(predictions), everywhere, missing=missing)
        show_scores(title, source, metrics, len(everywhere), json_file=json, force=force)
        return
    truth = load_annotations(ground_truth, rules, split=split, domain=domain)
    found = read_predictions(predictions, truth, moments=rules.task == "moments")
    report_scores(
        title,
        source,
        found,
        truth,
        rules,
        missing=missing,
        presence_threshold=presence_threshold,
        bins=bins,
        json_file=json,
        force=force,
    )


ScoresJsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write all scores as JSON; - prints JSON instead of the table."),
]
PresenceThresholdOption = Annotated[
    float,
    typer.Option(min=0, max=1, help="Presence below which a query counts as rejected, where some have no answer."),
]
BinsOption = Annotated[bool, typer.Option("--bins", help="Also show mAP by the number of words of the query.")]


def check_scores(benchmark: Benchmark, json_file: str | None, *, bins: bool, force: bool) -> None:
    """Refuses options that cannot be met, before the work."""
    if json_file not in (None, "-"):
        check_target(json_file, force=force)
    if bins and benchmark.task != "moments":
        raise typer.BadParameter(f"{benchmark.name} has no moments to score by words", param_hint="--bins")


def report_scores(
    title: str,
    source: Mapping[str, object],
    predictions: Sequence[Prediction],
    annotations: Sequence[Annotation],
    benchmark: Benchmark,
    *,
    published: Mapping[str, float] | None = None,
    missing: Missing = "error",
    presence_threshold: float = 0.5,
    bins: bool = False,
    json_file: str | None = None,
    force: bool = False,
) -> None:
    """Scores predictions, prints the scores, and writes them as JSON to a file, or to stdout instead of the table.

    ``source`` says in the JSON what was scored. ``published`` are scores to compare with, in percent; None leaves them
    out of the JSON too.
    """
    from r2tuning.evaluation.score import score_predictions, score_query_lengths

    with _name_option():
        metrics = score_predictions(
            predictions, annotations, benchmark, missing=missing, presence_threshold=presence_threshold
        )
    lengths = score_query_lengths(predictions, annotations, missing=missing) if bins else []
    more: dict[str, object] = {} if published is None else {"published": dict(published)}
    if bins:
        more["bins"] = [{"words": s.words, "queries": s.queries, "mAP": s.mean_ap} for s in lengths]
    show_scores(title, source, metrics, len(annotations), more, published or {}, json_file=json_file, force=force)
    if bins and json_file != "-":
        rows = [[s.words, str(s.queries), "-" if s.mean_ap is None else f"{s.mean_ap:.2f}"] for s in lengths]
        print_table("MR mAP by words in the query", ["words", "queries", "mAP"], rows)


@contextmanager
def _name_option() -> Iterator[None]:
    """Errors name the option instead of the argument."""
    try:
        yield
    except MetricError as error:
        raise MetricError(str(error).replace("missing='zero'", "--missing zero")) from error


def show_scores(
    title: str,
    source: Mapping[str, object],
    metrics: Mapping[str, float],
    queries: int,
    more: Mapping[str, object] = MappingProxyType({}),
    published: Mapping[str, float] = MappingProxyType({}),
    *,
    json_file: str | None,
    force: bool,
) -> None:
    """Prints scores, and writes them with ``more`` as JSON to a file, or to stdout instead of the table."""
    if json_file is not None:
        write_scores(json_file, {**source, "queries": queries, "metrics": metrics, **more}, force=force)
    if json_file != "-":
        print_scores(f"{title}, {queries} queries", metrics, published)


def print_scores(
    title: str, scores: Mapping[str, float | Spread], published: Mapping[str, float], column: str = "ours"
) -> None:
    """Prints the metrics that papers print, or else all, beside the published ones; in percent."""
    from r2tuning.metrics import BRIEF

    rows = []
    for name in [name for name in BRIEF if name in scores] or scores:
        score = scores[name]
        spread = score if isinstance(score, Spread) else Spread(score, None)
        compared = [f"{published[name]:.2f}", f"{spread.mean - published[name]:+.2f}"] if name in published else []
        rows.append([name, format_spread(spread), *compared])
    print_table(title, ["metric", column, *(("published", "difference") if published else ())], rows)


def print_calibration(title: str, quality: CalibrationQuality) -> None:
    """Prints the calibration error of each score, before and after, and how well presence works."""
    from r2tuning.metrics.reliability import expected_calibration_error

    rows = []
    for name, score in (("moments", quality.moments), ("saliency", quality.saliency)):
        if score is not None:
            errors = (f"{100 * expected_calibration_error(points):.2f}" for points in (score.before, score.after))
            rows.append([name, str(score.count), *errors])
    print_table(title, ["score", "number", "ECE before", "after"], rows)
    if (presence := quality.presence) is not None:
        typer.echo(
            f"Presence: AUROC {presence.auroc:.3f}; the threshold keeps {presence.kept:.0%} of present queries and "
            f"notices {presence.noticed:.0%} of absent ones."
        )


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], *, names: int = 1) -> None:
    """Prints a table to stdout; deviations move to a second line if the terminal is too narrow.

    Short rows are filled up with empty cells. The first ``names`` columns are aligned left, the others are numbers.
    """
    console = Console()

    def fit(text: str) -> Text:
        # Not every terminal can print every character.
        plain = text.replace("±", "+/-") if console.options.ascii_only else text
        return Text(plain.encode(console.encoding, "backslashreplace").decode(console.encoding))

    def build(before_deviation: str) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column, heading in enumerate(headings):
            justify: Literal["left", "right"] = "left" if column < names else "right"
            table.add_column(fit(heading), justify=justify, overflow="fold")
        for row in rows:
            table.add_row(*(fit(cell.replace(" ±", f"{before_deviation}±")) for cell in row))
        return table

    # Not the table's own title, which would wrap at the table's width.
    console.print(fit(show_on_one_line(title)), style="bold", soft_wrap=True)
    if rows:
        wide = build(" ")
        unlimited = console.options.update(max_width=10_000)
        console.print(wide if console.measure(wide, options=unlimited).maximum <= console.width else build("\n"))


def write_scores(json_file: str, content: Mapping[str, object], *, force: bool) -> None:
    """Writes scores as JSON to a file, or to stdout for ``-``."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if json_file == "-":
        typer.echo(text.encode(), nl=False)  # UTF-8 whatever the terminal's encoding
    else:
        write_atomically(json_file, text, force=force)
