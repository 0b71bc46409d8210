"""Installed fonts that can show a text: matplotlib's own lacks many scripts, such as Chinese."""

from __future__ import annotations

from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font


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
    # Bitmap fonts, as of coloured emoji, cannot be drawn at any size that is asked for.
    return set(font.get_charmap()) if font.scalable else set()
