"""Curves of training runs over their steps: every loss and every score in a chart of its own, the runs in each."""

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

from r2tuning.output.charts.figure import (
    COLORS,
    DASHES,
    GREY,
    MARKERS,
    find_fonts,
    make_canvas,
    save_picture,
    style_axes,
    wrap_text,
)
from r2tuning.output.text.labels import show_on_one_line

MOST_RUNS = len(COLORS)
"""More could not be told apart."""

SMOOTHED = 20
"""A loss is smoothed over this part of its rows."""

_COLUMNS = 3
_HEIGHT, _LINE, _MARGIN = 2.2, 0.24, 0.15  # inches
_LABEL_CELLS, _LABELS_PER_LINE = 45, 2


@dataclass(frozen=True)
class Curve:
    """A number over the steps of a run.

    Attributes:
        steps: int64 ``[n]``.
        values: float64 ``[n]``.
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class RunCurves:
    """The log of a run.

    Attributes:
        label: Its name in the legend.
        losses: By name.
        scores: Of validations, by name, in percent.
    """

    label: str
    losses: Mapping[str, Curve]
    scores: Mapping[str, Curve]


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Means over a window about each value, which is cut off at the ends.

    Args:
        values: ``[n]``.
        width: Values in a whole window; an even one is taken as the next odd.

    Returns:
        ``[n]``.

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
    """Draws losses, faint as logged and strong as smoothed, and scores with a mark at each validation.

    Args:
        runs: At least one, at most `MOST_RUNS`, with at least one curve together.
        path: The file to write, ``.png``, ``.svg`` or ``.pdf``.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: If the suffix is not one of `FORMATS` or the file cannot be written.
        ValueError: If there are too many runs, or no curves.
    """
    names = {name: True for run in runs for name in run.losses} | {name: False for run in runs for name in run.scores}
    if len(runs) > MOST_RUNS or not names:
        raise ValueError(f"{len(runs)} runs with {len(names)} curves; give at most {MOST_RUNS} with at least one curve")
    save_picture(lambda: _draw(runs, names), path, force=force)


def _draw(runs: Sequence[RunCurves], names: Mapping[str, bool]) -> Figure:
    rows = math.ceil(len(names) / _COLUMNS)
    lines = math.ceil(len(runs) / _LABELS_PER_LINE)
    head = 2 * _MARGIN + _LINE * lines
    height = head + _HEIGHT * rows
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - head / height))
    figure = make_canvas(height, layout)
    charts = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, (name, is_loss) in zip(charts, names.items(), strict=False):
        for row, (run, color, dash, marker) in enumerate(zip(runs, COLORS, DASHES, MARKERS, strict=False)):
            curve = (run.losses if is_loss else run.scores).get(name)
            if curve is not None and len(curve.steps):
                (_draw_loss if is_loss else _draw_score)(axes, curve, color=color, linestyle=dash, marker=marker)
                if not is_loss:
                    # In the lower right corner, where rising curves leave room.
                    best, place = f"best {np.nanmax(curve.values):.2f}", (0.97, 0.04 + 0.1 * (len(runs) - 1 - row))
                    axes.text(*place, best, transform=axes.transAxes, ha="right", fontsize=8, color=color)
        axes.set_title(name, fontsize=10, parse_math=False)
        axes.set_ylabel("loss" if is_loss else "%", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        style_axes(axes)
    for axes in charts[len(names) :]:
        axes.axis("off")
    for axes in charts[max(0, len(names) - _COLUMNS) : len(names)]:
        axes.set_xlabel("step", fontsize=9)
    _add_legend(figure, [run.label for run in runs])
    return figure


def _draw_loss(axes: Any, curve: Curve, *, marker: str, **style: Any) -> None:
    alone = {"marker": marker, "markersize": 4} if len(curve.steps) == 1 else {}
    axes.plot(curve.steps, curve.values, color=style["color"], alpha=0.25, linewidth=0.8)
    axes.plot(curve.steps, smooth(curve.values, len(curve.values) // SMOOTHED), linewidth=1.5, **style, **alone)


def _draw_score(axes: Any, curve: Curve, *, marker: str, **style: Any) -> None:
    few = {"marker": marker, "markersize": 4} if len(curve.steps) <= 40 else {}
    axes.plot(curve.steps, curve.values, linewidth=1.5, **style, **few)


def _add_legend(figure: Figure, labels: Sequence[str]) -> None:
    shown = [wrap_text(show_on_one_line(label), _LABEL_CELLS, 1) for label in labels]
    handles = [
        Line2D([], [], color=color, linestyle=dash, marker=marker, markersize=4, label=label)
        for label, color, dash, marker in zip(shown, COLORS, DASHES, MARKERS, strict=False)
    ]
    legend = figure.legend(
        handles=handles, loc="upper left", ncols=_LABELS_PER_LINE, frameon=False, fontsize=9, borderaxespad=0.3
    )
    fonts = find_fonts("".join(shown))
    for text in legend.get_texts():
        text.set(fontfamily=fonts, parse_math=False)
    place, note = (0.985, 1 - 0.08 / figure.get_figheight()), "losses: faint as logged, strong smoothed"
    figure.text(*place, note, fontsize=8, color=GREY, ha="right", va="top")
