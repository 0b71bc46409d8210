"""Answers of several models to the same query on the same video as one picture, beside the truth."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from r2tuning.output.charts.figure import COLOURS, DASHES, LIGHT, MARKERS, find_fonts, save_picture, wrap_text
from r2tuning.output.charts.timeline import (
    CURVE,
    FOOT,
    GAP,
    ROW,
    Thumbnails,
    add_legend,
    add_time_axes,
    draw_curve,
    draw_moment,
    draw_thumbnails,
    draw_truth,
    finish_curves,
    finish_moments,
    make_figure,
    name_video,
)
from r2tuning.output.text.labels import show_on_one_line
from r2tuning.results import Grounding

MOST_ANSWERS = len(COLOURS)
"""More curves in one picture could not be told apart."""

_LABEL_CELLS = 30
_LEGEND_COLUMNS, _LEGEND_LINE = 3, 0.18  # inches


def plot_comparison(
    results: Sequence[Grounding],
    labels: Sequence[str],
    path: str | os.PathLike[str],
    *,
    truth: Sequence[tuple[float, float]] = (),
    thumbnails: Sequence[np.ndarray] = (),
    thumbnail_times: Sequence[float] = (),
    top: int = 3,
    force: bool = False,
) -> None:
    """Draws the best moments of every answer below each other, and all saliency curves in one chart.

    Args:
        results: Answers to the same query on the same video, at most `MOST_ANSWERS`.
        labels: What tells them apart, such as the names of the models.
        path: The file to write, ``.png``, ``.svg`` (its text stays text) or ``.pdf``.
        truth: Starts and ends of the true moments, seconds on the player's clock, where they are known.
        thumbnails: Frames, uint8 RGB ``[h, w, 3]``; those that would hide an earlier one are left out.
        thumbnail_times: When they are shown, seconds on the player's clock.
        top: Most moments to draw of each answer, at least 1.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: If the suffix is not one of `FORMATS` or the file cannot be written.
        ValueError: If there are no or too many results, not as many labels, or ``top`` is less than 1.
    """
    if not 1 <= len(results) <= MOST_ANSWERS or len(labels) != len(results):
        raise ValueError(
            f"{len(results)} answers with {len(labels)} labels; give 1 to {MOST_ANSWERS} with a label each"
        )
    if top < 1:
        raise ValueError(f"top must be at least 1 moment, not {top}")
    frames = Thumbnails(thumbnails, thumbnail_times)
    names = [wrap_text(show_on_one_line(label), _LABEL_CELLS, 1) for label in labels]
    save_picture(lambda: _draw(results, names, truth, frames, top), path, force=force)


def _draw(
    results: Sequence[Grounding],
    labels: Sequence[str],
    truth: Sequence[tuple[float, float]],
    thumbnails: Thumbnails,
    top: int,
) -> Figure:
    # The answer that covers most of the video sets the axes.
    longest = max(results, key=lambda result: result.duration)
    chosen = [result.moments[:top] for result in results]
    names = ["true"] if truth else []
    for moments in chosen:
        # A row for the label of each answer.
        names += ["", *(f"{i}   {m.score:.2f}" for i, m in enumerate(moments, start=1))]
    rows = ROW * len(names) + GAP
    foot = FOOT + _LEGEND_LINE * math.ceil((len(results) + bool(truth)) / _LEGEND_COLUMNS)
    body = foot + CURVE + rows + GAP + thumbnails.height
    figure = make_figure(longest, name_video(longest), body)

    curves = add_time_axes(figure, longest, foot, CURVE)
    axes = add_time_axes(figure, longest, foot + CURVE + GAP, rows - GAP)
    for start, end in truth:
        curves.axvspan(start, end, color=LIGHT, alpha=0.6, linewidth=0)
    draw_truth(axes, 0, truth)
    fonts = find_fonts("".join(labels))
    row = int(bool(truth))
    for result, label, moments, colour, dash, marker in zip(
        results, labels, chosen, COLOURS, DASHES, MARKERS, strict=False
    ):
        draw_curve(curves, result.saliency, label, color=colour, linestyle=dash, marker=marker)
        heading = label if moments else f"{label}: no moments"
        place = (0, row), (2, 0), axes.get_yaxis_transform(), "offset points"
        texts = {"fontsize": 9, "color": colour, "weight": "bold", "parse_math": False, "fontfamily": fonts}
        axes.annotate(heading, *place, ha="left", va="center", **texts)
        for rank, moment in enumerate(moments, start=1):
            draw_moment(axes, row + rank, moment, colour, alpha=1 if rank == 1 else 0.4)
        row += len(moments) + 1
    finish_curves(curves, [result.saliency for result in results])
    finish_moments(axes, names)
    if thumbnails.images:
        draw_thumbnails(figure, longest, thumbnails, body)
    for text in add_legend(figure, _LEGEND_COLUMNS).get_texts():
        text.set(fontfamily=fonts, parse_math=False)
    return figure
