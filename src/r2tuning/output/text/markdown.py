"""Moments as tables in Markdown, for notes, issues and reports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import PurePath

from r2tuning.output.text.labels import format_clock, show_on_one_line
from r2tuning.results import Grounding

_HEAD = "| query | rank | start | end | length | score |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"


def to_markdown(results: Sequence[Grounding]) -> str:
    """Writes a heading, notes and a table of moments for each video, best first for each query; text stays plain."""
    parts = []
    for video, answers in groupby(results, key=lambda result: result.video):
        shown = list(answers)
        notes = "".join(f"- {_escape(f'{r.query}: {note.text}')}\n" for r in shown for note in r.notes)
        rows = [row for result in shown for row in _rows(result)]
        table = _HEAD + "".join(rows) if rows else "No moments.\n"
        parts.append("\n".join([f"# {_escape(PurePath(video).name)}\n", *([notes] if notes else []), table]))
    return "\n".join(parts)


def _rows(result: Grounding) -> list[str]:
    query = _escape(result.query)
    return [
        f"| {query} | {rank} | {_clock(m.start)} | {_clock(m.end)} | {_clock(m.end - m.start)} | {m.score:.3f} |\n"
        for rank, m in enumerate(result.moments, start=1)
    ]


def _clock(seconds: float) -> str:
    return format_clock(max(seconds, 0.0))


def _escape(text: str) -> str:
    r"""Escapes what means something in Markdown, in HTML or, as ``@``, on code hosts.

    Example:
        >>> print(_escape("a|b *c* <script>"))
        a\|b \*c\* \<script\>
    """
    return re.sub(r"[\\`*_{}\[\]<>#|~&$@!:^=+-]", r"\\\g<0>", show_on_one_line(text))
