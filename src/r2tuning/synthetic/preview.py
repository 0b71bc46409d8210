"""The contact sheet: what the first videos look like, and what is asked of them."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r2tuning.datasets.annotations import Annotation
from r2tuning.synthetic.render import render
from r2tuning.synthetic.script import FPS, Script

MOST_VIDEOS = 8

_FRAMES, _DOTS = 8, 100
_INSIDE, _OUTSIDE = "#D55E00", "#DDDDDD"
_WIDTH, _ROW, _TEXT, _MARGIN = 12.0, 1.34, 0.46, 0.15  # inches


def draw_preview(videos: Sequence[tuple[Script, Annotation]]) -> bytes:
    """A picture with a row of frames for each video and query; frames within its moments are framed.

    Args:
        videos: The first `MOST_VIDEOS` are shown; without any, the sheet is blank.

    Returns:
        A PNG file.
    """
    videos = videos[:MOST_VIDEOS]
    block = _ROW + _TEXT
    height = len(videos) * block + 2 * _MARGIN
    figure = Figure(figsize=(_WIDTH, height), dpi=_DOTS, facecolor="white")
    FigureCanvasAgg(figure)
    for row, (script, annotation) in enumerate(videos):
        top = height - _MARGIN - row * block
        moments = ", ".join(f"{start:g} to {end:g} s" for start, end in annotation.moments)
        title = textwrap.shorten(annotation.query, 130, placeholder=" …")
        figure.text(_MARGIN / _WIDTH, (top - 0.2) / height, title, fontsize=10, parse_math=False)
        figure.text(1 - _MARGIN / _WIDTH, (top - 0.2) / height, moments, fontsize=9, color=_INSIDE, ha="right")
        width = (_WIDTH - 2 * _MARGIN) / _FRAMES
        for column, time in enumerate(choose_times(script, annotation)):
            left, bottom = (_MARGIN + column * width) / _WIDTH, (top - block + 0.18) / height
            axes = figure.add_axes((left, bottom, (width - 0.08) / _WIDTH, (_ROW - 0.06) / height))
            axes.imshow(render(script, time), aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"{time:.0f} s", fontsize=7, labelpad=1, color="#555555")
            inside = any(start <= time < end for start, end in annotation.moments)
            for spine in axes.spines.values():
                spine.set(color=_INSIDE if inside else _OUTSIDE, linewidth=3 if inside else 1)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def choose_times(script: Script, annotation: Annotation) -> list[float]:
    """Times of eight frames: half within the moments, where they are, and half without."""
    times = np.arange(script.frames) / FPS
    inside = np.zeros(len(times), dtype=bool)
    for start, end in annotation.moments:
        inside |= (times >= start) & (times < end)
    chosen: list[float] = []
    for part in (times[inside], times[~inside]):
        places = (np.arange(_FRAMES // 2) + 0.5) / (_FRAMES // 2) * len(part)
        chosen += [float(part[int(place)]) for place in places]
    return sorted(chosen)
