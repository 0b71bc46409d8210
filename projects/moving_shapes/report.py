"""Writes numbers and charts of ``docs/moving-shapes.md``: ``python -m projects.moving_shapes.report``.

DIR is the folder of the annotations; RESULTS has what other commands wrote (the document says which). Sections whose
results are not there stay as they are.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from projects.moving_shapes.kinds import Kind, find_kind, recall_meanings
from r2tuning.ablation.table import HEADINGS, CellResult, format_spread, read_table, shorten_keys
from r2tuning.datasets import Annotation, find_benchmark, load_annotations
from r2tuning.errors import DataError
from r2tuning.files import write_atomically
from r2tuning.synthetic.queries import MOST_MOMENTS, names_held_out
from r2tuning.synthetic.scenes import SPLITS
from r2tuning.synthetic.semantics import BEST, WORST, Meaning

MAIN = "MR-full-mAP"
WAYS = ("reversed", "forward", "mean", "single")

# Okabe and Ito's palette, told apart with every kind of color vision; lines also differ in their markers.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True)
class SplitFacts:
    """What is known of a split.

    Attributes:
        name: Of the split.
        annotations: Queries with moments.
        absent: Number of queries without.
        meanings: Of the queries; none where they are not looked at.
    """

    name: str
    annotations: Sequence[Annotation]
    absent: int
    meanings: Sequence[Meaning] = ()

    @property
    def durations(self) -> list[float]:
        """Seconds of each video."""
        return list({a.vid: a.duration or 0.0 for a in self.annotations}.values())

    @property
    def words(self) -> list[int]:
        """Of each query."""
        return [len(a.query.split()) for a in self.annotations]

    @property
    def lengths(self) -> list[float]:
        """Seconds of each moment."""
        return [end - start for a in self.annotations for start, end in a.moments]

    @property
    def moments(self) -> list[int]:
        """Of each query."""
        return [len(a.moments) for a in self.annotations]

    @property
    def covered(self) -> list[float]:
        """Share of its video that each query's moments take, in percent."""
        return [100 * sum(end - start for start, end in a.moments) / (a.duration or 1) for a in self.annotations]

    @property
    def ratings(self) -> list[int]:
        """All ratings of relevant clips."""
        return [int(r) for a in self.annotations if a.saliency is not None for r in a.saliency[a.saliency > 0]]


def read_split(folder: Path, split: str) -> SplitFacts:
    """Annotations of a split, with meanings but for ``train``: to find those of its many videos would take long.

    Raises:
        DataError: If the files cannot be read.
    """
    benchmark = find_benchmark("moving-shapes")
    annotations = load_annotations(benchmark.find_file(folder, split), benchmark)
    absent = folder / f"{split}_absent.jsonl"
    count = len(load_annotations(absent, benchmark)) if absent.is_file() and absent.stat().st_size else 0
    return SplitFacts(split, annotations, count, () if split == "train" else recall_meanings(annotations))


def replace_section(text: str, name: str, content: str) -> str:
    r"""Puts content between the marks of a section.

    Raises:
        DataError: If the text has no such section.

    Example:
        >>> replace_section("a <!-- numbers: x -->old<!-- end: x --> b", "x", "new")
        'a <!-- numbers: x -->\nnew\n<!-- end: x --> b'
    """
    begin, end = f"<!-- numbers: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise DataError(f"the document has no section {begin} … {end}; add it")
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"


def to_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table, its first columns of text and the others of numbers.

    Example:
        >>> print(to_markdown(["split", "mAP"], [["val", "50.00"]]))
        | split | mAP |
        |---|---:|
        | val | 50.00 |
    """
    rule = "|" + "|".join("---" if column < texts else "---:" for column in range(len(headings))) + "|"
    lines = ["| " + " | ".join(row) + " |" for row in (headings, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def tabulate_splits(splits: Sequence[SplitFacts]) -> str:
    """Statistics, a column for each split."""
    rows: list[tuple[str, Callable[[SplitFacts], str]]] = [
        ("videos", lambda s: f"{len(s.durations):,}"),
        ("hours of video", lambda s: f"{sum(s.durations) / 3600:.1f}"),
        ("seconds of a video: median (range)", lambda s: _range(s.durations)),
        ("queries", lambda s: f"{len(s.annotations):,}"),
        ("queries that are true of no moment", lambda s: f"{s.absent:,}"),
        ("words of a query: median (range)", lambda s: _range(s.words)),
        ("queries with 1 / 2 / 3 moments", lambda s: _shares(s.moments, range(1, MOST_MOMENTS + 1))),
        ("seconds of a moment: median (range)", lambda s: _range(s.lengths)),
        ("share of the video that a query's moments take: mean", lambda s: f"{np.mean(s.covered):.0f} %"),
        ("ratings 1 / 2 / 3 / 4 of relevant clips", lambda s: _shares(s.ratings, range(WORST, BEST + 1))),
        ("queries that name an unseen combination", lambda s: _percent(s, names_held_out)),
    ]
    rows += [(f"queries about: {kind.value}", partial(_percent, holds=partial(_is_of, kind))) for kind in Kind]
    return to_markdown(["", *(s.name for s in splits)], [[title, *(show(s) for s in splits)] for title, show in rows])


def _range(values: Sequence[float]) -> str:
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _shares(values: Sequence[int], of: Sequence[int]) -> str:
    return " / ".join(f"{100 * sum(value == one for value in values) / len(values):.0f}" for one in of) + " %"


def _percent(split: SplitFacts, holds: Callable[[Meaning], bool]) -> str:
    if not split.meanings:
        return "-"
    return f"{100 * sum(map(holds, split.meanings)) / len(split.meanings):.0f} %"


def _is_of(kind: Kind, meaning: Meaning) -> bool:
    return find_kind(meaning) is kind


def tabulate_results(zero_shot: Mapping[str, float], model: Mapping[str, float]) -> str:
    """The metrics that the paper's tables have, of the baseline and of the model."""
    names = [name for name in HEADINGS if name in model]
    systems = ("CLIP, zero-shot", zero_shot), ("R²-Tuning", model)
    rows = [[who, *(f"{scores[name]:.2f}" for name in names)] for who, scores in systems]
    return to_markdown(["", *(HEADINGS[name] for name in names)], rows)


def tabulate_kinds(val: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]) -> str:
    """Groups of `projects.moving_shapes.kinds` on both splits; a dash where a split has no such query."""
    shown = [(g["by"], g["group"]) for g in test if g["by"] != "action"]
    rows = []
    for by, group in shown:
        row = [group if by == "kind" else f"*{group}*"]
        for groups in (val, test):
            found = [g for g in groups if (g["by"], g["group"]) == (by, group)]
            row += [cell for g in found for cell in (str(g["queries"]), f"{g['r1_50']:.2f}", f"{g['mean_ap']:.2f}")]
            row += [] if found else ["-"] * 3
        rows.append(row)
    return to_markdown(
        ["", *(f"{split}: {name}" for split in ("val", "test") for name in ("queries", "R1@0.5", "mAP"))], rows
    )


def tabulate_cells(cells: Sequence[CellResult]) -> str:
    """An ablation, a row for each cell."""
    keys = list(cells[0].settings)
    names = [name for name in HEADINGS if name in cells[0].spread]
    rows = [[*cell.settings.values(), *(format_spread(cell.spread.get(name)) for name in names)] for cell in cells]
    return to_markdown([*shorten_keys(keys), *(HEADINGS[name] for name in names)], rows, len(keys))


def tabulate_absent(found: Mapping[str, Any]) -> str:
    """Both separations."""
    rows = [[name, f"{auroc:.3f}"] for name, auroc in found["auroc"].items()]
    heading = f"AUROC, {found['present']:,} present and {found['absent']:,} absent"
    return to_markdown(["score", heading], rows)


def draw(columns: int, rows: int, fill: Callable[[Sequence[Axes]], None]) -> bytes:
    """A PNG file of so many charts; ``fill`` draws them."""
    figure = Figure(figsize=(5 * columns, 3.3 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(np.ravel(figure.subplots(rows, columns)))
    fill(axes)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        if each.get_legend_handles_labels()[0]:
            each.legend(frameon=False, fontsize=9)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def draw_splits(splits: Sequence[SplitFacts]) -> bytes:
    """Lengths of queries, moments and videos, and what queries are about."""

    def fill(axes: Sequence[Axes]) -> None:
        _draw_histogram(axes[0], [split.words for split in splits], names, 3)
        axes[0].set(title="Words of a query", xlabel="words", ylabel="queries (%)")
        _draw_histogram(axes[1], [split.lengths for split in splits], names, 4)
        axes[1].set(title="Length of a moment", xlabel="seconds", ylabel="moments (%)")
        _draw_histogram(axes[2], [split.durations for split in splits], names, 15)
        axes[2].set(title="Length of a video", xlabel="seconds", ylabel="videos (%)")
        known = [split for split in splits if split.meanings]
        for index, split in enumerate(known):
            kinds = [find_kind(meaning) for meaning in split.meanings]
            share = [100 * kinds.count(kind) / len(kinds) for kind in Kind]
            places = np.arange(len(Kind)) + 0.4 * (index - (len(known) - 1) / 2)
            axes[3].bar(places, share, 0.38, color=_COLORS[splits.index(split)], label=split.name)
        axes[3].set_xticks(range(len(Kind)), [kind.value for kind in Kind], fontsize=9)
        axes[3].set(title="What queries are about", ylabel="queries (%)")

    names = [split.name for split in splits]
    return draw(2, 2, fill)


def _draw_histogram(axes: Axes, values: Sequence[Sequence[float]], names: Sequence[str], step: int) -> None:
    """Outlines over each other, a color for each split."""
    edges = list(range(0, int(max(map(max, values))) + step + 1, step))
    for each, name, color in zip(values, names, _COLORS, strict=False):
        share = np.full(len(each), 100 / len(each))
        axes.hist(each, edges, weights=share, histtype="step", color=color, linewidth=1.6, label=name)


def draw_refinement(cells: Sequence[CellResult]) -> bytes:
    """MR mAP against the number of layers, for each way to use them (Fig. 7); one layer is the same in all ways."""

    def fill(axes: Sequence[Axes]) -> None:
        alone = [cell for cell in cells if cell.settings["model.layers"] == "1"]
        for way, color, marker in zip(WAYS, _COLORS, _MARKERS, strict=True):
            mine = [c for c in cells if c.settings["model.refinement"] == way and c not in alone]
            line = [(int(c.settings["model.layers"]), c.spread[MAIN]) for c in (*alone, *mine)]
            means, errors = [s.mean for _, s in line], [s.deviation or 0 for _, s in line]
            layers = [number for number, _ in line]
            axes[0].errorbar(layers, means, errors, color=color, marker=marker, capsize=3, label=way)
        axes[0].set_xticks(sorted({int(cell.settings["model.layers"]) for cell in cells}))
        axes[0].set(title="Ways to use the last K layers", xlabel="K", ylabel="MR mAP on val (%)")

    return draw(1, 1, fill)


def draw_calibration(cells: Sequence[CellResult]) -> bytes:
    """MR mAP without the calibrating losses, with each and with both (Table 5)."""

    def fill(axes: Sequence[Axes]) -> None:
        names = []
        for cell in cells:
            on = [what for what in ("video", "layer") if float(cell.settings[f"losses.{what}_calibration"]) > 0]
            names.append({0: "neither", 1: f"{''.join(on)} only", 2: "both"}[len(on)])
        spreads = [cell.spread[MAIN] for cell in cells]
        errors = [spread.deviation or 0 for spread in spreads]
        axes[0].bar(names, [spread.mean for spread in spreads], yerr=errors, capsize=4, color=_COLORS[0])
        lowest = min(spread.mean - error for spread, error in zip(spreads, errors, strict=True))
        axes[0].set_ylim(max(0, lowest - 5))
        axes[0].set(title="Calibrating losses (the axis does not start at 0)", ylabel="MR mAP on val (%)")

    return draw(1, 1, fill)


def draw_lengths(bins: Sequence[Mapping[str, Any]]) -> bytes:
    """MR mAP by words of the query (Table 6)."""

    def fill(axes: Sequence[Axes]) -> None:
        there = [each for each in bins if each["mAP"] is not None]
        names = [f"{each['words']}\n(n = {each['queries']})" for each in there]
        axes[0].bar(names, [each["mAP"] for each in there], color=_COLORS[0])
        axes[0].set(title="Length of the query", xlabel="words (n queries)", ylabel="MR mAP on test (%)", ylim=(0, 100))

    return draw(1, 1, fill)


def main(arguments: Sequence[str] | None = None) -> None:
    """Renders what there is, and says what is not."""
    parser = argparse.ArgumentParser(description="Writes the numbers and charts of docs/moving-shapes.md.")
    parser.add_argument("folder", type=Path, help="of train.jsonl, val.jsonl and test.jsonl")
    parser.add_argument("results", type=Path, nargs="?", help="folder of the JSON files that other commands wrote")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of moving-shapes.md")
    options = parser.parse_args(arguments)
    document, images = options.docs / "moving-shapes.md", options.docs / "images"
    images.mkdir(exist_ok=True)
    text = document.read_text(encoding="utf-8")

    def load(name: str) -> Any:
        return json.loads((options.results / f"{name}.json").read_text(encoding="utf-8"))

    def has(*names: str) -> bool:
        absent = [n for n in names if options.results is None or not (options.results / f"{n}.json").is_file()]
        if absent:
            print(f"left as it is for want of {', '.join(f'{name}.json' for name in absent)}", file=sys.stderr)
        return not absent

    def show(name: str, alternative: str, chart: bytes | None = None) -> str:
        """Writes a chart (None: it is there, or is not shown), and returns what shows it in the document."""
        file = images / f"moving-shapes-{name}.png"
        if chart is not None:
            write_atomically(file, chart, force=True)
        return f"\n\n![{alternative}](images/{file.name})" if file.is_file() else ""

    splits = [read_split(options.folder, split) for split in SPLITS]
    picture = show("statistics", "Lengths of queries, moments and videos, and kinds of queries", draw_splits(splits))
    text = replace_section(text, "statistics", tabulate_splits(splits) + picture)
    if has("test", "zero-shot"):
        text = replace_section(text, "results", tabulate_results(load("zero-shot")["metrics"], load("test")["metrics"]))
        picture = show("lengths", "mAP by words of the query", draw_lengths(load("test")["bins"]))
        text = replace_section(text, "lengths", picture)
    if has("kinds-val", "kinds-test"):
        groups = load("kinds-val")["groups"], load("kinds-test")["groups"]
        text = replace_section(text, "kinds", tabulate_kinds(*groups))
    if has("absent"):
        picture = show("absent", "Scores of present and absent queries")  # projects.moving_shapes.absent has drawn it
        text = replace_section(text, "absent", tabulate_absent(load("absent")) + picture)
    if has("refinement"):
        cells = read_table(options.results / "refinement.json")
        picture = show("refinement", "mAP against K for four ways to use the layers", draw_refinement(cells))
        text = replace_section(text, "refinement", tabulate_cells(cells) + picture)
    if has("calibration"):
        cells = read_table(options.results / "calibration.json")
        picture = show(
            "calibration", "mAP without, with each and with both calibrating losses", draw_calibration(cells)
        )
        text = replace_section(text, "calibration", tabulate_cells(cells) + picture)
    write_atomically(document, text, force=True)


if __name__ == "__main__":
    main()
