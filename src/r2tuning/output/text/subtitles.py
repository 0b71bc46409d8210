"""Moments as subtitles: the query is shown while the video shows the moment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from r2tuning.output.text.labels import label_moment
from r2tuning.results import Grounding

_WORD_JOINER = "\N{WORD JOINER}"


def to_srt(results: Sequence[Grounding]) -> str:
    r"""Writes SubRip subtitles, one for each moment, in time order; those of overlapping moments are shown together.

    Times are a player's, rounded to milliseconds; what lies before 0 is cut. The text is the query and the score. The
    format knows no escapes, so an invisible character (``U+2060``) keeps ``<``, ``{``, ``\`` and ``-->`` from being
    taken for a tag, a style, a command or a time.
    """
    cues = enumerate(_time_cues(results), start=1)
    return "".join(f"{i}\n{_clock(a, ',')} --> {_clock(b, ',')}\n{_disarm(text)}\n\n" for i, (a, b, text) in cues)


def to_webvtt(results: Sequence[Grounding]) -> str:
    """Writes WebVTT subtitles, which web pages show beside a video; as `to_srt`, but escaped as the format says."""
    cues = (f"{_clock(a, '.')} --> {_clock(b, '.')}\n{_escape(text)}\n\n" for a, b, text in _time_cues(results))
    return "WEBVTT\n\n" + "".join(cues)


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
    return re.sub(r"[<{\\]|--(?=>)", rf"\g<0>{_WORD_JOINER}", text)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
