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
# A few lost frames do not change the result; a larger share may.
_TOLERATED_SHARE = Fraction(1, 100)


class Coverage:
    """How much of a stream could be decoded; with ``keyframes``, how much of its key frames."""

    def __init__(self, timeline: Timeline, frame_rate: Fraction, *, keyframes: bool = False) -> None:
        self.timeline = timeline
        self.keyframes = keyframes
        self.finished = False  # whether the stream was read to its end
        self._interval = 1 / frame_rate
        # After pauses, the mean rate says little about how long a frame is shown.
        self._tolerance = _TOLERATED_FRAMES * min(self._interval, timeline.interval)
        self._decoded = 0
        self._corrupt = 0
        self._end = Fraction(0)

    def add(self, frame: VideoFrame) -> Fraction:
        """Counts a decoded frame; returns when it is shown, in seconds since the first."""
        timeline, tick = self.timeline, frame.pts
        if not timeline.stamped:
            in_turn = timeline.key_ticks if self.keyframes else timeline.ticks
            tick = int(in_turn[min(self._decoded, len(in_turn) - 1)])
        self._decoded += 1
        self._corrupt += frame.is_corrupt
        if tick is None:
            start, self._end = self._end, self._end + self._interval
            return start
        after = int(np.searchsorted(timeline.ticks, tick, side="right"))
        following = int(timeline.ticks[after]) if after < len(timeline.ticks) else timeline.end
        first = int(timeline.ticks[0])
        self._end = (following - first) * timeline.time_base
        return (tick - first) * timeline.time_base

    def add_all(self) -> None:
        """Counts every frame of the timeline as decoded."""
        self._decoded = len(self.timeline.ticks)
        self._end = self.timeline.duration

    @property
    def duration(self) -> Fraction:
        """Usable seconds: those of the timeline, unless frames at its end are missing."""
        promised = self.timeline.duration
        return promised if self.keyframes or promised - self._end <= self._tolerance else self._end

    @property
    def declared(self) -> Fraction:
        """Seconds that the file says it has, by its header or its timestamps."""
        return max(self.timeline.stored_duration, self.timeline.declared or Fraction(0))

    @property
    def stored(self) -> int:
        """Number of frames in the file, of those that are decoded."""
        return len(self.timeline.key_ticks) if self.keyframes else len(self.timeline.ticks) + self.timeline.lost

    @property
    def lost(self) -> int:
        """Number of stored frames that did not decode, or not completely."""
        return max(0, self.stored - self._decoded) + self._corrupt

    @property
    def ended_early(self) -> bool:
        """Whether at least a whole frame is missing at the end."""
        return self.declared - min(self.duration, self.timeline.stored_duration) > self._tolerance

    @property
    def damaged(self) -> bool:
        """Whether too many frames were lost, wherever they were, or any has no place on the timeline."""
        return self.lost > self.stored * _TOLERATED_SHARE or self.timeline.damaged > 0


def decode_in_order(
    stream: VideoStream, coverage: Coverage, threads: int | None = None
) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Decodes all frames of an open stream, or all key frames if ``coverage`` says so, and counts them there.

    Yields seconds since the first frame, and the frame. If ``threads`` is None, the decoder may use every core.
    """
    timeline = coverage.timeline
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads or 0
    packets = timeline.read(read_packets(stream))
    if coverage.keyframes:
        stream.codec_context.skip_frame = "NONKEY"
        packets = (packet for packet in packets if packet.is_keyframe)
    # FFmpeg's HEVC decoder swaps key frames that come without those between, and loses the last.
    separately = coverage.keyframes and stream.codec_context.name == "hevc"
    for frame in _decode_separately(stream, packets) if separately else decode_frames(stream, packets):
        # A time outside the timeline is damaged, which the timeline has counted.
        if not timeline.stamped or frame.pts is None or timeline.ticks[0] <= frame.pts <= timeline.ticks[-1]:
            yield coverage.add(frame), frame
    coverage.finished = True


def _decode_separately(stream: VideoStream, packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
    for packet in packets:
        yield from decode_frames(stream, (packet,))
        stream.codec_context.flush_buffers()
