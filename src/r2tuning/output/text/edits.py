"""A video as editing programs see it: frames at a fixed rate, counted from the first one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from r2tuning.output.text.labels import label_moment, show_on_one_line
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
