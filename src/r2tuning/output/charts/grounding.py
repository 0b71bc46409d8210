"""Answers as pictures: frames, moments and saliency over the time of the video, of one model or of several."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from r2tuning.output.charts import BLUE, LIGHT, ORANGE, SKY, STYLES, save_picture, set_fonts, timeline, wrap_text
from r2tuning.output.charts.timeline import CURVE, FOOT, GAP, ROW, Thumbnails
from r2tuning.output.text import label_notes
from r2tuning.results import Grounding

MOST_ANSWERS = len(STYLES)
"""More curves in one picture could not be told apart."""

_MOST_MOMENTS = 5
_LEGEND_COLUMNS, _LEGEND_LINE = 3, 0.18  # inches


def save_plot(results: Sequence[Grounding], path: str | os.PathLike[str], *, force: bool) -> None:
    """Draws one answer below frames of its video."""
    (result,) = results
    plot_grounding(result, path, thumbnails=timeline.read_thumbnails(result), force=force)


def plot_grounding(
    result: Grounding, path: str | os.PathLike[str], *, thumbnails: Thumbnails | None = None, force: bool = False
) -> None:
    """Draws the best five moments and the saliency curve over time, below frames of the video if there are any."""
    save_picture(lambda: _draw_answer(result, thumbnails or Thumbnails()), path, force=force)


def plot_comparison(
    results: Sequence[Grounding],
    labels: Sequence[str],
    path: str | os.PathLike[str],
    *,
    truth: Sequence[tuple[float, float]] = (),
    thumbnails: Thumbnails | None = None,
    top: int = 3,
    force: bool = False,
) -> None:
    """Draws the best moments of several answers below each other, and their saliency curves in one chart.

    Args:
        results: Answers to the same query on the same video, at most `MOST_ANSWERS`.
        labels: One for each answer, such as the model's name.
        path: The picture to write.
        truth: Starts and ends of the true moments, in seconds on the player's clock.
        thumbnails: Frames of the video.
        top: Most moments to draw of each answer, at least 1.
        force: Whether an existing file may be replaced.
    """
    names = [wrap_text(label, 30) for label in labels]
    save_picture(lambda: _draw_comparison(results, names, truth, thumbnails or Thumbnails(), top), path, force=force)


def _draw_answer(result: Grounding, thumbnails: Thumbnails) -> Figure:
    moments = result.moments[:_MOST_MOMENTS]
    names = [f"{i}   {m.score:.2f}" for i, m in enumerate(moments, start=1)]
    rows = ROW * len(names) + GAP if names else 0.0
    body = FOOT + CURVE + rows + GAP + thumbnails.height
    figure = timeline.make_figure(
        result, f"{Path(result.video).name}, model {result.model}", label_notes([result]), body
    )

    curve = timeline.add_time_axes(figure, result, FOOT, CURVE)
    for moment in moments[:1]:
        curve.axvspan(moment.start, moment.end, color=ORANGE, alpha=0.12, linewidth=0)
    curve.fill_between(result.saliency.times, result.saliency.scores, color=BLUE, alpha=0.12, linewidth=0)
    timeline.draw_curve(curve, result.saliency, "saliency", {"color": BLUE, "marker": "o"})
    timeline.finish_curves(curve, [result.saliency])
    if names:
        axes = timeline.add_time_axes(figure, result, FOOT + CURVE + GAP, rows - GAP)
        for rank, moment in enumerate(moments):
            color, label = (ORANGE, "best moment") if rank == 0 else (SKY, "other moments" if rank == 1 else None)
            timeline.draw_moment(axes, rank, moment, color, label=label, alpha=1.0)
        timeline.finish_moments(axes, names)
    timeline.draw_thumbnails(figure, result, thumbnails, body)
    timeline.add_legend(figure, 4)
    return figure


def _draw_comparison(
    results: Sequence[Grounding],
    labels: Sequence[str],
    truth: Sequence[tuple[float, float]],
    thumbnails: Thumbnails,
    top: int,
) -> Figure:
    # The answer that covers most of the video sets the axes.
    longest = max(results, key=lambda result: result.duration)
    names = ["true"] if truth else []
    for result in results:
        # The empty row is for the label.
        names += ["", *(f"{i}   {m.score:.2f}" for i, m in enumerate(result.moments[:top], start=1))]
    rows = ROW * len(names) + GAP
    foot = FOOT + _LEGEND_LINE * math.ceil((len(results) + bool(truth)) / _LEGEND_COLUMNS)
    body = foot + CURVE + rows + GAP + thumbnails.height
    notes = label_notes(results, labels)
    figure = timeline.make_figure(longest, Path(longest.video).name, notes, body)

    curves = timeline.add_time_axes(figure, longest, foot, CURVE)
    axes = timeline.add_time_axes(figure, longest, foot + CURVE + GAP, rows - GAP)
    for start, end in truth:
        curves.axvspan(start, end, color=LIGHT, alpha=0.6, linewidth=0)
    timeline.draw_truth(axes, truth)
    headings = []
    row = int(bool(truth))
    for result, label, style in zip(results, labels, STYLES, strict=False):
        timeline.draw_curve(curves, result.saliency, label, style)
        heading = label if result.moments else f"{label}: no moments"
        place = (0, row), (2, 0), axes.get_yaxis_transform(), "offset points"
        look = {"fontsize": 9, "color": style["color"], "weight": "bold"}
        headings.append(axes.annotate(heading, *place, ha="left", va="center", **look))
        for rank, moment in enumerate(result.moments[:top], start=1):
            timeline.draw_moment(axes, row + rank, moment, style["color"], alpha=1 if rank == 1 else 0.4)
        row += len(result.moments[:top]) + 1
    timeline.finish_curves(curves, [result.saliency for result in results])
    timeline.finish_moments(axes, names)
    timeline.draw_thumbnails(figure, longest, thumbnails, body)
    set_fonts([*headings, *timeline.add_legend(figure, _LEGEND_COLUMNS).get_texts()])
    return figure
