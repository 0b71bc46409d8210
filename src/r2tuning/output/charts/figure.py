"""Figures as files: formats, fonts, and how they are saved."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from rich.console import Console
from rich.text import Text

from r2tuning.errors import OutputError
from r2tuning.files import check_target, write_atomically


def find_fonts(text: str) -> list[str]:
    """Finds font families that together show as many characters of a text as the system can.

    Args:
        text: What is to be shown.

    Returns:
        Family names, matplotlib's own first; that one alone if it has every character.
    """
    families = ["DejaVu Sans"]
    missing = {ord(c) for c in text if not c.isspace()} - _characters(findfont(FontProperties(family=families)))
    for font in fontManager.ttflist:
        if not missing:
            break
        # Fonts of last resort have a box with the script's name for every character.
        if font.style != "normal" or "LastResort" in font.fname:
            continue
        if found := missing & _characters(font.fname):
            families.append(font.name)
            missing -= found
    return families


def _characters(path: str) -> set[int]:
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # removed or damaged since matplotlib listed it
        return set()
    # Bitmap fonts, such as colored emoji, cannot be scaled.
    return set(font.get_charmap()) if font.scalable else set()


FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito's palette, told apart with every kind of color vision; where several meet, lines also differ in dashes
# and markers.
ORANGE, BLUE, GREEN, PURPLE, SKY, BLACK = "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#222222"
COLORS = (ORANGE, BLUE, GREEN, PURPLE, SKY, BLACK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY, LIGHT = "#555555", "#DDDDDD"

WIDTH = 10.0
"""Inches of every picture; at 100 dots per inch it is 1000 px wide."""


def make_canvas(height: float, layout: Any = None) -> Figure:
    """An empty figure, `WIDTH` wide and as many inches high as given."""
    figure = Figure(figsize=(WIDTH, height), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Any, *, size: int = 8, grid: Literal["both", "x"] = "both") -> None:
    """Short ticks, a light grid behind the data, and no frame above and on the right."""
    axes.tick_params(labelsize=size, length=3)
    axes.grid(axis=grid, color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


# matplotlib cannot draw in two threads at once, and settings and warning filters are the whole process's.
_DRAWING = threading.Lock()


def check_plot_target(path: str | os.PathLike[str], *, force: bool) -> Path:
    """Checks, before a long computation, that a picture may be written, and returns its path.

    Raises:
        OutputError: If the suffix is not one of `FORMATS` or the file may not be written.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in FORMATS:
        ending = f"ends in {suffix}" if suffix else "has no suffix"
        raise OutputError(f"{path} {ending}, which names no picture format: use {', '.join(FORMATS)}")
    check_target(path, force=force)
    return Path(path)


def save_picture(draw: Callable[[], Figure], path: str | os.PathLike[str], *, force: bool) -> None:
    """Draws a figure and writes it; the same figure always gives the same file.

    Args:
        draw: Makes the figure, with a canvas; called with matplotlib's own settings, whatever the program has set.
        path: The file to write, ``.png``, ``.svg`` (its text stays text) or ``.pdf``.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: If the suffix is not one of `FORMATS` or the file cannot be written.
    """
    suffix = check_plot_target(path, force=force).suffix.lower()
    with _DRAWING, matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # not the styles of the calling program
        # Text stays text, so that SVG viewers use fonts of their own; the same result gives the same file.
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "r2tuning"})
        # Characters that no installed font has are drawn as boxes; a warning for each helps nobody.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        # Before 3.11, matplotlib says so of scripts whose letters it places one by one.
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support", UserWarning)
        content = _render(draw(), suffix)
    write_atomically(path, content, force=force)


def _render(figure: Figure, suffix: str) -> bytes:
    undated = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix[1:], metadata=undated)
    return buffer.getvalue()


def wrap_text(text: str, cells: int, most: int) -> str:
    """Breaks a text into lines as wide as a terminal would show them, and cuts it after ``most`` lines."""
    lines = [line.plain for line in Text(text).wrap(Console(width=cells), cells, overflow="fold")]
    if len(lines) > most:
        lines[most - 1 :] = [lines[most - 1].rstrip() + " …"]
    return "\n".join(line.rstrip() for line in lines)
