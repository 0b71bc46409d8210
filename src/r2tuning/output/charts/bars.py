"""Mean and deviation of scores as bars: the cells of an ablation, a chart for each metric."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from r2tuning.output.charts.figure import BLUE, GREY, WIDTH, make_canvas, save_picture, set_fonts, style_axes, wrap_text

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
    save_picture(lambda: _draw(title, rows), path, force=force)


def _draw(title: str, rows: Sequence[BarRow]) -> Figure:
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
        _draw_chart(axes, metric, [row.bars.get(metric) for row in rows])
        axes.set_yticks(range(len(rows)), labels if column == 0 else [""] * len(rows), fontsize=9)
        texts += axes.get_yticklabels()
    set_fonts(texts)
    return figure


def _draw_chart(axes: Any, metric: str, bars: Sequence[Bar | None]) -> None:
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
