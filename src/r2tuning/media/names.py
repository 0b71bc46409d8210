"""Names of clips that every file system takes."""

from __future__ import annotations

import unicodedata

_LONGEST = 120  # bytes of the query's words; the whole name stays below the 255 that file systems allow
_WORDS = "LMN"  # categories of letters, the marks that belong to them, and digits


def name_clip(number: int, count: int, query: str, start: float, end: float) -> str:
    """Names the clip of a moment after its query and times.

    A number comes first: it keeps the clips in order, and names apart that differ in nothing else or would mean a
    device to Windows. Of the query remain letters and digits of any script.

    Args:
        number: Number of the clip, from 1.
        count: How many clips there are.
        query: Any string.
        start: Seconds.
        end: Seconds.

    Returns:
        A file name without folder, NFC, shorter than 255 bytes in UTF-8.

    Example:
        >>> name_clip(1, 5, "The dog catches... the *frisbee*!", 12.34, 3718)
        '01-the-dog-catches-the-frisbee-0m12.3s-1h01m58.0s.mp4'
        >>> name_clip(7, 100, "???", 0, 1)
        '007-moment-0m00.0s-0m01.0s.mp4'
    """
    kept = (c if unicodedata.category(c)[0] in _WORDS else " " for c in unicodedata.normalize("NFC", query.lower()))
    words = "-".join("".join(kept).split()).encode()[:_LONGEST].decode(errors="ignore").strip("-")
    digits = max(2, len(str(count)))
    return f"{number:0{digits}d}-{words or 'moment'}-{_show(start)}-{_show(end)}.mp4"


def _show(seconds: float) -> str:
    minutes, tenths = divmod(round(max(float(seconds), 0.0) * 10), 600)
    hours, minute = divmod(minutes, 60)
    clock = f"{hours}h{minute:02d}" if hours else f"{minute}"
    return f"{clock}m{tenths // 10:02d}.{tenths % 10}s"
