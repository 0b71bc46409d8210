"""Moments as an edit decision list, CMX 3600, which nearly every editing program reads."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import chain

from r2tuning.output.text.edits import Source
from r2tuning.results import Grounding
from r2tuning.types import VideoInfo


def to_edl(results: Sequence[Grounding], video: VideoInfo) -> str:
    """Writes the moments as cuts that follow each other: query after query, best first.

    Source timecode begins at 00:00:00:00 and record timecode at 01:00:00:00. Timecode is non-drop at every rate, so
    it counts frames and does not drift. The format has no field for the rate. Lines are ASCII, at most 80 characters.
    """
    source = Source(video)
    rate = round(source.rate)  # the frames of a second of timecode
    lines = [_line("TITLE: ", source.name), "FCM: NON-DROP FRAME"]
    channels = "B" if video.has_audio else "V"  # both, or video only
    for number, cut in enumerate(chain(*source.cut(results)), start=1):
        position = 3600 * rate + cut.position
        frames = (cut.first, cut.first + cut.length, position, position + cut.length)
        # AX: a source that has no reel, such as a file.
        lines += [
            "",
            f"{number:03d}  AX       {channels}     C        " + " ".join(_timecode(frame, rate) for frame in frames),
            _line("* FROM CLIP NAME: ", source.name),
            _line("* COMMENT: ", cut.label),
        ]
    return "\n".join(lines) + "\n"


def _timecode(frame: int, rate: int) -> str:
    """Writes a frame number as non-drop timecode.

    Example:
        >>> _timecode(107_892, 30)
        '00:59:56:12'
    """
    seconds, frames = divmod(frame, rate)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames:02d}"


def _line(head: str, text: str) -> str:
    """A line of text in ASCII: letters lose their accents, other characters become ``?``.

    Example:
        >>> _line("TITLE: ", "café 切.mp4")
        'TITLE: cafe ?.mp4'
    """
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    line = head + "".join(letters).encode("ascii", "replace").decode("ascii")
    return line if len(line) <= 80 else f"{line[:77]}..."
