"""Writes numbers and charts of ``docs/moving-shapes.md``: ``python -m projects.moving_shapes.report DIR [RESULTS]``.

DIR is the folder of the annotations, RESULTS holds the JSON files of other scripts. Sections without results stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from projects.moving_shapes.kinds import Kind, find_kind, recall_meanings
from projects.moving_shapes.options import tabulate_options
from projects.moving_shapes.ranking import SHOWN
from projects.moving_shapes.shared import draw_charts, read_split, to_markdown
from r2tuning.ablation.table import HEADINGS, CellResult, format_spread, read_table, shorten_keys
from r2tuning.datasets import Annotation
from r2tuning.errors import DataError
from r2tuning.files import write_atomically
from r2tuning.output.charts import BLUE, GREEN, MARKERS, ORANGE, PURPLE
from r2tuning.synthetic.queries import MOST_MOMENTS, names_held_out
from r2tuning.synthetic.scenes import SPLITS
from r2tuning.synthetic.semantics import BEST, WORST, Meaning

MAIN = "MR-full-mAP"
WAYS = ("reversed", "forward", "mean", "single")

_COLORS = BLUE, ORANGE, GREEN, PURPLE


@dataclass(frozen=True)
class SplitFacts:
    """The queries of a split that have moments, how many have none, and what they mean (for val and test)."""

    name: str
    annotations: Sequence[Annotation]
    absent: int
    meanings: Sequence[Meaning] = ()

    @property
    def durations(self) -> list[float]:
        """Seconds of every video."""
        return list({a.vid: a.duration or 0.0 for a in self.annotations}.values())

    @property
    def words(self) -> list[int]:
        """Number of words of every query."""
        return [len(a.query.split()) for a in self.annotations]

    @property
    def lengths(self) -> list[float]:
        """Seconds of every moment."""
        return [end - start for a in self.annotations for start, end in a.moments]

    @property
    def covered(self) -> list[float]:
        """Percentage of the video that the moments of every query take."""
        return [100 * sum(end - start for start, end in a.moments) / (a.duration or 1) for a in self.annotations]

    @property
    def ratings(self) -> list[int]:
        """All ratings of relevant clips."""
        return [int(r) for a in self.annotations if a.saliency is not None for r in a.saliency[a.saliency > 0]]


def read_facts(folder: Path, split: str) -> SplitFacts:
    """The facts of a split; meanings of ``train`` would take long."""
    annotations, absent = read_split(folder, split), folder / f"{split}_absent.jsonl"
    count = len(absent.read_text(encoding="utf-8").splitlines()) if absent.is_file() else 0
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


def tabulate_splits(splits: Sequence[SplitFacts]) -> str:
    """Statistics, a column for each split."""
    rows: list[tuple[str, Callable[[SplitFacts], str]]] = [
        ("videos", lambda s: f"{len(s.durations):,}"),
        ("hours of video", lambda s: f"{sum(s.durations) / 3600:.1f}"),
        ("seconds of a video: median (range)", lambda s: _range(s.durations)),
        ("queries", lambda s: f"{len(s.annotations):,}"),
        ("queries that are true of no moment", lambda s: f"{s.absent:,}"),
        ("words of a query: median (range)", lambda s: _range(s.words)),
        (
            "queries with 1 / 2 / 3 moments",
            lambda s: _shares([len(a.moments) for a in s.annotations], range(1, MOST_MOMENTS + 1)),
        ),
        ("seconds of a moment: median (range)", lambda s: _range(s.lengths)),
        ("share of the video that a query's moments take: mean", lambda s: f"{np.mean(s.covered):.0f} %"),
        ("ratings 1 / 2 / 3 / 4 of relevant clips", lambda s: _shares(s.ratings, range(WORST, BEST + 1))),
        ("queries that name an unseen combination", lambda s: _percent(s, names_held_out)),
    ]
    for kind in Kind:
        holds = partial(lambda kind, meaning: find_kind(meaning) is kind, kind)
        rows.append((f"queries about: {kind.value}", partial(_percent, holds=holds)))
    return to_markdown(["", *(s.name for s in splits)], [[title, *(show(s) for s in splits)] for title, show in rows])


def _range(values: Sequence[float]) -> str:
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _shares(values: Sequence[int], of: Sequence[int]) -> str:
    return " / ".join(f"{100 * sum(value == one for value in values) / len(values):.0f}" for one in of) + " %"


def _percent(split: SplitFacts, holds: Callable[[Meaning], bool]) -> str:
    if not split.meanings:
        return "-"
    return f"{100 * sum(map(holds, split.meanings)) / len(split.meanings):.0f} %"


def tabulate_results(zero_shot: Mapping[str, float], model: Mapping[str, float]) -> str:
    """The metrics of the paper's tables, of the baseline and of the model."""
    names = [name for name in HEADINGS if name in model]
    systems = ("CLIP, zero-shot", zero_shot), ("R²-Tuning", model)
    rows = [[who, *(f"{scores[name]:.2f}" for name in names)] for who, scores in systems]
    return to_markdown(["", *(HEADINGS[name] for name in names)], rows)


def tabulate_kinds(val: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]) -> str:
    """Groups of `kinds` on both splits; a dash where a split has no such query."""
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
    """How well each score tells absent queries, from the results of `calibration`: AUROC."""
    rows = found["separation"]
    table = [
        [row["absent"], f"{row['queries']:,}", *(f"{auroc:.3f}" for auroc in row["auroc"].values())] for row in rows
    ]
    return to_markdown(["absent queries", "number", *rows[0]["auroc"]], table)


def tabulate_ranking(found: Mapping[str, Any]) -> str:
    """Ways to rank moments across videos, from the results of `ranking`."""
    rows = [[way, *(f"{scores[name]:.1f}" for name in SHOWN)] for way, scores in found.items()]
    return to_markdown(["ranked by", *SHOWN], rows)


def draw_splits(splits: Sequence[SplitFacts], path: Path) -> None:
    """Lengths of queries, moments and videos, and what queries are about."""
    names = [split.name for split in splits]

    def fill(axes: Sequence[Axes]) -> None:
        histograms: list[tuple[Sequence[Sequence[float]], int, str, str, str]] = [
            ([split.words for split in splits], 3, "Words of a query", "words", "queries (%)"),
            ([split.lengths for split in splits], 4, "Length of a moment", "seconds", "moments (%)"),
            ([split.durations for split in splits], 15, "Length of a video", "seconds", "videos (%)"),
        ]
        for chart, (values, step, title, xlabel, ylabel) in zip(axes[:3], histograms, strict=True):
            edges = list(range(0, int(max(map(max, values))) + step + 1, step))
            for each, name, color in zip(values, names, _COLORS, strict=False):
                share = np.full(len(each), 100 / len(each))
                chart.hist(each, edges, weights=share, histtype="step", color=color, linewidth=1.6, label=name)
            chart.set(title=title, xlabel=xlabel, ylabel=ylabel)
        known = [split for split in splits if split.meanings]
        for index, split in enumerate(known):
            kinds = [find_kind(meaning) for meaning in split.meanings]
            shares = [100 * kinds.count(kind) / len(kinds) for kind in Kind]
            places = np.arange(len(Kind)) + 0.4 * (index - (len(known) - 1) / 2)
            axes[3].bar(places, shares, 0.38, color=_COLORS[splits.index(split)], label=split.name)
        axes[3].set_xticks(range(len(Kind)), [kind.value for kind in Kind], fontsize=9)
        axes[3].set(title="What queries are about", ylabel="queries (%)")

    draw_charts(path, 2, 2, fill)


def draw_refinement(cells: Sequence[CellResult], path: Path) -> None:
    """MR mAP against the number of layers, for each way to use them (Fig. 7); one layer is the same in all ways."""

    def fill(axes: Sequence[Axes]) -> None:
        alone = [cell for cell in cells if cell.settings["model.layers"] == "1"]
        for way, color, marker in zip(WAYS, _COLORS, MARKERS, strict=False):
            mine = [c for c in cells if c.settings["model.refinement"] == way and c not in alone]
            line = [(int(c.settings["model.layers"]), c.spread[MAIN]) for c in (*alone, *mine)]
            means, errors = [s.mean for _, s in line], [s.deviation or 0 for _, s in line]
            layers = [number for number, _ in line]
            axes[0].errorbar(layers, means, errors, color=color, marker=marker, capsize=3, label=way)
        axes[0].set_xticks(sorted({int(cell.settings["model.layers"]) for cell in cells}))
        axes[0].set(title="Ways to use the last K layers", xlabel="K", ylabel="MR mAP on val (%)")

    draw_charts(path, 1, 1, fill)


def draw_calibration(cells: Sequence[CellResult], path: Path) -> None:
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

    draw_charts(path, 1, 1, fill)


def draw_lengths(bins: Sequence[Mapping[str, Any]], path: Path) -> None:
    """MR mAP by words of the query (Table 6)."""

    def fill(axes: Sequence[Axes]) -> None:
        there = [each for each in bins if each["mAP"] is not None]
        names = [f"{each['words']}\n(n = {each['queries']})" for each in there]
        axes[0].bar(names, [each["mAP"] for each in there], color=_COLORS[0])
        axes[0].set(title="Length of the query", xlabel="words (n queries)", ylabel="MR mAP on test (%)", ylim=(0, 100))

    draw_charts(path, 1, 1, fill)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the sections whose results exist, and reports the others."""
    parser = argparse.ArgumentParser(description="Writes the numbers and charts of docs/moving-shapes.md.")
    parser.add_argument("folder", type=Path, help="of train.jsonl, val.jsonl and test.jsonl")
    parser.add_argument("results", type=Path, nargs="?", help="folder of the JSON files that other scripts wrote")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of moving-shapes.md")
    options = parser.parse_args(arguments)
    document, images = options.docs / "moving-shapes.md", options.docs / "images"
    images.mkdir(exist_ok=True)
    text = document.read_text(encoding="utf-8")

    def load(name: str) -> Any:
        return json.loads((options.results / f"{name}.json").read_text(encoding="utf-8"))

    def has(*names: str) -> bool:
        missing = [n for n in names if options.results is None or not (options.results / f"{n}.json").is_file()]
        if missing:
            print(f"unchanged without {', '.join(f'{name}.json' for name in missing)}", file=sys.stderr)
        return not missing

    def write(name: str, table: str, alternative: str = "", draw: Callable[[Path], None] | None = None) -> None:
        """Replaces a section by a table and a picture, which is drawn or exists."""
        nonlocal text
        file = images / f"moving-shapes-{name}.png"
        if draw is not None:
            draw(file)
        picture = f"\n\n![{alternative}](images/{file.name})" if alternative and file.is_file() else ""
        text = replace_section(text, name, table + picture)

    splits = [read_facts(options.folder, split) for split in SPLITS]
    about = "Lengths of queries, moments and videos, and kinds of queries"
    write("statistics", tabulate_splits(splits), about, partial(draw_splits, splits))
    if has("test", "zero-shot"):
        test = load("test")
        write("results", tabulate_results(load("zero-shot")["metrics"], test["metrics"]))
        write("lengths", "", "mAP by words of the query", partial(draw_lengths, test["bins"]))
    if has("kinds-val", "kinds-test"):
        write("kinds", tabulate_kinds(load("kinds-val")["groups"], load("kinds-test")["groups"]))
    if has("scores"):
        write("absent", tabulate_absent(load("scores")), "Scores of present and absent queries")
    if has("ranking"):
        write("ranking", tabulate_ranking(load("ranking")))
    if has("options"):
        write("options", tabulate_options(load("options")))
    for name, about, draw in (
        ("refinement", "mAP against K for four ways to use the layers", draw_refinement),
        ("calibration", "mAP without, with each and with both calibrating losses", draw_calibration),
    ):
        if has(name):
            cells = read_table(options.results / f"{name}.json")
            write(name, tabulate_cells(cells), about, partial(draw, cells))
    write_atomically(document, text, force=True)


if __name__ == "__main__":
    main()
