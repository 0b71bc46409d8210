"""Moments as chapters, in FFmpeg's metadata format."""

from __future__ import annotations

import re
from collections.abc import Sequence

from r2tuning.output.text import label_moment, label_notes
from r2tuning.results import Grounding

BETWEEN = "…"
"""Title of the chapters between moments; MP4 keeps only where chapters begin, so these end the moments."""

Piece = tuple[int, int, str]
"""Start and end in milliseconds, and title."""


def to_chapters(results: Sequence[Grounding]) -> str:
    """Writes chapters, which never overlap, on the player's clock, and fills the time between them with `BETWEEN`.

    Moments of all queries are taken by score, best first. Each keeps the longest piece that better ones have left
    free, and is dropped if that is shorter than half of it. The notes are the file's comment.
    """
    notes = " ".join(label_notes(results))
    text = ";FFMETADATA1\n" + (f"comment={_escape(notes)}\n" if notes else "")
    reached = 0
    for start, end, title in _resolve_overlaps(results):
        if start > reached:
            text += _write_chapter(reached, start, BETWEEN)
        text += _write_chapter(start, end, title)
        reached = end
    return text


def _resolve_overlaps(results: Sequence[Grounding]) -> list[Piece]:
    """Pieces of moments that do not overlap, in time order."""
    ranked = sorted(((m, r.query) for r in results for m in r.moments), key=lambda pair: -pair[0].score)
    taken: list[Piece] = []
    for moment, query in ranked:
        start = max(round(moment.start * 1000), 0)
        end = max(round(moment.end * 1000), start + 1)
        free = _longest_free(start, end, taken)
        if free is not None and 2 * (free[1] - free[0]) >= end - start:
            taken = sorted([*taken, (*free, label_moment(query, moment))])
    return taken


def _longest_free(start: int, end: int, taken: Sequence[Piece]) -> tuple[int, int] | None:
    """The longest part of a time that none of some ordered pieces takes; of equals, the first.

    Example:
        >>> _longest_free(0, 10, [(2, 4, "a"), (9, 20, "b")])
        (4, 9)
        >>> _longest_free(5, 6, [(2, 7, "a")])
    """
    inside = [(first, last) for first, last, _ in taken if last > start and first < end]
    begins = [start, *(last for _, last in inside)]
    ends = [*(first for first, _ in inside), end]
    parts = [(b, e) for b, e in zip(begins, ends, strict=True) if e > b]
    return max(parts, key=lambda part: part[1] - part[0], default=None)


def _write_chapter(start: int, end: int, title: str) -> str:
    return f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={_escape(title)}\n"


def _escape(text: str) -> str:
    return re.sub(r"[=;#\\]", r"\\\g<0>", text)
