"""A grounding as one picture: frames, moments and saliency over the time of the video."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from r2tuning.output.charts.figure import BLUE, ORANGE, SKY, save_picture
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
from r2tuning.results import Grounding


def plot_grounding(
    result: Grounding,
    path: str | os.PathLike[str],
    *,
    truth: Sequence[tuple[float, float]] = (),
    thumbnails: Sequence[np.ndarray] = (),
    thumbnail_times: Sequence[float] = (),
    top: int = 5,
    force: bool = False,
) -> None:
    """Draws the best moments and the saliency curve over time, below frames of the video where given.

    Args:
        result: The grounding.
        path: The file to write, ``.png``, ``.svg`` (its text stays text) or ``.pdf``.
        truth: Starts and ends of the true moments, seconds on the player's clock, where they are known.
        thumbnails: Frames, uint8 RGB ``[h, w, 3]``; those that would hide an earlier one are left out.
        thumbnail_times: When they are shown, seconds on the player's clock.
        top: Most moments to draw, at least 1.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: If the suffix is not one of `FORMATS` or the file cannot be written.
        ValueError: If thumbnails and their times differ in number, or ``top`` is less than 1.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1 moment, not {top}")
    frames = Thumbnails(thumbnails, thumbnail_times)
    save_picture(lambda: _draw(result, truth, frames, top), path, force=force)


def _draw(result: Grounding, truth: Sequence[tuple[float, float]], thumbnails: Thumbnails, top: int) -> Figure:
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
            colour, label = (ORANGE, "best moment") if rank == 0 else (SKY, "other moments" if rank == 1 else None)
            draw_moment(axes, rank + bool(truth), moment, colour, label)
        finish_moments(axes, names)
    if thumbnails.images:
        draw_thumbnails(figure, result, thumbnails, body)
    add_legend(figure, 4)
    return figure
