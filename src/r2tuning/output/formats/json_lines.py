"""Groundings as JSON Lines: one answer on each line."""

from __future__ import annotations

from collections.abc import Sequence

from r2tuning.output.json_format import to_json
from r2tuning.types import Grounding


def to_jsonl(results: Sequence[Grounding]) -> str:
    """Writes each grounding on a line of its own, with the keys of `r2tuning.output.json_format.to_json`.

    Times are a player's.

    Args:
        results: Groundings, of one or several videos.

    Returns:
        The lines, each with its line break.

    Raises:
        OutputError: If a time or score is not a finite number.
    """
    return "".join(to_json([result], indent=None)[1:-1] + "\n" for result in results)
