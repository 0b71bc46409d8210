"""Attention of each word of a query, drawn over the frames: a panel for each refinement step."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from r2tuning.output.charts import GREY, WIDTH, find_fonts, make_canvas, save_picture, wrap_text
from r2tuning.output.text import format_clock
from r2tuning.types import PatchAttention

MOST_WORDS, MOST_FRAMES = 8, 6
"""More rows or columns would be too small to see, or too many to compare."""

FUNCTION_WORDS = "a an the this that is are was be of in on at to from by with and or as it its me my you when while"
"""Left out first where a query has too many words."""

_COLORS = "inferno"  # even steps of lightness, with every kind of color vision and in print
_VEIL, _COVER = 0.25, 0.8
"""How much of the frame no attention hides, and the strongest."""

# Inches.
_MARGIN, _WORD, _CELL, _PANEL_GAP, _LINE, _SCALE = 0.15, 0.85, 1.35, 0.2, 0.2, 0.75


def choose_words(words: Sequence[str], most: int = MOST_WORDS) -> list[int]:
    """Indices of at most ``most`` words of a query: content words first, and always the last, the whole sentence.

    Example:
        >>> words = "the red star is in the top left corner of the screen [end]".split()
        >>> [words[index] for index in choose_words(words, 5)]
        ['red', 'star', 'top', 'left', '[end]']
    """
    ranked = sorted(range(len(words) - 1), key=lambda index: words[index].lower() in FUNCTION_WORDS.split())
    return [*sorted(ranked[: most - 1]), len(words) - 1]


def plot_attention(
    attention: PatchAttention,
    frames: Sequence[np.ndarray],
    path: str | os.PathLike[str],
    *,
    words: Sequence[int],
    name: str,
    force: bool = False,
) -> None:
    """Draws a heat map for each step, word and frame.

    Args:
        attention: The weights.
        frames: Those that the model saw at the times of the weights, square uint8 RGB ``[side, side, 3]``.
        path: The picture to write.
        words: Indices of the words to show.
        name: Text below the query, such as video and model.
        force: Whether an existing file may be replaced.
    """
    save_picture(lambda: _draw(attention, frames, list(words), name), path, force=force)


def _draw(attention: PatchAttention, frames: Sequence[np.ndarray], words: Sequence[int], name: str) -> Figure:
    steps, count = len(attention.layers), len(frames)
    columns = min(steps, 2)
    room = (WIDTH - 2 * _MARGIN - (columns - 1) * _PANEL_GAP) / columns
    cell = min((room - _WORD) / count, _CELL)
    panel = 2 * _LINE + (len(words) + 1) * cell + _PANEL_GAP
    shown, known = len(words) - 1, len(attention.words) - 1
    left_out = "" if shown >= known else f"{shown} of {known} words are shown. "
    description = (
        f"{left_out}{attention.words[-1]} is the token in which CLIP gathers the sentence. The numbers are the "
        "attention (%) that goes to the frame as a whole, its summary token; patches and that token add up to 100 %."
    )
    note = wrap_text(description, 160, 3)
    title = wrap_text(attention.query, 80, 3)
    foot = _SCALE + _LINE * (note.count("\n") + 1)
    head = _MARGIN + (_LINE + 0.04) * (title.count("\n") + 1) + _LINE + 0.1
    height = foot + math.ceil(steps / columns) * panel + head
    figure = make_canvas(height)
    fonts = find_fonts(title + name + "".join(attention.words))
    texts: dict[str, Any] = {"parse_math": False, "va": "top", "x": _MARGIN / WIDTH, "fontfamily": fonts}
    figure.text(y=1 - _MARGIN / height, s=title, fontsize=12, **texts)
    figure.text(y=1 - (head - _LINE - 0.1) / height, s=wrap_text(name, 160), fontsize=9, color=GREY, **texts)
    weights = 100 * attention.weights[:, :, list(words)]
    scale = Normalize(0, max(float(weights[..., 1:].max()), 1e-6))
    for step, layer in enumerate(attention.layers):
        row, column = divmod(step, columns)
        left = _MARGIN + column * (room + _PANEL_GAP)
        top = height - head - row * panel
        size = (_WORD + count * cell) / WIDTH, (panel - _PANEL_GAP) / height
        axes = figure.add_axes((left / WIDTH, (top - panel + _PANEL_GAP) / height, *size))
        _draw_panel(axes, weights[step], frames, [attention.words[word] for word in words], cell, scale, fonts)
        up = (len(words) + 1) * cell
        for column, time in enumerate(attention.times):
            clock = format_clock(max(float(time), 0.0), decimals=0)
            axes.text(_WORD + (column + 0.5) * cell, up + 0.04, clock, fontsize=8, ha="center", va="bottom")
        axes.text(_WORD - 0.06, up + 0.04, "m:ss", fontsize=8, ha="right", va="bottom", color=GREY)
        axes.text(_WORD, up + _LINE + 0.03, _name_step(step, layer), fontsize=10, va="bottom", weight="bold")
        axes.set(xlim=(0, _WORD + count * cell), ylim=(0, up + 2 * _LINE))
        axes.axis("off")
    axes = figure.add_axes((_MARGIN / WIDTH, (foot - 0.3) / height, 0.3, 0.12 / height))
    bar = figure.colorbar(ScalarMappable(scale, _COLORS), cax=axes, orientation="horizontal")
    bar.ax.tick_params(labelsize=8, length=2)
    label = "attention of a word to a patch (%)"
    figure.text(_MARGIN / WIDTH + 0.32, (foot - 0.24) / height, label, fontsize=9, va="center")
    figure.text(_MARGIN / WIDTH, 0.1 / height, note, fontsize=8, color=GREY, va="bottom", parse_math=False)
    return figure


def _draw_panel(
    axes: Any,
    weights: np.ndarray,
    frames: Sequence[np.ndarray],
    words: Sequence[str],
    cell: float,
    scale: Normalize,
    fonts: Sequence[str],
) -> None:
    """Draws frames, and below them a row for each word; ``weights`` are ``[n, words, P+1]`` in percent."""
    side = math.isqrt(weights.shape[-1] - 1)
    edge = 0.015
    for column, frame in enumerate(frames):
        grey = np.repeat(frame.mean(axis=-1, keepdims=True), 3, axis=-1) / 255
        for row in range(len(words) + 1):
            x, y = _WORD + column * cell, (len(words) - row) * cell
            place = (x + edge, x + cell - edge, y + edge, y + cell - edge)
            if row == 0:
                axes.imshow(frame, extent=place, aspect="auto")
                continue
            heat = scale(weights[column, row - 1, 1:].reshape(side, side))
            layer = colormaps[_COLORS](heat)
            # Little attention leaves the frame visible, much hides it.
            layer[..., 3] = _VEIL + (_COVER - _VEIL) * heat
            axes.imshow(0.5 + 0.5 * grey, extent=place, aspect="auto")
            axes.imshow(layer, extent=place, aspect="auto", interpolation="nearest")
            cls = f"{weights[column, row - 1, 0]:.0f}"
            axes.text(x + cell - 2 * edge, y + 2 * edge, cls, fontsize=7, ha="right", va="bottom", color="white")
    look: dict[str, Any] = {"fontsize": 9, "ha": "right", "va": "center", "parse_math": False, "fontfamily": fonts}
    for row, word in enumerate(words, start=1):
        axes.text(_WORD - 0.06, (len(words) - row + 0.5) * cell, wrap_text(word, 12), **look)


def _name_step(step: int, layer: int) -> str:
    looked = {0: "mean of CLIP's last layers", 1: "last layer of CLIP", 2: "last layer but one", 3: "last but two"}
    return f"Step {step + 1}: {looked.get(layer, f'{layer}th layer from the last')}"
