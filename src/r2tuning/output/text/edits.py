"""Moments as edit lists: frames at a fixed rate, counted by the video's timecode, else from its first frame.

CMX 3600 is read by nearly every editing program, FCPXML 1.8 by Final Cut Pro and DaVinci Resolve.
"""

from __future__ import annotations

import os
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from r2tuning.errors import OutputWarning, show_on_one_line
from r2tuning.output.text import label_moment, label_notes
from r2tuning.results import Grounding
from r2tuning.types import Moment, VideoInfo

RATES = tuple(
    sorted([Fraction(n) for n in (24, 25, 30, 48, 50, 60)] + [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60)])
)
"""Frame rates that every editing program knows, lowest first."""

_MOST_EVENTS = 999  # of an EDL: their numbers have three digits
_LINE, _COMMENT = 80, "* COMMENT: "
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
    first: int  # its first frame, by the video's timecode
    length: int  # in frames, at least 1
    position: int  # its first frame in the sequence


@dataclass(frozen=True)
class Timecode:
    """How timecode counts: ``rate`` frames to a second, of which drop-frame leaves out numbers to follow the clock.

    At 29.97 frames per second, drop-frame leaves out the numbers 0 and 1 of every minute but each tenth; at 59.94, 0 to
    3 (SMPTE ST 12-1, 5.2.2).
    """

    rate: int
    drop: bool = False

    @property
    def _dropped(self) -> int:
        return self.rate // 15 if self.drop else 0

    def count(self, hours: int, minutes: int, seconds: int, frames: int) -> int:
        """The number of a frame, from midnight.

        Example:
            >>> Timecode(30, drop=True).count(1, 0, 0, 0), Timecode(30).count(1, 0, 0, 0)
            (107892, 108000)
        """
        passed = hours * 60 + minutes
        return (passed * 60 + seconds) * self.rate + frames - self._dropped * (passed - passed // 10)

    def write(self, frame: int) -> str:
        """Writes the number of a frame; after 24 hours it starts again at 0.

        Example:
            >>> Timecode(30).write(107_892), Timecode(30, drop=True).write(1800)
            ('00:59:56:12', '00:01:00;02')
        """
        frame %= self.count(24, 0, 0, 0)
        tens, rest = divmod(frame, self.count(0, 10, 0, 0))
        minutes = max(rest - self._dropped, 0) // (60 * self.rate - self._dropped)
        seconds, frames = divmod(frame + self._dropped * (9 * tens + minutes), self.rate)
        mark = ";" if self.drop else ":"
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{frames:02d}"


class Source:
    """A video as edit lists describe it.

    Args:
        video: Facts about it.
        reference: Percent-encoded URL by which programs find it, absolute or relative; by default that of its path.

    Attributes:
        name, url: Its name, and its percent-encoded URL.
        rate: Frames per second.
        length: Its length in frames, at least 1.
        timecode: How its timecode counts.
        begin: The number of its first frame by its timecode; 0 without one.
    """

    def __init__(self, video: VideoInfo, reference: str | None = None) -> None:
        self.name = show_on_one_line(Path(video.path).name)
        self.url = reference or Path(os.path.abspath(video.path)).as_uri()  # noqa: PTH100  (Path.absolute keeps ..)
        self.rate = choose_rate(video)
        self.length = max(round(Fraction(video.duration) * self.rate), 1)
        self.timecode, self.begin = Timecode(round(self.rate)), 0
        found = re.fullmatch(r"(\d\d?):([0-5]?\d):([0-5]?\d)([:;.])(\d{1,3})", video.timecode or "", re.ASCII)
        if found is not None:
            hours, minutes, seconds, frames = (int(found[group]) for group in (1, 2, 3, 5))
            # Only these rates fall behind the clock; at others FFmpeg knows no drop-frame.
            drop = found[4] == ";" and self.rate in (Fraction(30000, 1001), Fraction(60000, 1001))
            self.timecode = Timecode(round(self.rate), drop)
            # Timecode counts the frames of the video, of which each may be several at the rate of the edit list.
            frames = min(frames * self.timecode.rate // max(round(video.frame_rate), 1), self.timecode.rate - 1)
            self.begin = self.timecode.count(hours % 24, minutes, seconds, frames)

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
                row.append(Cut(moment, query, label_moment(query, moment), self.begin + first, length, position))
                position += length
            cuts.append(row)
        return cuts


def to_edl(results: Sequence[Grounding], video: VideoInfo) -> str:
    """Writes the moments as cuts that follow each other: query after query, best first.

    Source timecode is that of the video, else it begins at 00:00:00:00; record timecode begins at 01:00:00:00. It is
    drop-frame if that of the video is. The format has no field for the rate. Notes are comments on the first event.
    Lines are ASCII, at most 80 characters.
    """
    source = Source(video)
    write = source.timecode.write
    lines = [_line("TITLE: ", source.name), f"FCM: {'' if source.timecode.drop else 'NON-'}DROP FRAME"]
    channels = "B" if video.has_audio else "V"  # both, or video only
    cuts = [*chain(*source.cut(results))]
    if len(cuts) > _MOST_EVENTS:
        warnings.warn(
            f"an EDL of {len(cuts)} events: programs that keep to CMX 3600 read the first {_MOST_EVENTS}; "
            "write .otio or .fcpxml, or fewer moments",
            OutputWarning,
            stacklevel=2,
        )
    for number, cut in enumerate(cuts, start=1):
        position = source.timecode.count(1, 0, 0, 0) + cut.position
        frames = (cut.first, cut.first + cut.length, position, position + cut.length)
        # AX: a source that has no reel, such as a file.
        lines += [
            "",
            f"{number:03d}  AX       {channels}     C        " + " ".join(write(frame) for frame in frames),
            _line("* FROM CLIP NAME: ", source.name),
            _line(_COMMENT, cut.label),
        ]
        if number == 1:  # OpenTimelineIO reads no comments before the first event
            for note in label_notes(results):
                lines += textwrap.wrap(_to_ascii(note), _LINE, initial_indent=_COMMENT, subsequent_indent=_COMMENT)
    return "\n".join(lines) + "\n"


def _line(head: str, text: str) -> str:
    """A line of text in ASCII: letters lose their accents, other characters become ``?``.

    Example:
        >>> _line("TITLE: ", "café 切.mp4")
        'TITLE: cafe ?.mp4'
    """
    line = head + _to_ascii(text)
    return line if len(line) <= _LINE else f"{line[: _LINE - 3]}..."


def _to_ascii(text: str) -> str:
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(letters).encode("ascii", "replace").decode("ascii")


_FORMAT, _ASSET = "r1", "r2"


def to_fcpxml(results: Sequence[Grounding], video: VideoInfo, *, reference: str | None = None) -> str:
    """Writes the moments twice: as keywords on the video, and as a project that plays them, best first for each query.

    A comma would end a keyword, so it becomes ``;``. Times are exact multiples of a frame's length, and begin with the
    video's timecode. Both have the notes. The ``reference`` to the video is as in `Source`.
    """
    source = Source(video, reference)
    kind = "DF" if source.timecode.drop else "NDF"

    def time(frames: int) -> str:
        return f"{frames * source.rate.denominator}/{source.rate.numerator}s" if frames else "0s"

    document = Element("fcpxml", version="1.8")
    resources = SubElement(document, "resources")
    picture = {"frameDuration": time(1), "width": str(video.width), "height": str(video.height)}
    SubElement(resources, "format", {"id": _FORMAT, **picture})
    whole = {"name": source.name, "start": time(source.begin), "duration": time(source.length), "format": _FORMAT}
    content = {"hasVideo": "1", "hasAudio": "1"} if video.has_audio else {"hasVideo": "1"}
    SubElement(resources, "asset", {"id": _ASSET, "src": source.url, **content, **whole})

    event = SubElement(SubElement(document, "library"), "event", name=source.name)
    clip = SubElement(event, "asset-clip", {"ref": _ASSET, "tcFormat": kind, **whole})
    project = SubElement(event, "project", name=source.name)
    sequence = SubElement(project, "sequence", format=_FORMAT, tcStart="0s", tcFormat=kind)
    if notes := "\n".join(label_notes(results)):
        SubElement(clip, "note").text = SubElement(sequence, "note").text = notes
    spine = SubElement(sequence, "spine")
    cuts = [*chain(*source.cut(results))]
    for cut in cuts:
        extent = {"start": time(cut.first), "duration": time(cut.length)}
        SubElement(clip, "keyword", {"value": cut.query.replace(",", ";"), "note": cut.label, **extent})
        place = {"name": cut.label, "offset": time(cut.position), "format": _FORMAT, "tcFormat": kind}
        SubElement(spine, "asset-clip", {"ref": _ASSET, **place, **extent})
    sequence.set("duration", time(sum(cut.length for cut in cuts)))
    ElementTree.indent(document)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{ElementTree.tostring(document, "unicode")}\n'
