"""Groundings as JSON for other programs to read."""

from __future__ import annotations

import json
from collections.abc import Sequence

from r2tuning.errors import OutputError
from r2tuning.types import Grounding


def to_json(results: Sequence[Grounding], indent: int | None = 2) -> str:
    """Writes groundings as one strict JSON list (RFC 8259: no NaN, no Infinity), in the order given.

    Each element is `Grounding.to_dict`, with the keys in this order::

        query, video              strings
        duration, start           seconds
        model, sampling           strings; sampling is "exact", "fast" or "keyframe"
        video_truncated,
        query_truncated           booleans
        windows                   integer, 1 where the video was seen whole
        moments                   best first: [{"start": seconds, "end": seconds, "score": 0…1}, …]
        saliency                  {"times": [seconds, …], "scores": [-1…1, …]}, as long as each other

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
    try:
        text = json.dumps([r.to_dict() for r in results], indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise OutputError(
            f"result holds NaN or infinity, which JSON cannot hold ({error}): "
            "check the video features and the checkpoint for damage"
        ) from None
    # File names that are not UTF-8 hold lone surrogates; the escape \udcxx made of one here is JSON's own.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
