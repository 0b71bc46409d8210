"""Answers as pictures: frames, moments and saliency over the time of the video, of one model or of several."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from matplotlib.figure import Figure

from r2tuning.output.charts.figure import (
    BLUE,
    COLORS,
    DASHES,
    LIGHT,
    MARKERS,
    ORANGE,
    SKY,
    find_fonts,
    save_picture,
    wrap_text,
)
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
    read_thumbnails,
)
from r2tuning.output.text.labels import show_on_one_line
from r2tuning.results import Grounding

MOST_ANSWERS = len(COLORS)
"""More curves in one picture could not be told apart."""

_LABEL_CELLS = 30
_LEGEND_COLUMNS, _LEGEND_LINE = 3, 0.18  # inches
_NO_THUMBNAILS = Thumbnails()


def save_plot(results: Sequence[Grounding], path: str | os.PathLike[str], *, force: bool) -> None:
    """Draws one answer below frames of its video."""
    (result,) = results
    plot_grounding(result, path, thumbnails=read_thumbnails(result), force=force)


def plot_grounding(
    result: Grounding,
    path: str | os.PathLike[str],
    *,
    truth: Sequence[tuple[float, float]] = (),
    thumbnails: Thumbnails = _NO_THUMBNAILS,
    top: int = 5,
    force: bool = False,
) -> None:
    """Draws the best moments and the saliency curve over time, below frames of the video if there are any.

    Args:
        result: The answer.
        path: The file to write, ``.png``, ``.svg`` (its text stays text) or ``.pdf``.
        truth: Starts and ends of the true moments, seconds on the player's clock, where they are known.
        thumbnails: Frames; those that would hide an earlier one are left out.
        top: Most moments to draw, at least 1.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: If the suffix names no picture format or the file cannot be written.
        ValueError: If ``top`` is less than 1.
    """
    _check_top(top)
    save_picture(lambda: _draw_answer(result, truth, thumbnails, top), path, force=force)


def plot_comparison(
    results: Sequence[Grounding],
    labels: Sequence[str],
    path: str | os.PathLike[str],
    *,
    truth: Sequence[tuple[float, float]] = (),
    thumbnails: Thumbnails = _NO_THUMBNAILS,
    top: int = 3,
    force: bool = False,
) -> None:
    """Draws the best moments of several answers below each other, and their saliency curves in one chart.

    Args:
        results: Answers to the same query on the same video, at most `MOST_ANSWERS`.
        labels: One for each answer, such as the model's name.
        path: As for `plot_grounding`.
        truth: As for `plot_grounding`.
        thumbnails: As for `plot_grounding`.
        top: Most moments to draw of each answer, at least 1.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: If the suffix names no picture format or the file cannot be written.
        ValueError: If there are no or too many results, not as many labels, or ``top`` is less than 1.
    """
    if not 1 <= len(results) <= MOST_ANSWERS or len(labels) != len(results):
        raise ValueError(
            f"{len(results)} answers with {len(labels)} labels; give 1 to {MOST_ANSWERS} with a label each"
        )
    _check_top(top)
    names = [wrap_text(show_on_one_line(label), _LABEL_CELLS, 1) for label in labels]
    save_picture(lambda: _draw_comparison(results, names, truth, thumbnails, top), path, force=force)


def _check_top(top: int) -> None:
    if top < 1:
        raise ValueError(f"top must be at least 1 moment, not {top}")


def _draw_answer(result: Grounding, truth: Sequence[tuple[float, float]], thumbnails: Thumbnails, top: int) -> Figure:
    moments = result.moments[:top]
    names = (["true"] if truth else []) + [f"{i}   {m.score:.2f}" for i, m in enumerate(moments, start=1)]
    rows = ROW * len(names) + GAP if names else 0.0
    body = FOOT + CURVE + rows + GAP + thumbnails.height
    figure = make_figure(result, f"{name_video(result)}, model {result.model}", body)

    curve = add_time_axes(figure, result, FOOT, CURVE)
    for moment in moments[:1]:
        curve.axvspan(moment.start, moment.end, color=ORANGE, alpha=0.12, linewidth=0)
    curve.fill_between(result.saliency.times, result.saliency.scores, color=BLUE, alpha=0.12, linewidth=0)
    draw_curve(curve, result.saliency, "saliency")
    finish_curves(curve, [result.saliency])
    if names:
        axes = add_time_axes(figure, result, FOOT + CURVE + GAP, rows - GAP)
        draw_truth(axes, 0, truth)
        for rank, moment in enumerate(moments):
            color, label = (ORANGE, "best moment") if rank == 0 else (SKY, "other moments" if rank == 1 else None)
            draw_moment(axes, rank + bool(truth), moment, color, label)
        finish_moments(axes, names)
    draw_thumbnails(figure, result, thumbnails, body)
    add_legend(figure, 4)
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
    for result, label, moments, color, dash, marker in zip(
        results, labels, chosen, COLORS, DASHES, MARKERS, strict=False
    ):
        draw_curve(curves, result.saliency, label, color=color, linestyle=dash, marker=marker)
        heading = label if moments else f"{label}: no moments"
        place = (0, row), (2, 0), axes.get_yaxis_transform(), "offset points"
        texts = {"fontsize": 9, "color": color, "weight": "bold", "parse_math": False, "fontfamily": fonts}
        axes.annotate(heading, *place, ha="left", va="center", **texts)
        for rank, moment in enumerate(moments, start=1):
            draw_moment(axes, row + rank, moment, color, alpha=1 if rank == 1 else 0.4)
        row += len(moments) + 1
    finish_curves(curves, [result.saliency for result in results])
    finish_moments(axes, names)
    draw_thumbnails(figure, longest, thumbnails, body)
    for text in add_legend(figure, _LEGEND_COLUMNS).get_texts():
        text.set(fontfamily=fonts, parse_math=False)
    return figure
