"""Reliability diagrams: how often predictions of each score are right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from r2tuning.output.charts.figure import COLORS, DASHES, GREY, MARKERS, WIDTH, make_canvas, save_picture, style_axes
from r2tuning.types import Reliability

_HEIGHT, _WIDEST = 4.8, 4.6  # inches of the picture, and of one diagram


@dataclass(frozen=True)
class ReliabilityDiagram:
    """One diagram.

    Attributes:
        title: What is predicted, such as ``Moments``.
        truth: What "right" means, for the axis.
        curves: Name and points of each curve, at least one; at most as many as there are colors.
    """

    title: str
    truth: str
    curves: Sequence[tuple[str, Reliability]]


def plot_reliability(
    diagrams: Sequence[ReliabilityDiagram], path: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Draws diagrams side by side, each above the shares of its scores; points on the diagonal are calibrated.

    Args:
        diagrams: At least one.
        path: The file to write, ``.png``, ``.svg`` or ``.pdf``.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: If the suffix names no picture format or the file cannot be written.
        ValueError: If there is no diagram.
    """
    if not diagrams:
        raise ValueError("give at least one diagram")
    save_picture(lambda: _draw(diagrams), path, force=force)


def _draw(diagrams: Sequence[ReliabilityDiagram]) -> Figure:
    figure = make_canvas(_HEIGHT, "constrained")
    # Empty columns keep a single diagram from being as wide as the page.
    columns = max(len(diagrams), int(WIDTH / _WIDEST))
    grid = figure.subplots(2, columns, squeeze=False, sharex=True, height_ratios=(3, 1))
    for column in range(len(diagrams), columns):
        for row in grid:
            row[column].remove()
    for diagram, upper, lower in zip(diagrams, *grid, strict=False):
        _draw_points(upper, diagram)
        _draw_shares(lower, diagram)
    figure.align_ylabels()
    return figure


def _draw_points(axes: Axes, diagram: ReliabilityDiagram) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="perfectly calibrated")
    for (name, points), color, dashes, marker in zip(diagram.curves, COLORS, DASHES, MARKERS, strict=False):
        axes.plot(
            points.predicted, points.observed, color=color, linestyle=dashes, marker=marker, markersize=5, label=name
        )
    axes.set_title(diagram.title, fontsize=12, pad=10)
    axes.set_ylabel(diagram.truth, fontsize=9)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    style_axes(axes, size=9)


def _draw_shares(axes: Axes, diagram: ReliabilityDiagram) -> None:
    """Bars at the points, as many beside each other as there are curves."""
    width = 0.08 / len(diagram.curves)
    for index, ((_, points), color) in enumerate(zip(diagram.curves, COLORS, strict=False)):
        places = np.asarray(points.predicted) + width * (index - (len(diagram.curves) - 1) / 2)
        axes.bar(places, points.shares, width, color=color)
    axes.set_xlabel("score", fontsize=9)
    axes.set_ylabel("share of scores", fontsize=9)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    style_axes(axes, size=9)
