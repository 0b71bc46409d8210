"""Charts of experiments: training curves, bars of an ablation, reliability diagrams."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from r2tuning.output.charts import (
    BLUE,
    GREY,
    STYLES,
    WIDTH,
    make_canvas,
    save_picture,
    set_fonts,
    style_axes,
    wrap_text,
)
from r2tuning.types import Reliability

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
    save_picture(lambda: _draw_curves(runs), path, force=force)


def _draw_curves(runs: Sequence[RunCurves]) -> Figure:
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


_ROW, _GAP, _FOOT, _HEAD, _LABELS = 0.3, 0.35, 0.45, 0.75, 3.0  # inches


@dataclass(frozen=True)
class Bar:
    """Mean and standard deviation over several runs, in percent; a single run has no deviation."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class BarRow:
    """What was measured under one setting, by metric."""

    label: str
    bars: Mapping[str, Bar]


def plot_bars(title: str, rows: Sequence[BarRow], path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Draws a chart of horizontal bars for each metric, with whiskers of one standard deviation; first row on top."""
    save_picture(lambda: _draw_bars(title, rows), path, force=force)


def _draw_bars(title: str, rows: Sequence[BarRow]) -> Figure:
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.bars))
    columns = min(2, len(metrics))
    lines = math.ceil(len(metrics) / columns)
    chart = _ROW * len(rows)
    height = _HEAD + lines * (chart + _GAP + _FOOT)
    figure = make_canvas(height)
    labels = [wrap_text(row.label, 38) for row in rows]
    note = "Bars: mean; whiskers: one standard deviation over seeds. Axes do not start at 0."
    texts = [
        figure.text(0.15 / WIDTH, 1 - 0.12 / height, wrap_text(title, 80), fontsize=12, va="top"),
        figure.text(0.15 / WIDTH, 1 - 0.4 / height, note, fontsize=8, color=GREY, va="top"),
    ]
    width = (WIDTH - _LABELS - 0.2) / columns
    for index, metric in enumerate(metrics):
        line, column = divmod(index, columns)
        bottom = height - _HEAD - (line + 1) * (chart + _GAP) - line * _FOOT
        left = _LABELS + column * width
        axes = figure.add_axes((left / WIDTH, bottom / height, (width - 0.25) / WIDTH, chart / height))
        _draw_metric(axes, metric, [row.bars.get(metric) for row in rows])
        axes.set_yticks(range(len(rows)), labels if column == 0 else [""] * len(rows), fontsize=9)
        texts += axes.get_yticklabels()
    set_fonts(texts)
    return figure


def _draw_metric(axes: Any, metric: str, bars: Sequence[Bar | None]) -> None:
    known = [(place, bar.mean, bar.deviation or 0.0) for place, bar in enumerate(bars) if bar is not None]
    low = min(mean - deviation for _, mean, deviation in known)
    high = max(mean + deviation for _, mean, deviation in known)
    span = max(high - low, 1.0)
    begin = max(0.0, low - 0.5 * span)
    best = max(mean for _, mean, _ in known)
    for place, mean, deviation in known:
        axes.barh(place, mean - begin, 0.62, begin, color=BLUE, alpha=1.0 if mean == best else 0.55)
        axes.errorbar(mean, place, xerr=deviation, color="black", capsize=3, linewidth=1.2)
        text = f"{mean:.2f}" if not deviation else f"{mean:.2f} ± {deviation:.2f}"
        axes.annotate(text, (mean + deviation, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(begin, high + 0.75 * (high - begin))
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_title(f"{metric} (%)", fontsize=10, loc="left", parse_math=False)
    style_axes(axes, grid="x")
    axes.tick_params(axis="y", length=0)


@dataclass(frozen=True)
class ReliabilityDiagram:
    """One diagram, with one to six curves."""

    title: str  # what is predicted, such as "Moments"
    truth: str  # what "right" means, for the axis
    curves: Sequence[tuple[str, Reliability]]  # name and points of each


def plot_reliability(
    diagrams: Sequence[ReliabilityDiagram], path: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Draws diagrams side by side, each above the shares of its scores; points on the diagonal are calibrated."""
    save_picture(lambda: _draw_reliability(diagrams), path, force=force)


def _draw_reliability(diagrams: Sequence[ReliabilityDiagram]) -> Figure:
    figure = make_canvas(4.8, "constrained")
    # An empty column keeps a single diagram from being as wide as the page.
    grid = figure.subplots(2, max(len(diagrams), 2), squeeze=False, sharex=True, height_ratios=(3, 1))
    for unused in grid[:, len(diagrams) :].flat:
        unused.remove()
    for diagram, upper, lower in zip(diagrams, *grid, strict=False):
        _draw_points(upper, diagram)
        _draw_shares(lower, diagram)
    figure.align_ylabels()
    return figure


def _draw_points(axes: Axes, diagram: ReliabilityDiagram) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="perfectly calibrated")
    for (name, points), style in zip(diagram.curves, STYLES, strict=False):
        axes.plot(points.predicted, points.observed, markersize=5, label=name, **style)
    axes.set_title(diagram.title, fontsize=12, pad=10)
    axes.set_ylabel(diagram.truth, fontsize=9)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    style_axes(axes, size=9)


def _draw_shares(axes: Axes, diagram: ReliabilityDiagram) -> None:
    """Bars at the points, as many beside each other as there are curves."""
    width = 0.08 / len(diagram.curves)
    for index, ((_, points), style) in enumerate(zip(diagram.curves, STYLES, strict=False)):
        places = np.asarray(points.predicted) + width * (index - (len(diagram.curves) - 1) / 2)
        axes.bar(places, points.shares, width, color=style["color"])
    axes.set_xlabel("score", fontsize=9)
    axes.set_ylabel("share of scores", fontsize=9)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    style_axes(axes, size=9)
