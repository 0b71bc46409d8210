"""Every error that r2tuning raises on purpose, and the warnings it gives.

A message is one line: the thing, the value that is wrong, and what to do next. The command line prints it and exits 1.
"""

from __future__ import annotations

import unicodedata
from typing import ClassVar

_UNSHOWABLE = {
    "Cc",  # control characters: could steer a terminal, and are not allowed in SVG
    "Cn",  # not characters at all, such as U+FFFE
    "Cs",  # halves of characters, such as Python puts into file names that are not UTF-8
}


def show_on_one_line(text: str, longest: int | None = None) -> str:
    r"""Turns blanks and line breaks into single blanks, and what is not UTF-8 or steers a terminal into ``U+FFFD``.

    Of a text with more than ``longest`` characters, the middle of long words, such as paths, is left out, and then that
    of the text; its end stays, since there a message says what to do.

    Examples:
        >>> show_on_one_line("a dog\n\n  runs\t")
        'a dog runs'
        >>> show_on_one_line("\x1b[31mred") == "\N{REPLACEMENT CHARACTER}[31mred"
        True
        >>> show_on_one_line("/a/path/of/very/many/folders.mp4: not a video", 40)
        '/a/p….mp4: not a video'
    """
    if longest is not None and len(text) > 4 * longest:  # a message may hold all of a hostile file
        text = f"{text[: 2 * longest]}…{text[-2 * longest :]}"
    line = " ".join(text.split())
    if longest is not None and len(line) > longest:
        line = _leave_out_middle(" ".join(_leave_out_middle(word, longest // 4) for word in line.split()), longest)
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _UNSHOWABLE else c for c in line)


def _leave_out_middle(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    tail = (longest - 1) * 3 // 5
    return f"{text[: longest - 1 - tail]}…{text[-tail:]}"


class R2TuningError(Exception):
    """Base of every error that r2tuning raises on purpose; whatever a message quotes, it is one line of `LONGEST`."""

    LONGEST: ClassVar[int] = 300
    """Characters of a message; of a longer one the middle is left out."""

    def __str__(self) -> str:
        return show_on_one_line(super().__str__(), self.LONGEST)


class VideoError(R2TuningError):
    """A file cannot be read as video."""


class QueryError(R2TuningError):
    """A query cannot be encoded."""


class BackboneError(R2TuningError):
    """A CLIP backbone is missing, damaged, or does not fit the model."""


class CheckpointError(R2TuningError):
    """A checkpoint is unknown, damaged, or not what it says it is."""


class DownloadError(R2TuningError):
    """A file could not be fetched from the hub; ``reason`` is what the hub or the network said, if that is known."""

    LONGEST = 1000

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class FeatureError(R2TuningError):
    """A feature file is damaged or was made for another model."""


class DataError(R2TuningError):
    """An annotation file cannot be read, or an entry of it is wrong."""


class LibraryError(R2TuningError):
    """A library of videos is missing, damaged, busy, or of another model."""


class ServerError(R2TuningError):
    """A server cannot start, or its own files are damaged."""


class RequestError(ServerError):
    """A server is asked for what makes no sense."""


class MissingError(ServerError):
    """A server is asked for what does not exist."""


class BusyError(ServerError):
    """A server has too much to do already."""


class MetricError(R2TuningError):
    """Predictions or annotations cannot be scored."""


class RecipeError(R2TuningError):
    """A recipe does not exist, or has a setting that is wrong."""


class TrainingError(R2TuningError):
    """A training run cannot start, cannot go on, or has diverged."""


class OutputError(R2TuningError):
    """A result cannot be written where it should be."""


class R2TuningWarning(UserWarning):
    """Base of every warning that r2tuning gives."""


class VideoWarning(R2TuningWarning):
    """Part of a video could not be used; the result covers the rest."""


class QueryWarning(R2TuningWarning):
    """Part of a query could not be used."""


class OutputWarning(R2TuningWarning):
    """A result was written, but other programs may not read all of it."""


class CheckpointWarning(R2TuningWarning):
    """Something about a checkpoint had to be assumed, or is not as published."""
