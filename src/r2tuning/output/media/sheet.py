"""Draws a contact sheet: a row of frames for each moment."""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r2tuning.errors import VideoError, show_on_one_line
from r2tuning.output.charts import BLACK, GREY, WIDTH, check_plot_target, find_fonts, save_picture, wrap_text
from r2tuning.output.media.footage import Footage
from r2tuning.output.text import format_clock
from r2tuning.results import Grounding
from r2tuning.types import Moment

_FRAMES = 4  # of each moment
_MOST_ROWS = 100  # matplotlib draws no picture of over 65,536 pixels
_STORED = 480  # pixels; larger frames would only make a larger file

# Inches.
_MARGIN, _LABEL, _GAP, _TALLEST = 0.2, 1.75, 0.08, 1.3
_SLOT = (WIDTH - 2 * _MARGIN - _LABEL) / _FRAMES
_TITLE_LINE, _TIME_LINE, _ROW_GAP = 0.26, 0.2, 0.12

_TITLE_SIZE = 100, 3  # cells and lines


@dataclass(frozen=True)
class _Row:
    """A line of text above, or a moment with its frames: uint8 RGB ``[h, w, 3]`` and when they are shown."""

    title: str = ""
    label: str = ""
    frames: tuple[tuple[float, np.ndarray], ...] = ()
    scale: float = 0.0  # inches of a pixel

    @property
    def height(self) -> float:
        if self.title:
            return _TITLE_LINE * (self.title.count("\n") + 1) + _ROW_GAP
        tallest = max((image.shape[0] for _, image in self.frames), default=0)
        return max(tallest * self.scale, 0.4) + _TIME_LINE + _ROW_GAP


def write_sheet(
    results: Sequence[Grounding], target: str | os.PathLike[str], *, footage: Footage | None = None, force: bool = False
) -> None:
    """Draws a contact sheet: below each query its moments, best first, each with frames over its length and times.

    ``results``, at least one, are those of one video, whose ``footage`` is opened if it is not given. The target is a
    ``.png``, ``.svg`` or ``.pdf``.
    """
    check_plot_target(target, force=force)
    if footage is None:
        results[0].check_video()
        footage = Footage(results[0].video)
    rows, left = [], _MOST_ROWS
    for result in results:
        moments = result.moments[:left]
        left -= len(moments)
        note = "" if result.moments else " (no moment found)"
        rows.append(_Row(title=wrap_text(f"{show_on_one_line(result.query)}{note}", *_TITLE_SIZE)))
        rows += [_make_row(footage, rank, moment) for rank, moment in enumerate(moments, start=1)]
        if hidden := len(result.moments) - len(moments):
            rows.append(_Row(title=f"… and {hidden} more moments"))
    name = wrap_text(show_on_one_line(Path(results[0].video).name), *_TITLE_SIZE)
    save_picture(lambda: _draw(name, rows), target, force=force)


def _make_row(footage: Footage, rank: int, moment: Moment) -> _Row:
    start, end = (format_clock(max(time, 0.0)) for time in (moment.start, moment.end))
    step = (moment.end - moment.start) / _FRAMES
    ticks = np.array([footage.find_shown(moment.start + (part + 0.5) * step) for part in range(_FRAMES)], np.int64)
    try:
        with closing(footage.read_frames(np.unique(ticks))) as found:
            images = {tick: footage.turn_upright(frame, _STORED) for tick, frame in found}
    except VideoError:
        images = {}
    # In a moment with fewer frames, each is shown once.
    frames = [(footage.find_time(tick), images[tick]) for tick in np.unique(ticks).tolist() if tick in images]
    width, height = (max((image.shape[axis] for _, image in frames), default=1) for axis in (1, 0))
    scale = min((_SLOT - _GAP) / width, _TALLEST / height)
    return _Row("", f"{rank}   {start} to {end}\n     score {moment.score:.2f}", tuple(frames), scale)


def _draw(name: str, rows: Sequence[_Row]) -> Figure:
    total = 2 * _MARGIN + _TITLE_LINE * (name.count("\n") + 1) + sum(row.height for row in rows)
    figure = Figure(figsize=(WIDTH, total), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))  # in inches, from the top
    axes.axis("off")
    fonts = find_fonts(name + "".join(row.title for row in rows))
    texts: dict[str, Any] = {"parse_math": False, "va": "top", "fontfamily": fonts}
    axes.text(_MARGIN, _MARGIN, name, fontsize=9, color=GREY, **texts)
    top = _MARGIN + _TITLE_LINE * (name.count("\n") + 1)
    for row in rows:
        if row.title:
            axes.text(_MARGIN, top, row.title, fontsize=12, color=BLACK, **texts)
        else:
            axes.text(_MARGIN, top, row.label, fontsize=9, color=BLACK, va="top", linespacing=1.5)
            for place, (time, image) in enumerate(row.frames):
                left = _MARGIN + _LABEL + place * _SLOT
                height, width = image.shape[0] * row.scale, image.shape[1] * row.scale
                axes.imshow(image, extent=(left, left + width, top + height, top), aspect="auto")
                axes.text(left, top + height + 0.04, format_clock(max(time, 0.0)), fontsize=8, color=GREY, va="top")
        top += row.height
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(total, 0)
    return figure
