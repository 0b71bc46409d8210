"""Decodes a stream from beginning to end, and keeps count of what was lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from r2tuning.video.container import decode_frames, read_packets
from r2tuning.video.timeline import Timeline

# Timestamps may promise half a frame more than there is; a whole missing frame is damage.
_TOLERATED_FRAMES = Fraction(3, 2)
# Single frames lost on the way leave the answer as it was; a larger share may not.
_TOLERATED_SHARE = Fraction(1, 100)


class Coverage:
    """How much of a stream could be decoded.

    Args:
        timeline: Its timeline.
        frame_rate: Frames per second, on average.
        keyframes: Whether only key frames are wanted.
    """

    def __init__(self, timeline: Timeline, frame_rate: Fraction, *, keyframes: bool = False) -> None:
        self._timeline = timeline
        self._interval = 1 / frame_rate
        self._keyframes = keyframes
        self._decoded = 0
        self._corrupt = 0
        self._end = Fraction(0)

    def add(self, frame: VideoFrame) -> Fraction:
        """Counts a frame that was decoded; returns when it is shown, in seconds since the first."""
        start, self._end = self._find_times(frame)
        self._decoded += 1
        self._corrupt += frame.is_corrupt
        return start

    def add_all(self) -> None:
        """Counts every frame of the timeline as decoded."""
        self._decoded = len(self._timeline.ticks)
        self._end = self._timeline.duration

    @property
    def duration(self) -> Fraction:
        """Seconds that could be used: those of the timeline, unless frames at its end are missing."""
        promised = self._timeline.duration
        if self._keyframes or promised - self._end <= self._tolerance:
            return promised
        return self._end

    @property
    def declared(self) -> Fraction:
        """Seconds that the file says it has, by its header or its timestamps."""
        return max(self._timeline.duration, self._timeline.declared or Fraction(0))

    @property
    def stored(self) -> int:
        """Number of frames in the file, of those that were wanted."""
        return len(self._timeline.key_ticks) if self._keyframes else len(self._timeline.ticks) + self._timeline.lost

    @property
    def lost(self) -> int:
        """Number of stored frames that did not decode, or not completely."""
        return max(0, self.stored - self._decoded) + self._corrupt

    @property
    def ended_early(self) -> bool:
        """Whether at least a whole frame is missing at the end."""
        return self.declared - self.duration > self._tolerance

    @property
    def damaged(self) -> bool:
        """Whether too many frames were lost, wherever they were."""
        return self.lost > self.stored * _TOLERATED_SHARE

    @property
    def _tolerance(self) -> Fraction:
        return _TOLERATED_FRAMES * self._interval

    def _find_times(self, frame: VideoFrame) -> tuple[Fraction, Fraction]:
        """When ``frame`` is shown and when the next one is, in seconds since the first."""
        ticks = self._timeline.ticks
        if self._timeline.stamped:
            if frame.pts is None:
                return self._end, self._end + self._interval
            tick = frame.pts
        else:
            turns = self._timeline.key_ticks if self._keyframes else ticks
            tick = int(turns[min(self._decoded, len(turns) - 1)])
        after = int(np.searchsorted(ticks, tick, side="right"))
        next_tick = int(ticks[after]) if after < len(ticks) else self._timeline.end
        first, base = int(ticks[0]), self._timeline.time_base
        return (tick - first) * base, (next_tick - first) * base


class FrameReader:
    """Iterates over the frames of a stream, each with its time in seconds since the first one; can be used once.

    Attributes:
        finished: Whether all has been read.

    Args:
        stream: An open stream, read from its beginning.
        timeline: Its timeline.
        coverage: Counts the frames.
        keyframes: Whether to decode key frames only.
        threads: Most threads of the decoder; None for one per core.
    """

    def __init__(
        self,
        stream: VideoStream,
        timeline: Timeline,
        coverage: Coverage,
        *,
        keyframes: bool = False,
        threads: int | None = None,
    ) -> None:
        self.finished = False
        self._stream = stream
        self._timeline = timeline
        self._coverage = coverage
        self._keyframes = keyframes
        self._threads = threads

    def __iter__(self) -> Iterator[tuple[Fraction, VideoFrame]]:
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = self._threads or 0
        packets = read_packets(self._stream)
        if self._keyframes:
            self._stream.codec_context.skip_frame = "NONKEY"
            packets = (packet for packet in packets if packet.is_keyframe)
        first, last = self._timeline.ticks[0], self._timeline.ticks[-1]
        for frame in self._decode(packets):
            if self._timeline.stamped and frame.pts is not None and not first <= frame.pts <= last:
                continue  # its time is damaged, which the timeline has counted
            yield self._coverage.add(frame), frame
        self.finished = True

    def _decode(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        if not self._keyframes or self._stream.codec_context.name != "hevc":
            yield from decode_frames(self._stream, packets)
            return
        # FFmpeg's HEVC decoder swaps key frames that come without those between, and loses the last.
        for packet in packets:
            yield from decode_frames(self._stream, (packet,))
            self._stream.codec_context.flush_buffers()
