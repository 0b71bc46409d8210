"""Groundings as JSON for other programs to read."""

from __future__ import annotations

import json
from collections.abc import Sequence

from r2tuning.errors import OutputError
from r2tuning.types import Grounding, Summary


def to_json(results: Sequence[Grounding], indent: int | None = 2) -> str:
    """Writes groundings as one strict JSON list (RFC 8259: no NaN, no Infinity), in the order given.

    Each element is `Grounding.to_dict`, with the keys in this order::

        query, video              strings
        duration, start           seconds
        model, sampling           strings; sampling is "exact", "fast" or "keyframe"
        video_truncated,
        query_truncated           booleans
        windows                   integer, 1 where the video was seen whole
        calibrated                boolean, whether scores are probabilities
        presence,
        presence_threshold        0…1, or null where the model was not calibrated for it
        present                   boolean, presence ≥ presence_threshold, or null
        moments                   best first: [{"start": seconds, "end": seconds, "score": 0…1}, …]
        saliency                  {"times": [seconds, …], "scores": [-1…1, …]}, as long as each other; 0…1 if calibrated

    Args:
        results: Groundings, of one or several videos.
        indent: Blanks per level, or None for a single line.

    Returns:
        The JSON, without a line break at its end; it can always be encoded as UTF-8.

    Raises:
        OutputError: If a time or score is not a finite number.

    Examples:
        >>> to_json([])
        '[]'
    """
    return _dump([result.to_dict() for result in results], indent)


def summary_to_json(summary: Summary, indent: int | None = 2) -> str:
    """Writes a summary as one strict JSON object.

    It is `Summary.to_dict`: the keys of `to_json`, of which ``query`` is empty where none was asked and ``moments``
    are those of the answer, then::

        budget, length            seconds that the shots may last and do last
        shots                     in time order: [{"start": seconds, "end": seconds, "score": mean saliency}, …]

    Args:
        summary: A summary.
        indent: Blanks per level, or None for a single line.

    Returns:
        The JSON, as of `to_json`.

    Raises:
        OutputError: If a time or score is not a finite number.
    """
    return _dump(summary.to_dict(), indent)


def _dump(content: object, indent: int | None) -> str:
    try:
        text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise OutputError(
            f"result holds NaN or infinity, which JSON cannot hold ({error}): "
            "check the video features and the checkpoint for damage"
        ) from None
    # File names that are not UTF-8 hold lone surrogates; the escape \udcxx made of one here is JSON's own.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
