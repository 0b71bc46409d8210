"""Moments as edit lists: frames at a fixed rate, counted from the video's first one.

CMX 3600 is read by nearly every editing program, FCPXML 1.8 by Final Cut Pro and DaVinci Resolve.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from r2tuning.errors import show_on_one_line
from r2tuning.output.text.labels import label_moment
from r2tuning.results import Grounding
from r2tuning.types import Moment, VideoInfo

RATES = tuple(
    sorted([Fraction(n) for n in (24, 25, 30, 48, 50, 60)] + [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60)])
)
"""Frame rates that every editing program knows, lowest first."""

_SAME = 1e-4  # relative; 24 and 24000/1001 differ ten times as much


def choose_rate(video: VideoInfo) -> Fraction:
    """The lowest of `RATES` that is a whole multiple of the video's rate, so that every frame falls on one.

    A video without such a rate, or with a variable one, gets 60. Rates that are read from rounded timestamps may be
    off by 0.01 %.

    Examples:
        >>> choose_rate(VideoInfo("a.mp4", 9.0, 0.0, 64, 48, 0, Fraction(2997, 100), False, "h264"))
        Fraction(30000, 1001)
        >>> choose_rate(VideoInfo("a.mp4", 9.0, 0.0, 64, 48, 0, Fraction(10), False, "h264"))
        Fraction(30, 1)
    """
    if not video.variable_frame_rate:
        for rate in RATES:
            times = round(rate / video.frame_rate)
            if times and abs(rate / times / video.frame_rate - 1) <= _SAME:
                return rate
    return Fraction(60)


@dataclass(frozen=True)
class Cut:
    """A moment as a piece of the video, in a sequence where the pieces follow each other."""

    moment: Moment
    query: str  # on one line
    label: str  # query and score, on one line
    first: int  # its first frame; the video's first one is 0
    length: int  # in frames, at least 1
    position: int  # its first frame in the sequence


class Source:
    """Name and percent-encoded URL of a video, its frames per second, and its length in frames, at least 1."""

    def __init__(self, video: VideoInfo) -> None:
        self.name = show_on_one_line(Path(video.path).name)
        self.url = Path(os.path.abspath(video.path)).as_uri()  # noqa: PTH100  (Path.absolute keeps ..)
        self.rate = choose_rate(video)
        self.length = max(round(Fraction(video.duration) * self.rate), 1)

    def cut(self, results: Sequence[Grounding]) -> list[list[Cut]]:
        """Rounds the moments of each result to whole frames inside the video, at least one each; best first."""
        cuts, position = [], 0
        for result in results:
            query, row = show_on_one_line(result.query), []
            for moment in result.moments:
                # As fractions: an hour of frames times 1001 would cost a float its last digits.
                start, end = (Fraction(float(time - result.start)) * self.rate for time in (moment.start, moment.end))
                first = min(max(round(start), 0), self.length - 1)
                length = min(max(round(end), first + 1), self.length) - first
                row.append(Cut(moment, query, label_moment(query, moment), first, length, position))
                position += length
            cuts.append(row)
        return cuts


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


_FORMAT, _ASSET = "r1", "r2"


def to_fcpxml(results: Sequence[Grounding], video: VideoInfo) -> str:
    """Writes the moments twice: as keywords on the video, and as a project that plays them, best first for each query.

    A comma would end a keyword, so it becomes ``;``. Times are exact multiples of a frame's length.
    """
    source = Source(video)

    def time(frames: int) -> str:
        return f"{frames * source.rate.denominator}/{source.rate.numerator}s" if frames else "0s"

    document = Element("fcpxml", version="1.8")
    resources = SubElement(document, "resources")
    picture = {"frameDuration": time(1), "width": str(video.width), "height": str(video.height)}
    SubElement(resources, "format", {"id": _FORMAT, **picture})
    whole = {"name": source.name, "start": "0s", "duration": time(source.length), "format": _FORMAT}
    content = {"hasVideo": "1", "hasAudio": "1"} if video.has_audio else {"hasVideo": "1"}
    SubElement(resources, "asset", {"id": _ASSET, "src": source.url, **content, **whole})

    event = SubElement(SubElement(document, "library"), "event", name=source.name)
    clip = SubElement(event, "asset-clip", {"ref": _ASSET, "tcFormat": "NDF", **whole})
    project = SubElement(event, "project", name=source.name)
    sequence = SubElement(project, "sequence", format=_FORMAT, tcStart="0s", tcFormat="NDF")
    spine = SubElement(sequence, "spine")
    cuts = [*chain(*source.cut(results))]
    for cut in cuts:
        extent = {"start": time(cut.first), "duration": time(cut.length)}
        SubElement(clip, "keyword", {"value": cut.query.replace(",", ";"), "note": cut.label, **extent})
        place = {"name": cut.label, "offset": time(cut.position), "format": _FORMAT, "tcFormat": "NDF"}
        SubElement(spine, "asset-clip", {"ref": _ASSET, **place, **extent})
    sequence.set("duration", time(sum(cut.length for cut in cuts)))
    ElementTree.indent(document)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{ElementTree.tostring(document, "unicode")}\n'
