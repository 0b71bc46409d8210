"""Results as text, for people, programs and players; here, times, queries and file names on one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from r2tuning.errors import show_on_one_line
from r2tuning.results import Grounding
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


def label_notes(results: Sequence[Grounding], names: Sequence[str] = (), *, warnings_only: bool = False) -> list[str]:
    """The notes of answers, one on a line: each once, and with the answers that it is about unless that is all of them.

    Args:
        results: The answers.
        names: What to call each; its query by default.
        warnings_only: Whether to leave out notes that limit no answer.

    Examples:
        >>> from dataclasses import replace
        >>> import numpy as np
        >>> from r2tuning.types import Saliency
        >>> curve = Saliency(np.zeros(0), np.zeros(0))
        >>> a, b = (Grounding(query, "a.mp4", 8.0, 0.0, [], curve, "demo", "exact", windows=3) for query in "ab")
        >>> label_notes([a, b])
        ['The video is long: 3 overlapping windows cover it.']
        >>> label_notes([a, replace(b, windows=1)])
        ['a: The video is long: 3 overlapping windows cover it.']
    """
    about: dict[str, list[str]] = {}
    for result, name in zip(results, names or [result.query for result in results], strict=True):
        for note in result.notes:
            if note.is_warning or not warnings_only:
                about.setdefault(note.text, []).append(show_on_one_line(name))
    return [
        show_on_one_line(text if len(found) == len(results) else f"{', '.join(found)}: {text}")
        for text, found in about.items()
    ]
