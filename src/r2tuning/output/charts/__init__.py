"""Results as charts; here, figures as files: formats, fonts, and how they are saved."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from rich.console import Console
from rich.text import Text

from r2tuning.errors import OutputError, show_on_one_line
from r2tuning.files import check_target, write_atomically


def find_fonts(text: str) -> list[str]:
    """Finds font families that together show as many characters of a text as the system can, matplotlib's own first."""
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

# Okabe and Ito's palette can be told apart with every kind of color vision. Lines also differ in dashes and markers.
ORANGE, BLUE, GREEN, PURPLE, SKY, BLACK = "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#222222"
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLES: list[dict[str, Any]] = [
    {"color": color, "linestyle": dash, "marker": marker}
    for color, dash, marker in zip((ORANGE, BLUE, GREEN, PURPLE, SKY, BLACK), DASHES, MARKERS, strict=True)
]
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
    """Checks, before a long computation, that the suffix is one of `FORMATS` and that the file may be written."""
    suffix = Path(path).suffix
    if suffix.lower() not in FORMATS:
        ending = f"ends in {suffix}" if suffix else "has no suffix"
        raise OutputError(f"{path} {ending}, which names no picture format: use {', '.join(FORMATS)}")
    check_target(path, force=force)
    return Path(path)


def save_picture(draw: Callable[[], Figure], path: str | os.PathLike[str], *, force: bool) -> None:
    """Draws a figure with matplotlib's default settings and writes it; the same figure always gives the same file."""
    suffix = check_plot_target(path, force=force).suffix.lower()
    undated = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
    content = io.BytesIO()
    with _DRAWING, matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        # Text stays text, so that SVG viewers use their own fonts.
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "r2tuning"})
        # A character that no installed font has is drawn as a box.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        # Before 3.11, matplotlib warns about scripts whose letters it places one by one.
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support", UserWarning)
        draw().savefig(content, format=suffix[1:], metadata=undated)
    write_atomically(path, content.getvalue(), force=force)


def wrap_text(text: str, cells: int, most: int = 1) -> str:
    """Breaks a text into at most ``most`` lines of ``cells`` terminal cells, and cuts the rest."""
    text = show_on_one_line(text)
    lines = [line.plain for line in Text(text).wrap(Console(width=cells), cells, overflow="fold")]
    if len(lines) > most:
        lines[most - 1 :] = [lines[most - 1].rstrip() + " …"]
    return "\n".join(line.rstrip() for line in lines)


def set_fonts(texts: Sequence[Any]) -> None:
    """Shows any character, and dollar signs as they are."""
    fonts = find_fonts("".join(text.get_text() for text in texts))
    for text in texts:
        text.set(fontfamily=fonts, parse_math=False)
