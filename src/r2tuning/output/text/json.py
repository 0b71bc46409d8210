"""Results as JSON and JSON Lines, written and read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2tuning.errors import DataError, OutputError
from r2tuning.results import Grounding, Summary
from r2tuning.types import Moment, Saliency


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


def to_jsonl(results: Sequence[Grounding]) -> str:
    """Writes each grounding on a line of its own, with the keys of `r2tuning.output.text.json.to_json`.

    Times are a player's.

    Args:
        results: Groundings, of one or several videos.

    Returns:
        The lines, each with its line break.

    Raises:
        OutputError: If a time or score is not a finite number.
    """
    return "".join(to_json([result], indent=None)[1:-1] + "\n" for result in results)


def read_answers(path: Path) -> list[Grounding]:
    """Reads a file of ``r2tuning ground --json``.

    Args:
        path: The file; keys that it has beside those of an answer are ignored.

    Returns:
        In the order of the file, at least one.

    Raises:
        DataError: If it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}; give a file of r2tuning ground --json") from None
    try:
        answers = [_to_grounding(answer) for answer in content]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no answers ({error!r:.80}); give a file of r2tuning ground --json") from None
    if not answers:
        raise DataError(f"{path}: holds no answer; ask r2tuning ground again")
    return answers


def _to_grounding(answer: Any) -> Grounding:
    saliency = Saliency(*(np.array(answer["saliency"][key], dtype=np.float64) for key in ("times", "scores")))
    if saliency.times.shape != saliency.scores.shape or saliency.times.ndim != 1:
        raise ValueError("saliency: times and scores differ in number")
    presence, threshold = (answer.get(key) for key in ("presence", "presence_threshold"))
    return Grounding(
        query=str(answer["query"]),
        video=str(answer["video"]),
        duration=float(answer["duration"]),
        start=float(answer["start"]),
        moments=[Moment(float(m["start"]), float(m["end"]), float(m["score"])) for m in answer["moments"]],
        saliency=saliency,
        model=str(answer["model"]),
        sampling=answer["sampling"],
        video_truncated=bool(answer["video_truncated"]),
        query_truncated=bool(answer["query_truncated"]),
        windows=int(answer["windows"]),
        calibrated=bool(answer.get("calibrated", False)),
        presence=None if presence is None else float(presence),
        presence_threshold=None if threshold is None else float(threshold),
    )
