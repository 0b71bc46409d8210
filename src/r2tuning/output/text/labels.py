"""Times, queries and file names as text on one line."""

from __future__ import annotations

import math

from r2tuning.errors import show_on_one_line
from r2tuning.types import Moment


def format_clock(seconds: float, decimals: int = 1) -> str:
    """Writes a finite time from 0 on as ``m:ss.s``, or ``h:mm:ss.s`` from an hour on; seconds never show as 60.

    Examples:
        >>> format_clock(83.25), format_clock(59.96), format_clock(7384.5, decimals=0)
        ('1:23.2', '1:00.0', '2:03:04')
    """
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"a clock shows finite times from 0 s on, not {seconds} s")
    # float() first: a float32 would lose tenths of a second in a long video.
    whole, fraction = divmod(round(float(seconds) * 10**decimals), 10**decimals)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    clock = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{clock}.{fraction:0{decimals}d}" if decimals else clock


def label_moment(query: str, moment: Moment) -> str:
    r"""Names a moment by its query and score, on one line.

    Examples:
        >>> label_moment("a dog\nruns", Moment(2.0, 6.0, 0.875))
        'a dog runs (0.88)'
    """
    return f"{show_on_one_line(query)} ({moment.score:.2f})".lstrip()
