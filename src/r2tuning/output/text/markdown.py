"""Moments as tables in Markdown, for notes, issues and reports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import PurePath

from r2tuning.errors import show_on_one_line
from r2tuning.output.text import format_clock, label_notes
from r2tuning.results import Grounding
from r2tuning.types import Moment

_HEAD = "| query | rank | start | end | length | score |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"


def to_markdown(results: Sequence[Grounding]) -> str:
    """Writes a heading, notes and a table of moments for each video, best first for each query; text stays plain."""
    parts = []
    for video, answers in groupby(results, key=lambda result: result.video):
        shown = list(answers)
        notes = "".join(f"- {_escape(note)}\n" for note in label_notes(shown))
        rows = [_write_row(r.query, rank, moment) for r in shown for rank, moment in enumerate(r.moments, start=1)]
        table = _HEAD + "".join(rows) if rows else "No moments.\n"
        parts.append("\n".join([f"# {_escape(PurePath(video).name)}\n", *([notes] if notes else []), table]))
    return "\n".join(parts)


def _write_row(query: str, rank: int, moment: Moment) -> str:
    times = (format_clock(max(s, 0.0)) for s in (moment.start, moment.end, moment.end - moment.start))
    return f"| {_escape(query)} | {rank} | {' | '.join(times)} | {moment.score:.3f} |\n"


def _escape(text: str) -> str:
    r"""Escapes what means something in Markdown, in HTML or, as ``@``, on code hosts.

    Example:
        >>> print(_escape("a|b *c* <script>"))
        a\|b \*c\* \<script\>
    """
    return re.sub(r"[\\`*_{}\[\]<>#|~&$@!:^=+-]", r"\\\g<0>", show_on_one_line(text))
