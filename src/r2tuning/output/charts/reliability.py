"""Reliability diagrams: how often predictions of each score are right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from r2tuning.output.charts.figure import GREY, STYLES, make_canvas, save_picture, style_axes
from r2tuning.types import Reliability


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
    save_picture(lambda: _draw(diagrams), path, force=force)


def _draw(diagrams: Sequence[ReliabilityDiagram]) -> Figure:
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
