"""A video as editing programs see it: frames at a fixed rate, counted from the first one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from r2tuning.output.text.labels import label_moment, show_on_one_line
from r2tuning.results import Grounding
from r2tuning.types import VideoInfo

RATES = tuple(
    sorted([Fraction(n) for n in (24, 25, 30, 48, 50, 60)] + [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60)])
)
"""Frame rates that every editing program knows, lowest first."""

FINE_RATE = Fraction(60)
"""For videos whose frames fall on none of `RATES`, above all those of a variable rate."""

_SAME = 1e-4  # relative; 24 and 24000/1001 differ ten times as much


def choose_rate(video: VideoInfo) -> Fraction:
    """Chooses the rate at which an editing program counts the frames of a video.

    Args:
        video: Facts about the video. Its rate may be off by 0.01 %, as rates read from rounded timestamps are.

    Returns:
        The lowest of `RATES` that is the video's rate or a whole multiple of it, so that every frame falls on one;
        `FINE_RATE` if there is none or the rate is variable.

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
    return FINE_RATE


@dataclass(frozen=True)
class Cut:
    """A moment as a piece of the video.

    Attributes:
        label: Query and score, on one line.
        first: Its first frame; the video's first one is 0.
        length: How many frames it has, at least 1.
    """

    label: str
    first: int
    length: int


@dataclass(frozen=True)
class Source:
    """A video, counted in frames.

    Attributes:
        name: The file's name on one line, without its folder.
        url: The file as a percent-encoded URL.
        rate: Frames per second, see `choose_rate`.
        length: Its frames at that rate, at least 1.
    """

    name: str
    url: str
    rate: Fraction
    length: int

    @classmethod
    def of(cls, video: VideoInfo) -> Source:
        """Takes over the facts about a video."""
        rate = choose_rate(video)
        return cls(
            name=show_on_one_line(Path(video.path).name),
            url=Path(os.path.abspath(video.path)).as_uri(),  # noqa: PTH100  (Path.absolute keeps ..)
            rate=rate,
            length=max(round(Fraction(video.duration) * rate), 1),
        )

    def cut(self, result: Grounding) -> list[Cut]:
        """Rounds moments to the nearest frames, inside the video and at least one frame long; best first."""
        cuts = []
        for moment in result.moments:
            first = min(max(self._nearest_frame(moment.start - result.start), 0), self.length - 1)
            end = min(max(self._nearest_frame(moment.end - result.start), first + 1), self.length)
            cuts.append(Cut(label_moment(result.query, moment), first, end - first))
        return cuts

    def _nearest_frame(self, seconds: float) -> int:
        # As a fraction: an hour of frames times 1001 would cost a float its last digits.
        return round(Fraction(float(seconds)) * self.rate)
