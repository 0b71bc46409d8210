"""Groundings read back from the JSON that `r2tuning.output.json_format` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from r2tuning.errors import DataError
from r2tuning.types import Grounding, Moment, Saliency


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
