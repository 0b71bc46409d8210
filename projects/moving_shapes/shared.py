"""What the measuring scripts share: reading a split, and writing results as JSON, Markdown and charts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r2tuning.datasets import Annotation, find_benchmark, load_annotations
from r2tuning.features.store import FeatureStore
from r2tuning.files import write_atomically
from r2tuning.output.charts import save_picture
from r2tuning.synthetic.scenes import SPLITS

BENCHMARK = find_benchmark("moving-shapes")


def make_parser(description: str, split: str = "test") -> argparse.ArgumentParser:
    """A parser of the arguments of scripts that measure a checkpoint on a split."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path, help="as synthesize and extract make it: SPLIT.jsonl, videos/, features/")
    parser.add_argument("checkpoint", help="name or folder")
    parser.add_argument("--split", choices=SPLITS, default=split)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser


def read_split(folder: Path, split: str) -> list[Annotation]:
    """The queries of a split that have moments."""
    return load_annotations(BENCHMARK.find_file(folder, split), BENCHMARK)


def open_features(folder: Path) -> FeatureStore:
    """The features in a folder of annotations."""
    return FeatureStore.open(folder / "features")


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Writes results to a file, if there is one."""
    if path is not None:
        write_atomically(path, json.dumps(content, indent=2) + "\n", force=True)


def to_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first columns are text and whose other columns are numbers.

    Example:
        >>> print(to_markdown(["split", "mAP"], [["val", "50.00"]]))
        | split | mAP |
        |---|---:|
        | val | 50.00 |
    """
    rule = "|" + "|".join("---" if column < texts else "---:" for column in range(len(headings))) + "|"
    lines = ["| " + " | ".join(row) + " |" for row in (headings, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def draw_charts(path: Path, columns: int, rows: int, fill: Callable[[Sequence[Axes]], None]) -> None:
    """Writes a picture of ``columns × rows`` charts, which ``fill`` draws."""

    def draw() -> Figure:
        figure = Figure(figsize=(5 * columns, 3.3 * rows), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes: list[Axes] = list(np.ravel(figure.subplots(rows, columns)))
        fill(axes)
        for each in axes:
            each.spines[["top", "right"]].set_visible(False)
            if each.get_legend_handles_labels()[0]:
                each.legend(frameon=False, fontsize=9)
        return figure

    save_picture(draw, path, force=True)
