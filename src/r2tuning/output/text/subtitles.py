"""Moments as subtitles: the query is shown while the video shows the moment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

from r2tuning.output.text import label_moment, label_notes
from r2tuning.results import Grounding

NOTICE = 5000


def to_srt(results: Sequence[Grounding]) -> str:
    """Writes a SubRip subtitle for each moment, in time order: the query and the score.

    The format has no comments, so a subtitle of the first `NOTICE` milliseconds shows warnings, if there are any.
    """
    begin = max(round(min((result.start for result in results), default=0) * 1000), 0)
    notice = "\n".join(map(_disarm, label_notes(results, warnings_only=True)))
    shown = [(begin, begin + NOTICE, notice)] if notice else []
    shown += [(start, end, _disarm(text)) for start, end, text in _time_cues(results)]
    cues = enumerate(sorted(shown, key=lambda cue: cue[0]), start=1)
    return "".join(f"{i}\n{_clock(a, ',')} --> {_clock(b, ',')}\n{text}\n\n" for i, (a, b, text) in cues)


def to_webvtt(results: Sequence[Grounding]) -> str:
    """Writes WebVTT subtitles, which web pages show beside a video; notes are comments at the start."""
    notes = "".join(f"NOTE {_disarm(note)}\n\n" for note in label_notes(results))
    cues = ((f"{_clock(a, '.')} --> {_clock(b, '.')}", escape(text, quote=False)) for a, b, text in _time_cues(results))
    return f"WEBVTT\n\n{notes}" + "".join(f"{times}\n{text}\n\n" for times, text in cues)


def _time_cues(results: Sequence[Grounding]) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds, at least 1 apart, and text of every moment, in time order."""
    cues = []
    for result in results:
        for moment in result.moments:
            start = max(round(moment.start * 1000), 0)
            cues.append((start, max(round(moment.end * 1000), start + 1), label_moment(result.query, moment)))
    # Of moments that begin together, the shorter comes last, so that players show it on top.
    yield from sorted(cues, key=lambda cue: (cue[0], -cue[1]))


def _clock(milliseconds: int, separator: str) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{separator}{fraction:03d}"


def _disarm(text: str) -> str:
    r"""Puts an invisible character after ``<``, ``{``, ``\`` and ``--`` of ``-->``: the format has no escapes."""
    return re.sub(r"[<{\\]|--(?=>)", "\\g<0>\N{WORD JOINER}", text)
