"""Groundings in the forms that other programs take: one module per form, and here the list of them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from r2tuning.errors import OutputError
from r2tuning.output.text.chapters import to_chapters
from r2tuning.output.text.csv import to_csv
from r2tuning.output.text.edl import to_edl
from r2tuning.output.text.fcpxml import to_fcpxml
from r2tuning.output.text.json import to_json, to_jsonl
from r2tuning.output.text.markdown import to_markdown
from r2tuning.output.text.subtitles import to_srt, to_webvtt
from r2tuning.results import Grounding
from r2tuning.types import VideoInfo

Format = Literal["json", "jsonl", "csv", "srt", "vtt", "chapters", "edl", "otio", "fcpxml", "markdown"]

SUFFIXES: dict[str, Format] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".srt": "srt",
    ".vtt": "vtt",
    ".ffmetadata": "chapters",
    ".edl": "edl",
    ".otio": "otio",
    ".fcpxml": "fcpxml",
    ".md": "markdown",
}
"""Endings of file names, in lower case, and the format each stands for."""

TIMED: dict[Format, Callable[[Sequence[Grounding]], str]] = {
    "json": lambda results: to_json(results) + "\n",
    "jsonl": to_jsonl,
    "csv": to_csv,
    "srt": to_srt,
    "vtt": to_webvtt,
    "chapters": to_chapters,
    "markdown": to_markdown,
}
"""Writers of formats whose times are seconds on a player's clock, as in `Grounding`."""

FRAMED: tuple[Format, ...] = ("edl", "otio", "fcpxml")
"""Formats that count frames from the first one of the video, so that they need to know its frame rate."""

_OF_MANY_VIDEOS: tuple[Format, ...] = ("json", "jsonl", "csv", "markdown")


def find_format(path: str | os.PathLike[str]) -> Format:
    """Tells the format of a file by the ending of its name.

    Args:
        path: The file; it need not exist.

    Raises:
        OutputError: If the ending is not one of `SUFFIXES`.

    Examples:
        >>> find_format("trip.SRT")
        'srt'
        >>> find_format("trip.ffmetadata")
        'chapters'
    """
    suffix = Path(path).suffix
    if suffix.lower() not in SUFFIXES:
        ending = f"ends in {suffix}" if suffix else "has no suffix"
        raise OutputError(f"{path} {ending}, which names no format: use {', '.join(SUFFIXES)}, or name one")
    return SUFFIXES[suffix.lower()]


def write_format(results: Sequence[Grounding], form: Format, video: VideoInfo | None = None) -> str:
    """Writes groundings in a format.

    Args:
        results: Answers about one video; ``json``, ``jsonl``, ``csv`` and ``markdown`` take those about several.
        form: The format.
        video: Facts about the video (`r2tuning.probe`), which the formats of `FRAMED` need.

    Returns:
        The content of the file, which can be encoded as UTF-8.

    Raises:
        OutputError: If a time or score is not a finite number.
        ValueError: If answers are about several videos where the format takes one, or ``video`` is missing.
        ModuleNotFoundError: If ``form`` is ``otio`` and the extra ``export`` is not installed.

    Examples:
        >>> from r2tuning.types import Moment, Saliency
        >>> import numpy as np
        >>> curve = Saliency(np.zeros(0), np.zeros(0))
        >>> answer = Grounding("a dog", "trip.mp4", 8.0, 0.0, [Moment(2.0, 6.0, 0.875)], curve, "demo", "exact")
        >>> print(write_format([answer], "srt"), end="")
        1
        00:00:02,000 --> 00:00:06,000
        a dog (0.88)
        <BLANKLINE>
    """
    if form not in _OF_MANY_VIDEOS and len(videos := {result.video for result in results}) > 1:
        raise ValueError(f"{form} is about one video, not {len(videos)}: write a file for each")
    for moment in (moment for result in results for moment in result.moments):
        if not all(math.isfinite(value) for value in (moment.start, moment.end, moment.score)):
            raise OutputError(f"result holds {moment}: check the video features and the checkpoint for damage")
    if form not in FRAMED:
        return TIMED[form](results)
    if video is None:
        raise ValueError(f"{form} counts frames: give the facts about the video")
    return load_framed(form)(results, video)


def load_framed(form: Format) -> Callable[[Sequence[Grounding], VideoInfo], str]:
    """Finds the writer of one of the formats of `FRAMED`.

    Raises:
        ModuleNotFoundError: If it is ``otio`` and the extra ``export`` is not installed.
    """
    if form == "otio":
        from r2tuning.output.text.otio import to_otio

        return to_otio
    return {"edl": to_edl, "fcpxml": to_fcpxml}[form]
