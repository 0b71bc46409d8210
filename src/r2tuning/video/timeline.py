"""When the frames of a stream are shown, from the timestamps of its packets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

import numpy as np
from av.format import Flags
from av.packet import Packet
from av.video.stream import VideoStream

# Containers with these traits state no length: FFmpeg guesses one from the bit rate or the last timestamps.
_NO_DECLARED_LENGTH = cast(int, (Flags.ts_discont | Flags.no_timestamps | Flags.generic_index).value)

# Seconds. A longer pause between two frames is a damaged timestamp, which would stretch a video to years, or the clock
# of another recording.
_LONGEST_GAP = 3600


@dataclass(frozen=True)
class Timeline:
    """When the frames of a stream are shown, in ticks of ``time_base`` seconds."""

    ticks: np.ndarray  # int64 [n], n ≥ 1, of each frame, ascending without repeats
    end: int  # of the last frame
    time_base: Fraction
    stamped: bool  # whether the file says when each frame is shown; otherwise frames take the ticks in turn
    declared: Fraction | None  # seconds of video that the file's header states
    lost: int  # stored frames missing in ticks: they come before the first that decodes, or their times are damaged
    key_ticks: np.ndarray  # int64 [k], of stored key frames; without stamps, off by the few B-frames before each

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame shown to the end of the last one."""
        return (self.end - int(self.ticks[0])) * self.time_base

    def starting_at(self, tick: int) -> Timeline:
        """Copies the timeline without the frames before ``tick``, which cannot be decoded."""
        first = int(np.searchsorted(self.ticks, tick))
        if not self.stamped or first >= len(self.ticks):
            return self
        passed = int(self.ticks[first] - self.ticks[0]) * self.time_base
        declared = None if self.declared is None else self.declared - passed
        return replace(self, ticks=self.ticks[first:], declared=declared, lost=self.lost + first)


def read_timeline(stream: VideoStream, packets: Iterable[Packet[VideoStream]]) -> Timeline | None:
    """Reads the timestamps of all packets of an open stream, in file order; None if no packet holds a frame.

    Frame counts, average rates and lengths stated in headers are too often wrong (MKV, WebM, variable rate) to be
    trusted. Packets that an edit list hides are omitted.
    """
    shown: list[int | None] = []
    decoded: list[int | None] = []
    lengths: list[int] = []
    keys: list[bool] = []
    for packet in packets:
        if packet.is_discard:
            continue
        shown.append(packet.pts)
        decoded.append(packet.dts)
        lengths.append(packet.duration or 0)
        keys.append(packet.is_keyframe)
    if not lengths or stream.time_base is None:
        return None

    # AVI stores no presentation times: those that FFmpeg gives are in decoding order, where B-frames are shuffled.
    stamped = stream.container.format.name != "avi" and any(tick is not None for tick in shown)
    times = _fill_in(shown if stamped else decoded, lengths)
    longest = int(_LONGEST_GAP / stream.time_base)
    every_tick = np.unique(times)
    ticks = find_longest_run(every_tick, longest)
    first, last = int(ticks[0]), int(ticks[-1])
    length = lengths[int(np.flatnonzero(times == last)[0])]
    if not 0 < length <= longest:
        length = last - int(ticks[-2]) if len(ticks) > 1 else 1
    key_ticks = times[keys]
    return Timeline(
        ticks=ticks,
        end=last + length,
        time_base=stream.time_base,
        stamped=stamped,
        declared=_declared_duration(stream, first),
        lost=len(every_tick) - len(ticks),
        key_ticks=key_ticks[(key_ticks >= first) & (key_ticks <= last)],
    )


def find_longest_run(ticks: np.ndarray, longest_gap: int) -> np.ndarray:
    """Finds the run with the most times and no gap above ``longest_gap``; of equals, the earliest.

    Example:
        >>> find_longest_run(np.array([-500, 0, 1, 2, 900]), 100)
        array([0, 1, 2])
    """
    runs = np.split(ticks, np.flatnonzero(np.diff(ticks) > longest_gap) + 1)
    return max(runs, key=len)


def _fill_in(times: list[int | None], lengths: list[int]) -> np.ndarray:
    """Replaces unknown times by the end of the packet before."""
    filled = []
    following = 0
    for time, length in zip(times, lengths, strict=True):
        filled.append(following if time is None else time)
        following = filled[-1] + length
    return np.array(filled, dtype=np.int64)


def find_frame_rate(
    ticks: np.ndarray, end: int, time_base: Fraction, guesses: Iterable[Fraction | None] = ()
) -> tuple[Fraction, bool]:
    """Finds the frame rate behind rounded timestamps, and whether it is variable.

    A rate explains ascending ``ticks`` if they all lie within one rounding step of its grid. The step is a tick, or a
    millisecond if the video has passed through a container that rounds to those. The first rate that explains them
    wins: the ``guesses`` of a header or FFmpeg, then the whole number and the NTSC rate (n·1000/1001) nearest to the
    mean, then the simplest fraction near it. A variable rate is the frame count over the duration.

    Example:
        >>> find_frame_rate(np.array([0, 33, 67, 100, 133]), 167, Fraction(1, 1000))
        (Fraction(30, 1), False)
        >>> find_frame_rate(np.array([0, 1, 2, 7]), 8, Fraction(1, 10))
        (Fraction(5, 1), True)
    """
    count = len(ticks)
    mean = count / ((end - int(ticks[0])) * time_base)
    known = [guess for guess in guesses if guess]
    if count == 1:
        return (known or [mean])[0], False
    mean_inside = (count - 1) / ((int(ticks[-1]) - int(ticks[0])) * time_base)
    ntsc = Fraction(round(mean_inside * Fraction(1001, 1000))) * Fraction(1000, 1001)
    simplest = [mean_inside.limit_denominator(limit) for limit in (10, 1001, 1_000_000)]
    candidates = [*known, Fraction(round(mean_inside)), ntsc, *simplest]
    for step in (Fraction(1), Fraction(1, 1000) / time_base):
        for rate in filter(None, candidates):
            strayed = (ticks - ticks[0]) - np.arange(count) * float(1 / (rate * time_base))
            # At most 1 if each tick was rounded to the nearest.
            if float(np.ptp(strayed)) <= max(step, Fraction(1)) + Fraction(1, 1000):
                return rate, False
    return mean, True


def _declared_duration(stream: VideoStream, first: int) -> Fraction | None:
    assert stream.time_base is not None
    tag = stream.metadata.get("DURATION")  # Matroska, where it counts from zero: "00:01:02.345000000"
    if tag is not None:
        try:
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds.strip("\0 ")) - first * stream.time_base
        except ValueError:
            return None  # not a duration
    if stream.container.format.flags & _NO_DECLARED_LENGTH or not stream.duration:
        return None
    return stream.duration * stream.time_base
