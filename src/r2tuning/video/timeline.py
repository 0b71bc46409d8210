"""When the frames of a stream are shown, from the timestamps of its packets, and where recordings are joined."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from av.format import Flags
from av.packet import Packet
from av.video.stream import VideoStream

from r2tuning.video.clock import Clock, Stamps, find_clock

# Seconds. FFmpeg and players take a longer pause in a broadcast format for a joint.
_JOINT_PAUSE = Fraction(10)
# Seconds. Where a playlist says that there are joints, shorter ones are, too.
_LISTED_PAUSE = Fraction(1, 2)

# Bytes of a packet of an MPEG transport stream (ISO/IEC 13818-1, 2.4.3), and how far back the one before is looked for.
_PACKET = 188
_LOOK_BACK = 1 << 20


class JointTest(NamedTuple):
    """After which pauses, in seconds, another recording may begin, and whether one begins at a place in the file."""

    pause: Fraction
    begins_at: Callable[[int | None], bool]


def choose_joint_test(stream: VideoStream, path: str | os.PathLike[str]) -> JointTest | None:
    """Chooses the test for the format of an open stream; None if its recordings do not begin with later clocks.

    A transport stream numbers its packets, and a recorder that really paused goes on counting. A playlist says itself
    whether it has joints.
    """
    container = stream.container
    if not container.format.flags & cast(int, Flags.ts_discont.value):
        return None
    if container.format.name == "hls":
        joined = "#EXT-X-DISCONTINUITY\n" in Path(path).read_text(errors="replace").replace("\r", "\n")
        return JointTest(_LISTED_PAUSE, lambda _: True) if joined else None
    if container.format.name == "mpegts":
        return JointTest(_JOINT_PAUSE, lambda place: not goes_on_counting(path, place))
    return JointTest(_JOINT_PAUSE, lambda _: True)


def goes_on_counting(path: str | os.PathLike[str], place: int | None) -> bool:
    """Whether the transport packet at ``place`` carries the number after that of the last one of its stream."""
    if place is None:
        return False
    begin = max(place - _LOOK_BACK // _PACKET * _PACKET, place % _PACKET)
    with Path(path).open("rb") as file:
        file.seek(begin)
        data = file.read(place - begin + _PACKET)
    packets = [data[i : i + _PACKET] for i in range(0, len(data) - _PACKET + 1, _PACKET)]
    if not packets or any(packet[0] != 0x47 for packet in packets[-2:]):
        return False  # another layout, such as that of Blu-ray discs
    *earlier, last = packets
    for packet in reversed(earlier):
        if packet[0] == 0x47 and _stream_number(packet) == _stream_number(last):
            return (packet[3] + 1) % 16 == last[3] % 16
    return False


def _stream_number(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


# Containers with these traits state no length: FFmpeg guesses one from the bit rate or the last timestamps.
_NO_DECLARED_LENGTH = cast(int, (Flags.ts_discont | Flags.no_timestamps | Flags.generic_index).value)
# These state the length of each stream. Others state that of the file, which FFmpeg repeats for each stream.
_STREAM_LENGTHS = {"avi", "mov,mp4,m4a,3gp,3g2,mj2"}
# Stored times start again at zero after so many ticks.
_MODULI = {"mpegts": 1 << 33, "mpeg": 1 << 33, "hls": 1 << 33, "flv": 1 << 32}

# Seconds. After a longer pause, a single last frame that is no key frame has a damaged time.
_LONGEST_PAUSE = 3600
# The share of frames that are shown for the usual time in a video with an even rate.
_EVEN = 0.75
# Seconds. A picture is said to outlast its own length only if the sound goes on for this long.
_STILL = 1


@dataclass(frozen=True)
class Timeline:
    """When the frames of a stream are shown, in ticks of ``time_base`` seconds."""

    ticks: np.ndarray  # int64 [n], n ≥ 1, of each frame, ascending without repeats
    end: int  # of the last frame, as shown by a player
    stored_end: int  # of the last frame, by its own length
    time_base: Fraction
    stamped: bool  # whether the file says when each frame is shown; otherwise frames take the ticks in turn
    declared: Fraction | None  # seconds of video that the file's header states
    lost: int  # stored frames missing in ticks: they come before the first that decodes, or their times are damaged
    damaged: int  # of those, the number with damaged times
    key_ticks: np.ndarray  # int64 [k], of stored key frames; without stamps, off by the few B-frames before each
    clock: Clock | None = None  # the corrected times of the packets; None if they are sound as read

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame shown to the end of the last one."""
        return (self.end - int(self.ticks[0])) * self.time_base

    @property
    def stored_duration(self) -> Fraction:
        """The same, if the last frame is shown for no longer than its own length."""
        return (self.stored_end - int(self.ticks[0])) * self.time_base

    @property
    def interval(self) -> Fraction:
        """Seconds that most frames are shown for."""
        gaps = np.diff(self.ticks)
        return (int(np.median(gaps)) if len(gaps) else self.stored_end - int(self.ticks[0])) * self.time_base

    @property
    def ends_with_still(self) -> bool:
        """Whether the last frame's own length means little.

        It is the only one, or frames last a second or more, or are spaced unevenly.
        """
        gaps = np.diff(self.ticks)
        if not len(gaps) or self.interval >= _STILL:
            return True
        return float(np.mean(np.abs(gaps - np.median(gaps)) * float(self.time_base) <= 0.002)) < _EVEN

    def starting_at(self, tick: int) -> Timeline:
        """Copies the timeline without the frames before ``tick``, which cannot be decoded."""
        first = int(np.searchsorted(self.ticks, tick))
        if not self.stamped or first >= len(self.ticks):
            return self
        passed = int(self.ticks[first] - self.ticks[0]) * self.time_base
        declared = None if self.declared is None else self.declared - passed
        return replace(self, ticks=self.ticks[first:], declared=declared, lost=self.lost + first)

    def ending_with_sound(self, sound_end: Fraction) -> Timeline:
        """Copies the timeline with the last picture shown until the sound ends, at a time in seconds.

        Players do so with every video. Here, a video ends with its last frame unless that is a still picture.
        """
        end = int(sound_end / self.time_base)
        lasts = self.ends_with_still and (end - self.stored_end) * self.time_base >= _STILL
        return replace(self, end=end) if lasts else self

    def read(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """Passes on the packets of the file, from its beginning, with their times on this timeline."""
        return iter(packets) if self.clock is None else self.clock.apply(packets)


def read_timeline(
    stream: VideoStream,
    packets: Iterable[Packet[VideoStream]],
    joints: JointTest | None = None,
) -> Timeline | None:
    """Reads the timestamps of all packets of an open stream, in file order; None if no packet holds a frame.

    Frame counts, average rates and lengths stated in headers are too often wrong (MKV, WebM, variable rate) to be
    trusted. Packets that an edit list hides are omitted. ``joints`` tells where another recording begins.
    """
    stamps = Stamps([], [], [], [])
    hidden: list[bool] = []
    places: list[int | None] = []
    for packet in packets:
        stamps.shown.append(packet.pts)
        stamps.decoded.append(packet.dts)
        stamps.lengths.append(packet.duration or 0)
        stamps.keys.append(packet.is_keyframe)
        hidden.append(packet.is_discard)
        places.append(packet.pos)
    if all(hidden) or stream.time_base is None:
        return None

    kind, time_base = stream.container.format.name, stream.time_base
    # AVI stores no presentation times: those that FFmpeg gives are in decoding order, where B-frames are shuffled.
    stamped = kind != "avi" and any(tick is not None for tick in stamps.shown)
    clock = None
    if stamped:
        depth, pause, is_joint = stream.codec_context.reorder_depth, 0.0, None
        if joints is not None:
            test, pause = joints.begins_at, float(joints.pause / time_base)
            is_joint = lambda number: test(places[number])  # noqa: E731  (mypy knows no def that may be None)
        clock = find_clock(stamps, depth, _MODULI.get(kind, 0), pause, is_joint)
    visible = ~np.array(hidden)
    lengths = np.array(stamps.lengths)[visible]
    keys = np.array(stamps.keys)[visible]
    if clock is not None:
        times = clock.shown[visible]
    else:
        raw = stamps.shown if stamped else stamps.decoded
        times = _fill_in([time for time, omit in zip(raw, hidden, strict=True) if not omit], lengths.tolist())
    every_tick = np.unique(times)
    ticks = _omit_stray_end(every_tick, times[keys], _LONGEST_PAUSE / time_base)
    first, last = int(ticks[0]), int(ticks[-1])
    length = int(lengths[int(np.flatnonzero(times == last)[0])])
    if not 0 < length <= _LONGEST_PAUSE / time_base:
        length = last - int(ticks[-2]) if len(ticks) > 1 else 1
    key_ticks = times[keys]
    damaged = len(every_tick) - len(ticks)
    return Timeline(
        ticks=ticks,
        end=last + length,
        stored_end=last + length,
        time_base=time_base,
        stamped=stamped,
        declared=_declared_duration(stream, first, len(hidden)),
        lost=damaged,
        damaged=damaged,
        key_ticks=key_ticks[(key_ticks >= first) & (key_ticks <= last)],
        clock=clock,
    )


def _omit_stray_end(ticks: np.ndarray, key_ticks: np.ndarray, longest: Fraction | float) -> np.ndarray:
    """Omits a last frame that comes after a pause like no other: a damaged time, which would stretch a video to days.

    Recordings that go on after a pause have more than one frame, or a key frame.
    """
    gaps = np.diff(ticks)
    stray = len(gaps) > 1 and gaps[-1] > longest and gaps[-1] > 1000 * gaps[:-1].max() and ticks[-1] not in key_ticks
    return ticks[:-1] if stray else ticks


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

    A rate explains ascending ``ticks`` if they all lie within one rounding step of its grid, no two on one place, and
    three in four follow the one before directly: the others come after lost frames or a pause. The step is a tick, or a
    millisecond if the video has passed through a container that rounds to those. The first rate that explains them
    wins: the ``guesses`` of a header or FFmpeg, then the whole number and the NTSC rate (n·1000/1001) nearest to the
    mean, then the simplest fraction near it. A variable rate is the frame count over the duration.

    Example:
        >>> find_frame_rate(np.array([0, 33, 67, 100, 133]), 167, Fraction(1, 1000))
        (Fraction(30, 1), False)
        >>> find_frame_rate(np.array([0, 40, 80, 120, 240, 280]), 320, Fraction(1, 1000))  # two are lost
        (Fraction(25, 1), False)
        >>> find_frame_rate(np.array([0, 1, 2, 7]), 8, Fraction(1, 10))
        (Fraction(5, 1), True)
    """
    count = len(ticks)
    mean = count / ((end - int(ticks[0])) * time_base)
    known = [guess for guess in guesses if guess]
    if count == 1:
        return (known or [mean])[0], False
    gaps = np.diff(ticks)
    # Gaps count in multiples of the usual one, whose mean is more exact than any single one.
    middle = np.percentile(gaps, 50, method="lower")  # a gap that exists, also of two
    usual = float(gaps[np.abs(gaps - middle) <= middle / 4].mean())
    places = int(np.maximum(np.rint(gaps / usual), 1).sum())
    candidates = list(known)
    for inside in dict.fromkeys((places, count - 1)):
        rate = inside / ((int(ticks[-1]) - int(ticks[0])) * time_base)
        ntsc = Fraction(round(rate * Fraction(1001, 1000))) * Fraction(1000, 1001)
        candidates += [Fraction(round(rate)), ntsc, *(rate.limit_denominator(limit) for limit in (10, 1001, 1_000_000))]
    for step in (Fraction(1), Fraction(1, 1000) / time_base):
        for rate in filter(None, candidates):
            if _explains(rate, ticks, time_base, float(max(step, Fraction(1)) + Fraction(1, 1000))):
                return rate, False
    return mean, True


def _explains(rate: Fraction, ticks: np.ndarray, time_base: Fraction, tolerance: float) -> bool:
    interval = float(1 / (rate * time_base))
    passed = (ticks - ticks[0]).astype(np.float64)
    # The first place may itself be rounded, by less than half an interval.
    places = np.rint((passed - np.median((passed + interval / 2) % interval - interval / 2)) / interval)
    steps = np.diff(places)
    if steps.min() < 1 or np.mean(steps == 1) < _EVEN:
        return False
    # At most 1 if each tick was rounded to the nearest.
    return float(np.ptp(passed - places * interval)) <= tolerance


def _declared_duration(stream: VideoStream, first: int, read: int) -> Fraction | None:
    """Seconds from the first frame to where the header says that the stream ends; None if it does not say so."""
    assert stream.time_base is not None
    container = stream.container
    tag = stream.metadata.get("DURATION")  # Matroska, where it counts from zero: "00:01:02.345000000"
    if tag is not None:
        numbers = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]{1,9})?)[\0 ]*", tag)
        if numbers is None:
            return None  # not a duration
        hours, minutes, seconds = numbers.groups()
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds) - first * stream.time_base
    if container.format.flags & _NO_DECLARED_LENGTH or not stream.duration:
        return None
    if container.format.name not in _STREAM_LENGTHS and container.streams.audio:
        return None  # it may be the sound's
    stored = stream.frames
    if container.format.name != "avi":  # in an AVI file that is cut off, the index is lost too
        stored = min(stored, len(stream.index_entries) or stored)  # edit lists leave some out
    if stored and read >= stored:
        return None  # every stored frame was read, whatever edit lists and headers say
    return stream.duration * stream.time_base
