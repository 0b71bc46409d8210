"""Scores of several runs: their spread, and a grid of them as a table, as Markdown and as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev

from r2tuning.errors import DataError
from r2tuning.files import guard, parse_json, read_file

HEADINGS = {
    "MR-full-R1@0.3": "R1@0.3",
    "MR-full-R1@0.5": "R1@0.5",
    "MR-full-R1@0.7": "R1@0.7",
    "MR-full-mAP": "mAP",
    "MR-full-mIoU": "mIoU",
    "HL-min-VeryGood-mAP": "HD mAP",
    "HL-min-VeryGood-Hit1": "Hit@1",
}
"""The metrics of the paper's tables, and their names there."""

LONGEST_NAME = 100
"""Characters of a folder's name; file systems take 255 bytes."""


@dataclass(frozen=True)
class Cell:
    """One point of a grid: keys and values that make it differ from the recipe."""

    settings: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """The settings as they were written.

        Example:
            >>> Cell((("model.layers", "2"), ("data.domain", "dog"))).title
            'model.layers=2, data.domain=dog'
        """
        return ", ".join(f"{key}={value}" for key, value in self.settings) or "recipe"

    @property
    def folder(self) -> str:
        """A unique name for the cell's folder, of letters, digits and ``._=,+-``.

        Example:
            >>> Cell((("model.layers", "2"), ("optimizer.lr", "1e-4"))).folder
            'model.layers=2,optimizer.lr=1e-4'
            >>> Cell((("backbone", "openai/clip"),)).folder
            'backbone=openai-clip-65b37026'
            >>> Cell().folder
            'recipe'
        """
        plain = ",".join(f"{key}={value}" for key, value in self.settings) or "recipe"
        safe = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", plain)
        if safe == plain and len(plain) <= LONGEST_NAME:
            return plain
        return f"{safe[:LONGEST_NAME]}-{sha256(plain.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Spread:
    """One metric over several runs, in percent: mean and standard deviation (n − 1), None for a single run."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class CellResult:
    """Scores of a cell, in percent: their spread over all runs, and those of each run (empty from `read_table`)."""

    cell: Cell
    spread: Mapping[str, Spread]
    runs: tuple[Mapping[str, float], ...] = ()

    @property
    def settings(self) -> dict[str, str]:
        """Keys of the recipe and their values, as written."""
        return dict(self.cell.settings)


@dataclass(frozen=True)
class Ablation:
    """A grid so far: finished cells in its order, cells that could not be trained and why, and the number left."""

    results: tuple[CellResult, ...]
    failed: tuple[tuple[Cell, str], ...]
    left: int


def summarize_runs(runs: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Mean and standard deviation of every metric that all runs have.

    Example:
        >>> summarize_runs([{"mAP": 40.0}, {"mAP": 42.0}])
        {'mAP': Spread(mean=41.0, deviation=1.4142135623730951)}
    """
    common = [name for name in runs[0] if all(name in run for run in runs)]
    values = {name: [run[name] for run in runs] for name in common}
    return {name: Spread(mean(each), stdev(each) if len(each) > 1 else None) for name, each in values.items()}


def format_spread(spread: Spread | None) -> str:
    """Mean ± standard deviation, in percent; a dash where there is no number.

    Example:
        >>> format_spread(Spread(67.736, 0.5)), format_spread(Spread(67.736, None)), format_spread(None)
        ('67.74 ± 0.50', '67.74', '-')
    """
    if spread is None:
        return "-"
    return f"{spread.mean:.2f}" if spread.deviation is None else f"{spread.mean:.2f} ± {spread.deviation:.2f}"


def shorten_keys(keys: list[str]) -> list[str]:
    """The last parts of dotted keys, if they are unique.

    Example:
        >>> shorten_keys(["model.layers", "optimizer.lr"]), shorten_keys(["losses.saliency", "data.saliency"])
        (['layers', 'lr'], ['losses.saliency', 'data.saliency'])
    """
    short = [key.rpartition(".")[2] for key in keys]
    return short if len(set(short)) == len(keys) else keys


def tabulate(ablation: Ablation, name: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row of texts for each finished cell.

    The varied settings (the recipe's name if there are none) come before the metrics: those of the paper's tables, or
    all if there are none of these.
    """
    results = ablation.results
    found = list(dict.fromkeys(metric for result in results for metric in result.spread))
    metrics = [metric for metric in HEADINGS if metric in found] or found
    keys = list(results[0].settings) if results else []
    headings = [*(shorten_keys(keys) or ["recipe"]), *(HEADINGS.get(metric, metric) for metric in metrics)]
    rows = [
        [*(result.settings.values() or [name]), *(format_spread(result.spread.get(metric)) for metric in metrics)]
        for result in results
    ]
    return headings, rows


def format_markdown(ablation: Ablation, name: str, seeds: int) -> str:
    """The table as Markdown, with the cells that failed below it."""
    headings, rows = tabulate(ablation, name)
    rules = ["---" if column < count_settings(ablation) else "---:" for column in range(len(headings))]
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (headings, rules, *rows)]
    parts = [caption(ablation, name, seeds), "\n".join(f"| {line} |" for line in lines)]
    parts += [f"Failed: {cell.title}: {reason}" for cell, reason in ablation.failed]
    return "\n\n".join(parts) + "\n"


def describe_ablation(ablation: Ablation, name: str, seeds: int) -> dict[str, object]:
    """The grid in plain Python values, with all metrics of all runs, as ``--json`` writes it."""
    cells = [
        {
            "settings": result.settings,
            "folder": result.cell.folder,
            "metrics": {metric: asdict(spread) for metric, spread in result.spread.items()},
            "runs": [dict(run) for run in result.runs],
        }
        for result in ablation.results
    ]
    failed = [{"settings": dict(cell.settings), "reason": reason} for cell, reason in ablation.failed]
    return {"recipe": name, "seeds": list(range(seeds)), "cells": cells, "failed": failed, "left": ablation.left}


def count_settings(ablation: Ablation) -> int:
    """Number of columns before the metrics."""
    return max(1, len(ablation.results[0].settings)) if ablation.results else 1


def caption(ablation: Ablation, name: str, seeds: int) -> str:
    """What the table shows and how much of it is done, in one line."""
    total = len(ablation.results) + len(ablation.failed) + ablation.left
    spread = "1 seed" if seeds == 1 else f"{seeds} seeds, mean ± standard deviation"
    return f"{name}: {len(ablation.results)} of {total} cells, {spread}, percent"


def read_table(path: Path) -> list[CellResult]:
    """Cells of a ``table.json`` of ``r2tuning ablate`` that is complete: no cell failed or is left."""
    text = read_file(path, DataError, "check the path")
    with guard(f"{path}: not a table", DataError, "give a table.json of r2tuning ablate"):
        table = parse_json(text)
        left, failed = int(table["left"]), len(table["failed"])
        cells = [
            CellResult(
                Cell(tuple(cell["settings"].items())),
                {str(name): Spread(**spread) for name, spread in cell["metrics"].items()},
            )
            for cell in table["cells"]
        ]
    if left or failed:
        raise DataError(f"{path}: {left} cells left, {failed} failed; run r2tuning ablate again")
    return cells
