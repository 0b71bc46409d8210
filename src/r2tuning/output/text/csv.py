"""Moments as CSV, for spreadsheets and as a table to train from."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from r2tuning.files import quote_formula
from r2tuning.results import Grounding

COLUMNS = ("video", "start", "end", "query", "rank", "score", "notes")
"""The first four are those of a custom data set in CSV, so that a model can train on the file."""


def to_csv(results: Sequence[Grounding]) -> str:
    """Writes a row for each moment (RFC 4180), best first for each query, below a row of `COLUMNS`.

    Each row has the notes of its answer. Control characters, which spreadsheets refuse, and halves of characters become
    ``U+FFFD``. A video or query that a spreadsheet would run as a formula begins with an apostrophe, which
    `r2tuning.datasets.load_custom` takes off again.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for result in results:
        notes = _clean(" ".join(note.text for note in result.notes))
        for rank, moment in enumerate(result.moments, start=1):
            times = f"{moment.start:.3f}", f"{moment.end:.3f}"
            writer.writerow([*map(_clean, (result.video, *times, result.query)), rank, f"{moment.score:.6f}", notes])
    return text.getvalue()


def _clean(text: str) -> str:
    shown = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
    return quote_formula(shown)
