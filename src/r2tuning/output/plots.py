"""A grounding as one picture: frames, moments and saliency over the time of the video."""

from __future__ import annotations

import io
import math
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter
from rich.console import Console
from rich.text import Text

from r2tuning.errors import OutputError
from r2tuning.output.clock import format_clock
from r2tuning.output.files import check_target, write_atomically
from r2tuning.output.fonts import find_fonts
from r2tuning.output.line import show_on_one_line
from r2tuning.types import Grounding, Moment

FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito's palette, told apart with every kind of colour vision.
_BEST, _OTHER, _CURVE, _GREY = "#D55E00", "#56B4E9", "#0072B2", "#555555"

# Inches; at 100 dots per inch the picture is 1000 px wide.
_WIDTH, _LEFT, _RIGHT = 10.0, 0.95, 0.35
_AXES = _WIDTH - _LEFT - _RIGHT
_FOOT, _SALIENCY, _ROW, _GAP, _MARGIN = 0.55, 1.9, 0.24, 0.25, 0.12
_TITLE_LINE, _NAME_LINE = 0.21, 0.25
_THUMBNAIL, _THUMBNAIL_LABEL, _THUMBNAIL_APART, _THUMBNAIL_GAP = 0.85, 0.22, 0.6, 0.04

_TITLE_CELLS, _TITLE_LINES, _NAME_CELLS = 80, 3, 80

_SHORTEST = 0.01  # seconds of an axis: one without length cannot be drawn
_MOST_TICKS = 12
_TICK_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)

# matplotlib cannot draw in two threads at once, and settings and warning filters are the whole process's.
_DRAWING = threading.Lock()


def check_plot_target(path: str | os.PathLike[str], *, force: bool) -> Path:
    """Checks, before a long computation, that a plot may be written.

    Args:
        path: The file to be written.
        force: Whether an existing file may be replaced.

    Returns:
        ``path``.

    Raises:
        OutputError: If the suffix is not one of `FORMATS` or the file may not be written.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in FORMATS:
        ending = f"ends in {suffix}" if suffix else "has no suffix"
        raise OutputError(f"{path} {ending}, which names no picture format: use {', '.join(FORMATS)}")
    check_target(path, force=force)
    return Path(path)


def plot_grounding(
    result: Grounding,
    path: str | os.PathLike[str],
    *,
    thumbnails: Sequence[np.ndarray] = (),
    thumbnail_times: Sequence[float] = (),
    top: int = 5,
    force: bool = False,
) -> None:
    """Draws the best moments and the saliency curve over time, below frames of the video where given.

    Args:
        result: The grounding.
        path: The file to write, ``.png``, ``.svg`` (its text stays text) or ``.pdf``.
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
    if len(thumbnails) != len(thumbnail_times):
        raise ValueError(f"{len(thumbnails)} thumbnails need as many times, not {len(thumbnail_times)}")
    suffix = check_plot_target(path, force=force).suffix.lower()
    with _DRAWING, matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # not the styles of the calling program
        # Text stays text, so that SVG viewers use fonts of their own; the same result gives the same file.
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "r2tuning"})
        # Characters that no installed font has are drawn as boxes; a warning for each would help nobody.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        # Before 3.11, matplotlib says so of scripts whose letters it places one by one.
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support", UserWarning)
        content = _render(_draw(result, thumbnails, thumbnail_times, top), suffix)
    write_atomically(path, content, force=force)


def _render(figure: Figure, suffix: str) -> bytes:
    undated = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix[1:], metadata=undated)
    return buffer.getvalue()


def _draw(result: Grounding, thumbnails: Sequence[np.ndarray], thumbnail_times: Sequence[float], top: int) -> Figure:
    moments = result.moments[:top]
    title = _wrap(show_on_one_line(result.query), _TITLE_CELLS, _TITLE_LINES)
    name = _wrap(show_on_one_line(f"{Path(result.video).name}, model {result.model}"), _NAME_CELLS, 1)
    sizes = _fit_thumbnails(thumbnails)
    strip = max(height for _, height in sizes) + _THUMBNAIL_LABEL if sizes else 0.0
    rows = _ROW * len(moments) + _GAP if moments else 0.0
    body = _FOOT + _SALIENCY + rows + _GAP + strip
    height = body + _NAME_LINE + _TITLE_LINE * (title.count("\n") + 1) + 2 * _MARGIN
    figure = Figure(figsize=(_WIDTH, height), dpi=100)
    canvas = FigureCanvasAgg(figure)

    _draw_saliency(_add_axes(figure, result, _FOOT, _SALIENCY), result, moments[:1])
    if moments:
        _draw_moments(_add_axes(figure, result, _FOOT + _SALIENCY + _GAP, rows - _GAP), moments)
    if strip:
        axes = _add_axes(figure, result, body - strip, strip)
        _draw_thumbnails(axes, sorted(zip(thumbnail_times, sizes, thumbnails, strict=True), key=lambda t: t[0]))
    figure.legend(loc="lower right", ncols=3, frameon=False, fontsize=9, bbox_to_anchor=(1 - _RIGHT / _WIDTH, 0))

    texts: dict[str, Any] = {"x": _LEFT / _WIDTH, "parse_math": False, "fontfamily": find_fonts(title + name)}
    figure.text(y=(body + _MARGIN) / height, s=name, va="bottom", fontsize=9, color=_GREY, **texts)
    heading = figure.text(y=(body + _MARGIN + _NAME_LINE) / height, s=title, va="bottom", fontsize=12, **texts)
    width = heading.get_window_extent(canvas.get_renderer()).width / figure.dpi
    heading.set_fontsize(12 * min(1.0, _AXES / width) if width else 12)
    return figure


def _add_axes(figure: Figure, result: Grounding, bottom: float, height: float) -> Any:
    """Adds axes over the time of the video, placed in inches."""
    total = figure.get_figheight()
    axes = figure.add_axes((_LEFT / _WIDTH, bottom / total, _AXES / _WIDTH, height / total))
    length = max(result.duration, _SHORTEST)
    day = 86400.0
    step = next((s for s in _TICK_STEPS if length / s <= _MOST_TICKS), day * math.ceil(length / day / _MOST_TICKS))
    first, last = math.ceil(max(result.start, 0.0) / step), math.floor((result.start + length) / step)
    axes.set_xlim(result.start, result.start + length)
    axes.xaxis.set_major_locator(FixedLocator([step * i for i in range(first, last + 1)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_clock(x, decimals=0 if step >= 1 else 1)))
    axes.tick_params(labelsize=9, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _draw_saliency(axes: Any, result: Grounding, best: Sequence[Moment]) -> None:
    times, scores = result.saliency.times, result.saliency.scores
    finite = scores[np.isfinite(scores)]
    low, high = min(0.0, finite.min(initial=0.0)), max(0.0, finite.max(initial=0.0))
    room = 0.06 * (high - low) or 1.0
    for moment in best:
        axes.axvspan(moment.start, moment.end, color=_BEST, alpha=0.12, linewidth=0)
    axes.fill_between(times, scores, color=_CURVE, alpha=0.12, linewidth=0)
    # Few frames are marked one by one: a line through a single one would not show.
    axes.plot(
        times,
        scores,
        color=_CURVE,
        linewidth=1.5,
        marker="o" if len(times) <= 40 else "",
        markersize=4,
        clip_on=False,  # markers at 0 and 1 stay whole
        label="saliency",
    )
    axes.axhline(0, color=_GREY, linewidth=0.8)
    axes.set_ylim(low - room if low < 0 else 0, high + room)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_ylabel("saliency", fontsize=9)
    axes.set_xlabel("time (m:ss)", fontsize=9, loc="left")


def _draw_moments(axes: Any, moments: Sequence[Moment]) -> None:
    begin, end = axes.get_xlim()
    for row, moment in enumerate(moments):
        colour, label = (_BEST, "best moment") if row == 0 else (_OTHER, "other moments" if row == 1 else None)
        # The edge keeps a moment visible that is shorter than a pixel.
        axes.barh(
            row,
            moment.end - moment.start,
            0.6,
            moment.start,
            color=colour,
            edgecolor=colour,
            linewidth=1.5,
            label=label,
        )
        span = f"{format_clock(max(moment.start, 0.0))} to {format_clock(max(moment.end, 0.0))}"
        before, after = (moment.start - begin) / (end - begin), (end - moment.end) / (end - begin)
        x, side, shift = (moment.end, "left", 5) if after >= before else (moment.start, "right", -5)
        if max(before, after) < 0.2:  # no room beside the bar
            x, side, shift = (moment.start + moment.end) / 2, "center", 0
        axes.annotate(span, (x, row), (shift, 0), textcoords="offset points", ha=side, va="center", fontsize=8)
    axes.annotate(
        "rank  score",
        (0, 1),
        (-5, 1),
        "axes fraction",
        "offset points",
        ha="right",
        va="bottom",
        fontsize=8,
        color=_GREY,
    )
    axes.set_ylim(len(moments) - 0.5, -0.5)
    axes.set_yticks(range(len(moments)), [f"{i}   {m.score:.2f}" for i, m in enumerate(moments, start=1)])
    axes.xaxis.set_major_formatter(NullFormatter())
    axes.tick_params(length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["left", "bottom"]].set_visible(False)


def _fit_thumbnails(thumbnails: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Width and height of each thumbnail in inches, so that all fit side by side if that leaves them readable."""
    slot = max(_AXES / max(len(thumbnails), 1), _THUMBNAIL_APART) - _THUMBNAIL_GAP
    scales = [min(_THUMBNAIL / image.shape[0], slot / image.shape[1]) for image in thumbnails]
    return [(image.shape[1] * s, image.shape[0] * s) for image, s in zip(thumbnails, scales, strict=True)]


def _draw_thumbnails(axes: Any, strip: Sequence[tuple[float, tuple[float, float], np.ndarray]]) -> None:
    """Draws frames, given in order as (time, (width, height), image), unless they would hide the one before."""
    limits = axes.get_xlim()
    inch = (limits[1] - limits[0]) / _AXES  # in seconds
    free = -math.inf
    for time, (width, height), image in strip:
        half = width / 2 * inch
        room = max(width, _THUMBNAIL_APART - _THUMBNAIL_GAP) / 2 * inch
        centre = min(max(time, limits[0] + half), limits[1] - half)
        if centre - room < free:
            continue
        free = centre + room
        base = _THUMBNAIL_LABEL
        axes.imshow(image, extent=(centre - half, centre + half, base, base + height), aspect="auto")
        axes.text(centre, base - 0.06, format_clock(max(time, 0.0), decimals=0), ha="center", va="top", fontsize=8)
    axes.set_xlim(limits)
    axes.set_ylim(0, _THUMBNAIL_LABEL + max(height for _, (_, height), _ in strip))
    axes.axis("off")


def _wrap(text: str, cells: int, most: int) -> str:
    """Breaks a text into lines as wide as a terminal would show them, and cuts it after ``most`` lines."""
    lines = [line.plain for line in Text(text).wrap(Console(width=cells), cells, overflow="fold")]
    if len(lines) > most:
        lines[most - 1 :] = [lines[most - 1].rstrip() + " …"]
    return "\n".join(line.rstrip() for line in lines)
