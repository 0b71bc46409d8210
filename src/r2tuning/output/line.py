"""Queries and file names, which may hold anything, made fit to be shown."""

from __future__ import annotations

import unicodedata

_UNSHOWABLE = {
    "Cc",  # control characters: could steer a terminal, and are not allowed in SVG
    "Cn",  # not characters at all, such as U+FFFE
    "Cs",  # halves of characters, such as Python puts into file names that are not UTF-8
}


def show_on_one_line(text: str) -> str:
    r"""Turns line breaks and runs of blanks into single blanks, and what cannot be shown into ``U+FFFD``.

    Args:
        text: Any string.

    Returns:
        One line that can be encoded as UTF-8 and does not steer a terminal.

    Examples:
        >>> show_on_one_line("a dog\n\n  runs\t")
        'a dog runs'
        >>> show_on_one_line("\x1b[31mred") == "\N{REPLACEMENT CHARACTER}[31mred"
        True
    """
    line = " ".join(text.split())
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _UNSHOWABLE else c for c in line)
