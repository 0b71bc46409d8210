"""Parts of pictures over the time of a video: axes, heading, frames, moments and curves, placed in inches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from r2tuning.errors import VideoError
from r2tuning.output.charts import GREY, LIGHT, WIDTH, find_fonts, make_canvas, style_axes, wrap_text
from r2tuning.output.text import format_clock
from r2tuning.results import Grounding
from r2tuning.types import Moment, Saliency, Sampling

LEFT, RIGHT = 0.95, 0.35
AXES = WIDTH - LEFT - RIGHT
FOOT, CURVE, ROW, GAP = 0.55, 1.9, 0.24, 0.25
_MARGIN, _TITLE_LINE, _NAME_LINE, _NOTE_LINE = 0.12, 0.21, 0.25, 0.16
_THUMBNAIL, _THUMBNAIL_LABEL, _THUMBNAIL_APART, _THUMBNAIL_GAP = 0.85, 0.22, 0.6, 0.04

_SHORTEST = 0.01  # seconds of an axis: one without length cannot be drawn
_MOST_TICKS = 12
_TICK_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)


@dataclass(frozen=True)
class Thumbnails:
    """Frames of a video, and when a player shows them, in seconds."""

    images: Sequence[np.ndarray] = ()  # uint8 RGB [h, w, 3]
    times: Sequence[float] = ()

    @property
    def sizes(self) -> list[tuple[float, float]]:
        """Width and height of each in inches, so that all fit side by side if that leaves them readable."""
        slot = max(AXES / max(len(self.images), 1), _THUMBNAIL_APART) - _THUMBNAIL_GAP
        scales = [min(_THUMBNAIL / image.shape[0], slot / image.shape[1]) for image in self.images]
        return [(image.shape[1] * s, image.shape[0] * s) for image, s in zip(self.images, scales, strict=True)]

    @property
    def height(self) -> float:
        """Inches that the strip of them takes; 0 if there are none."""
        return max(height for _, height in self.sizes) + _THUMBNAIL_LABEL if self.images else 0.0


def read_thumbnails(result: Grounding) -> Thumbnails:
    """Reads eight frames, evenly over the video; none if the file can no longer be read."""
    from r2tuning.video import sample_frames

    sampling: Sampling = "exact" if result.duration <= 300 else "keyframe"
    try:
        result.check_video()
        with sample_frames(result.video, 8 / max(result.duration, _SHORTEST), sampling=sampling) as frames:
            batches = list(frames)
    except VideoError:
        return Thumbnails()
    pixels = [image.transpose(1, 2, 0) for batch in batches for image in batch.pixels]
    return Thumbnails(pixels, [float(time) for batch in batches for time in batch.times])


def make_figure(result: Grounding, name: str, notes: Sequence[str], body: float) -> Figure:
    """A figure with a heading, the query, a name and notes, above ``body`` inches."""
    title, name = wrap_text(result.query, 80, 3), wrap_text(name, 80)
    said = "\n".join(wrap_text(note, 120, 3) for note in notes)
    bottom = body + _MARGIN
    middle = bottom + (_NOTE_LINE * (said.count("\n") + 1) if said else 0)
    height = middle + _NAME_LINE + _TITLE_LINE * (title.count("\n") + 1) + _MARGIN
    figure = make_canvas(height)
    texts: dict[str, Any] = {"x": LEFT / WIDTH, "va": "bottom", "parse_math": False}
    texts["fontfamily"] = find_fonts(title + name + said)
    figure.text(y=bottom / height, s=said, fontsize=8, color=GREY, **texts)
    figure.text(y=middle / height, s=name, fontsize=9, color=GREY, **texts)
    heading = figure.text(y=(middle + _NAME_LINE) / height, s=title, fontsize=12, **texts)
    width = heading.get_window_extent().width / figure.dpi
    heading.set_fontsize(12 * min(1.0, AXES / width) if width else 12)
    return figure


def add_time_axes(figure: Figure, result: Grounding, bottom: float, height: float) -> Any:
    """Adds axes over the time of the video, placed in inches."""
    total = figure.get_figheight()
    axes = figure.add_axes((LEFT / WIDTH, bottom / total, AXES / WIDTH, height / total))
    length = max(result.duration, _SHORTEST)
    days = 86400.0 * math.ceil(length / 86400.0 / _MOST_TICKS)
    step = next((step for step in _TICK_STEPS if length / step <= _MOST_TICKS), days)
    first, last = math.ceil(max(result.start, 0.0) / step), math.floor((result.start + length) / step)
    axes.set_xlim(result.start, result.start + length)
    axes.xaxis.set_major_locator(FixedLocator([step * i for i in range(first, last + 1)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_clock(x, decimals=0 if step >= 1 else 1)))
    axes.tick_params(labelsize=9, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_curve(axes: Any, saliency: Saliency, label: str, style: dict[str, Any]) -> None:
    """Draws a saliency curve."""
    # Few frames are marked one by one: a line through a single one would not show.
    style = style | ({} if len(saliency.times) <= 40 else {"marker": ""})
    # Markers at 0 and 1 are not clipped.
    axes.plot(saliency.times, saliency.scores, label=label, clip_on=False, linewidth=1.5, markersize=4, **style)


def finish_curves(axes: Any, curves: Sequence[Saliency]) -> None:
    """Sets the limits that fit all curves, labels and grid."""
    scores = np.concatenate([curve.scores for curve in curves])
    finite = scores[np.isfinite(scores)]
    low, high = min(0.0, finite.min(initial=0.0)), max(0.0, finite.max(initial=0.0))
    room = 0.06 * (high - low) or 1.0
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_ylim(low - room if low < 0 else 0, high + room)
    style_axes(axes, size=9)
    axes.set_ylabel("saliency", fontsize=9)
    axes.set_xlabel("time (m:ss)", fontsize=9, loc="left")


def draw_moment(axes: Any, row: float, moment: Moment, color: str, **look: Any) -> None:
    """Draws a moment as a bar with its times beside it."""
    begin, end = axes.get_xlim()
    # The edge keeps a moment visible that is shorter than a pixel.
    axes.barh(row, moment.end - moment.start, 0.6, moment.start, color=color, edgecolor=color, linewidth=1.5, **look)
    span = f"{format_clock(max(moment.start, 0.0))} to {format_clock(max(moment.end, 0.0))}"
    before, after = (moment.start - begin) / (end - begin), (end - moment.end) / (end - begin)
    x, side, shift = (moment.end, "left", 5) if after >= before else (moment.start, "right", -5)
    if max(before, after) < 0.2:  # no room beside the bar
        x, side, shift = (moment.start + moment.end) / 2, "center", 0
    axes.annotate(span, (x, row), (shift, 0), textcoords="offset points", ha=side, va="center", fontsize=8)


def draw_truth(axes: Any, truth: Sequence[tuple[float, float]]) -> None:
    """Draws true moments as open bars in the first row."""
    look = {"facecolor": LIGHT, "edgecolor": GREY, "hatch": "////", "linewidth": 1.2}
    for number, (start, end) in enumerate(truth):
        axes.barh(0, end - start, 0.6, start, label=None if number else "true moment", **look)


def finish_moments(axes: Any, rows: Sequence[str]) -> None:
    """Labels rows of moments, the first on top."""
    place = (0, 1), (-5, 1), "axes fraction", "offset points"
    axes.annotate("rank  score", *place, ha="right", va="bottom", fontsize=8, color=GREY)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.set_major_formatter(NullFormatter())
    axes.tick_params(length=0)
    axes.grid(axis="x", color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["left", "bottom"]].set_visible(False)


def draw_thumbnails(figure: Figure, result: Grounding, thumbnails: Thumbnails, top: float) -> None:
    """Draws frames below ``top`` inches, unless they would hide the one before."""
    if not thumbnails.images:
        return
    axes = add_time_axes(figure, result, top - thumbnails.height, thumbnails.height)
    limits = axes.get_xlim()
    inch = (limits[1] - limits[0]) / AXES  # in seconds
    free = -math.inf
    strip = sorted(zip(thumbnails.times, thumbnails.sizes, thumbnails.images, strict=True), key=lambda t: t[0])
    for time, (width, height), image in strip:
        half = width / 2 * inch
        room = max(width, _THUMBNAIL_APART - _THUMBNAIL_GAP) / 2 * inch
        center = min(max(time, limits[0] + half), limits[1] - half)
        if center - room < free:
            continue
        free = center + room
        base = _THUMBNAIL_LABEL
        axes.imshow(image, extent=(center - half, center + half, base, base + height), aspect="auto")
        axes.text(center, base - 0.06, format_clock(max(time, 0.0), decimals=0), ha="center", va="top", fontsize=8)
    axes.set_xlim(limits)
    axes.set_ylim(0, thumbnails.height)
    axes.axis("off")


def add_legend(figure: Figure, columns: int) -> Any:
    """Adds the legend to the right of the time axis's name, and returns it."""
    handles = [handle for axes in figure.axes for handle in axes.get_legend_handles_labels()[0]]
    place = {"loc": "lower right", "bbox_to_anchor": (1 - RIGHT / WIDTH, 0)}
    return figure.legend(handles=handles, ncols=columns, frameon=False, fontsize=9, **place)
