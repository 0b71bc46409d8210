"""A video to be cut: finds the frames shown in a span, and decodes them."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from math import ceil, isfinite
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from r2tuning.errors import VideoError
from r2tuning.output.media.picture import deinterlace, measure_aspect, to_rgb
from r2tuning.output.media.sound import Sound, find_sound
from r2tuning.video.container import decode_frames, open_video, read_packets
from r2tuning.video.probe import survey

# Seconds. People and JSON write times in milliseconds: 0.292 means the frame shown at 0.29196.
_TOLERANCE = Fraction(1, 2000)
# Seconds. If nothing new is shown for this long, the frame already on the screen belongs to the span; and the last
# frame of a span is not cut shorter than this.
_STILL = Fraction(1, 4)


@dataclass(frozen=True)
class Stretch:
    """The frames shown in a span of a video, in ticks of its stream."""

    ticks: np.ndarray  # int64 [n], n ≥ 1, when each frame appears; the first may do so before ``begin``
    begin: int
    end: int


class Footage:
    """A video file, read once and then cut as often as needed.

    Attributes:
        info: Facts about the file.
        time_base: Seconds per tick.
        stamped: Whether the file says when each frame is shown.
        sound: Its sound; None if it has none that can be decoded.
        fixed_aspect: Width over height of the pixels, if the container says so; None if only the frames do, and it may
            change.
        said_sound: Whether it was said that copies have its sound encoded again.

    Raises:
        VideoError: The file cannot be read, is not a video, or none of its frames can be decoded.
    """

    def __init__(self, video: str | os.PathLike[str]) -> None:
        known = survey(video)
        self.info = known.info
        self.time_base = known.timeline.time_base
        self.stamped = known.timeline.stamped
        self.said_sound = False
        self._timeline, self._index = known.timeline, known.index
        # int64 [k], ascending, when the frames appear at which decoding can begin.
        entries = known.timeline.key_ticks if known.index is None else known.index.ticks[known.index.entries]
        self._entries = np.sort(entries)
        self._origin = int(self._timeline.ticks[0]) * self.time_base - Fraction(self.info.start)
        with open_video(video) as stream:
            self.sound: Sound | None = find_sound(stream)
            aspect = stream.sample_aspect_ratio
            self.fixed_aspect = aspect if aspect and aspect != stream.codec_context.sample_aspect_ratio else None
            clock = known.timeline.clock
            if self.sound is not None and clock is not None and clock.starts:
                stored = [packet.dts for packet in read_packets(stream)]
                moved = [clock.decoded[start] - (stored[start] or 0) for start in clock.starts]
                self.sound = replace(self.sound, shifts=tuple(int(ticks) * self.time_base for ticks in moved))

    def find_shape(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height of a frame, as stored, if its pixels were square; a player shows it turned."""
        return max(1, round(frame.width * (self.fixed_aspect or measure_aspect(frame)))), frame.height

    def turn_upright(self, frame: VideoFrame, largest: int) -> np.ndarray:
        """A frame as a player shows it, uint8 RGB ``[h, w, 3]``, with square pixels and sides up to ``largest``."""
        shape = self.find_shape(frame)
        width, height = (max(2, round(side * min(1.0, largest / max(shape)))) for side in shape)
        image = to_rgb(frame, width, height).to_ndarray()
        return np.asarray(np.rot90(image, -self.info.rotation // 90))

    def find(self, start: float, end: float) -> Stretch:
        """Finds the frames that appear in ``[start, end)``, in seconds on the player's clock; at least one.

        If nothing new appears for a while, as in recorded slides, the frame on the screen at ``start`` counts too. The
        last frame keeps its length, unless it stays on the screen well beyond ``end``. Raises `ValueError` if the span
        does not end after it starts, and `VideoError` if the video shows nothing in it.
        """
        if not (isfinite(start) and isfinite(end) and start < end):
            raise ValueError(f"a span must end after it starts, not run from {start} s to {end} s")
        ticks, last_end = self._timeline.ticks, self._timeline.end
        begin, stop = max(self._find_tick(start), int(ticks[0])), self._find_tick(end)
        if (last_end - begin) * self.time_base <= 2 * _TOLERANCE or stop <= ticks[0]:
            raise VideoError(
                f"{self.info.path} shows nothing from {start:.3f} s to {end:.3f} s; "
                f"it runs from {self.info.start:.3f} s to {self.info.start + self.info.duration:.3f} s"
            )
        first, after = (int(place) for place in np.searchsorted(ticks, [begin, stop]))
        if first >= after or (int(ticks[first]) - begin) * self.time_base > _STILL:
            first -= 1
            after = max(after, first + 1)
            begin = max(begin, self._find_tick(start, Fraction(0)))
        else:
            begin = int(ticks[first])
        following = int(ticks[after]) if after < len(ticks) else last_end
        whole = max(int(ticks[after - 1]), begin) + ceil(_STILL / self.time_base)
        return Stretch(ticks[first:after], begin, min(following, max(self._find_tick(end, Fraction(0)), whole)))

    def find_shown(self, time: float) -> int:
        """The tick of the frame on the screen at a time in seconds, or of the frame nearest to it."""
        place = int(np.searchsorted(self._timeline.ticks, self._find_tick(time + float(2 * _TOLERANCE)))) - 1
        return int(self._timeline.ticks[max(place, 0)])

    def find_time(self, tick: int) -> float:
        """When a tick is, in seconds on the player's clock."""
        return float(tick * self.time_base - self._origin)

    def list_key_frames(self) -> np.ndarray:
        """When the frames are shown at which decoding can begin, float64 ``[k]`` seconds, ascending."""
        return np.array([self.find_time(tick) for tick in self._entries.tolist()], np.float64)

    def extend_to_key_frame(self, stretch: Stretch) -> Stretch:
        """Extends a stretch backward to the last key frame."""
        ticks, first, last = self._timeline.ticks, int(stretch.ticks[0]), int(stretch.ticks[-1])
        entries = self._entries[self._entries <= first]
        begin = int(entries[-1]) if len(entries) else int(ticks[0])
        return Stretch(ticks[(ticks >= begin) & (ticks <= last)], begin, stretch.end)

    def read_frames(self, ticks: np.ndarray) -> Generator[tuple[int, VideoFrame], None, None]:
        """Decodes the frames that appear at ``ticks``, int64 ``[n]``, n ≥ 1, ascending.

        Seeks to a key frame where that skips any between them. Yields tick and frame, deinterlaced but not turned.
        Damaged frames are missing.
        """
        places = np.searchsorted(self._timeline.ticks, ticks)
        entries = np.searchsorted(self._timeline.ticks, self._entries)
        previous = np.searchsorted(entries, places, side="right") - 1
        begins = np.where(previous >= 0, entries[previous] if len(entries) else 0, 0)
        for run in np.split(ticks, np.flatnonzero(begins[1:] > places[:-1] + 1) + 1):
            with self.open_at(int(run[0])) as (stream, packets):
                yield from self._decode(stream, packets, run)

    @contextmanager
    def open_at(self, tick: int) -> Iterator[tuple[VideoStream, Iterator[Packet[VideoStream]]]]:
        """Opens the video, and yields its stream and the packets from which the frame at ``tick`` can be decoded."""
        with open_video(self.info.path) as stream:
            packets = self._seek(stream, tick)
            if packets is not None:
                yield stream, packets
                return
        with open_video(self.info.path) as stream:  # not every format can be rewound
            yield stream, self._timeline.read(read_packets(stream))

    def _seek(self, stream: VideoStream, tick: int) -> Iterator[Packet[VideoStream]] | None:
        """Seeks to a key frame before ``tick``; None if only reading from the beginning is certain to work."""
        entries = self._entries[self._entries <= tick]
        if not self.stamped or self._timeline.clock is not None or tick == self._timeline.ticks[0]:
            return None
        back = 1 if self._index is not None else 2  # a key frame of unknown kind may need a while to become clear
        while back <= len(entries):
            entry = int(entries[-back])
            try:
                cast(InputContainer, stream.container).seek(entry, stream=stream)
            except av.FFmpegError:
                return None
            packets = read_packets(stream)
            first = next((packet for packet in packets if packet.is_keyframe and packet.pts is not None), None)
            # Some formats seek to the nearest place that they know, which may be too late.
            if first is not None and first.pts is not None and first.pts <= entry:
                return chain([first], packets)
            back *= 2
        return None

    def _find_tick(self, seconds: float, tolerance: Fraction = _TOLERANCE) -> int:
        return ceil((Fraction(seconds) - tolerance + self._origin) / self.time_base)

    def _decode(
        self, stream: VideoStream, packets: Iterable[Packet[VideoStream]], ticks: np.ndarray
    ) -> Iterator[tuple[int, VideoFrame]]:
        stream.thread_type = "AUTO"
        last: int | None = None
        wanted = set(ticks.tolist())
        in_turn = self._timeline.ticks
        for number, frame in enumerate(deinterlace(decode_frames(stream, packets))):
            tick = frame.pts if self.stamped else int(in_turn[min(number, len(in_turn) - 1)])
            # After damage, decoders may give frames out of order.
            if tick is not None and tick in wanted and (last is None or tick > last):
                yield tick, frame
                last = tick
            if tick is not None and tick >= ticks[-1]:
                return
