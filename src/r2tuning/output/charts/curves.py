"""Curves of training runs over their steps: one chart per loss and score, with all runs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from r2tuning.output.charts.figure import GREY, STYLES, make_canvas, save_picture, set_fonts, style_axes, wrap_text

MOST_RUNS = len(STYLES)
"""More could not be told apart."""

_COLUMNS, _LABELS_PER_LINE = 3, 2
_HEIGHT, _LINE, _MARGIN = 2.2, 0.24, 0.15  # inches


@dataclass(frozen=True)
class Curve:
    """A number over the steps of a run."""

    steps: np.ndarray  # int64 [n]
    values: np.ndarray  # float64 [n]


@dataclass(frozen=True)
class RunCurves:
    """The log of a run: its losses, and its validation scores in percent, by name."""

    label: str
    losses: Mapping[str, Curve]
    scores: Mapping[str, Curve]


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Means of ``[n]`` values over a window around each, cut off at the ends; an even width counts as the next odd.

    Example:
        >>> smooth(np.array([0.0, 3.0, 6.0, 3.0]), 3).tolist()
        [1.5, 3.0, 4.0, 4.5]
    """
    half = width // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    first, stop = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
    means: np.ndarray = (sums[stop] - sums[first]) / (stop - first)
    return means


def plot_curves(runs: Sequence[RunCurves], path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Draws the losses and scores of at most `MOST_RUNS` runs, which must have at least one curve."""
    save_picture(lambda: _draw(runs), path, force=force)


def _draw(runs: Sequence[RunCurves]) -> Figure:
    names = {name: True for run in runs for name in run.losses} | {name: False for run in runs for name in run.scores}
    rows = math.ceil(len(names) / _COLUMNS)
    lines = math.ceil(len(runs) / _LABELS_PER_LINE)
    head = 2 * _MARGIN + _LINE * lines
    height = head + _HEIGHT * rows
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - head / height))
    figure = make_canvas(height, layout)
    charts = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, (name, is_loss) in zip(charts, names.items(), strict=False):
        for row, (run, style) in enumerate(zip(runs, STYLES, strict=False)):
            curve = (run.losses if is_loss else run.scores).get(name)
            if curve is None or not len(curve.steps):
                continue
            if is_loss:
                faint, most_marked = {"color": style["color"], "alpha": 0.25, "linewidth": 0.8}, 1
                axes.plot(curve.steps, curve.values, **faint)
                values = smooth(curve.values, len(curve.values) // 20)
            else:
                values, most_marked = curve.values, 40
                # In the lower right corner, where rising curves leave room.
                best, place = f"best {np.nanmax(values):.2f}", (0.97, 0.04 + 0.1 * (len(runs) - 1 - row))
                axes.text(*place, best, transform=axes.transAxes, ha="right", fontsize=8, color=style["color"])
            marked = {"markersize": 4} if len(values) <= most_marked else {"marker": ""}
            axes.plot(curve.steps, values, linewidth=1.5, **style | marked)
        axes.set_title(name, fontsize=10, parse_math=False)
        axes.set_ylabel("loss" if is_loss else "%", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        style_axes(axes)
    for axes in charts[len(names) :]:
        axes.axis("off")
    for axes in charts[max(0, len(names) - _COLUMNS) : len(names)]:
        axes.set_xlabel("step", fontsize=9)
    handles = [
        Line2D([], [], markersize=4, label=wrap_text(run.label, 45), **style)
        for run, style in zip(runs, STYLES, strict=False)
    ]
    look: dict[str, Any] = {"ncols": _LABELS_PER_LINE, "borderaxespad": 0.3, "frameon": False, "fontsize": 9}
    set_fonts(figure.legend(handles=handles, loc="upper left", **look).get_texts())
    note = "losses: faint as logged, strong smoothed"
    figure.text(0.985, 1 - 0.08 / height, note, fontsize=8, color=GREY, ha="right", va="top")
    return figure
