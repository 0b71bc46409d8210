"""Facts about a video file, from the timestamps of its packets and one decoded frame."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from fractions import Fraction
from math import atan2, degrees
from pathlib import Path
from typing import cast

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.format import Flags
from av.sidedata.sidedata import SideData
from av.video.stream import VideoStream

from r2tuning.errors import VideoError
from r2tuning.types import VideoInfo
from r2tuning.video.container import decode_frames, find_sounds, open_video, read_packets
from r2tuning.video.losses import find_losses
from r2tuning.video.planned.index import PacketIndex, PacketIndexer
from r2tuning.video.timeline import Timeline, choose_joint_test, find_frame_rate, read_timeline

# Seconds.
_LONGEST_SILENCE = 60


@dataclass(frozen=True)
class Survey:
    """A file's facts, the exact timeline they come from, and an index of its packets if those tell enough."""

    info: VideoInfo
    timeline: Timeline
    index: PacketIndex | None
    losses: tuple[str, ...] = ()  # what the file has, or names, and FFmpeg does not read


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Reads a video file's facts from the timestamps of its packets; only one frame is decoded.

    Times are those of a player's clock. In MP4, MKV, WebM and similar formats these are the stored timestamps, so a
    file whose first frame is stamped 8.33 s starts at 8.33. Formats whose clock may start anywhere (FFmpeg's
    ``AVFMT_TS_DISCONT``, such as MPEG-TS) count from the first timestamp of the video and its sound. Where recordings
    are joined, times go on without a gap. Mirroring and the sample aspect ratio are ignored: width and height count
    stored pixels, turned upright.

    Raises:
        VideoError: The file cannot be read, is not a video, or none of its frames can be decoded.
    """
    return survey(path).info


def survey(path: str | os.PathLike[str]) -> Survey:
    """Does the work of :func:`probe`, and also returns what it was worked out from."""
    with open_video(path) as stream:
        indexer = PacketIndexer(stream)
        packets = indexer.watch(read_packets(stream))
        timeline = read_timeline(stream, packets, choose_joint_test(stream, path))
        sound = next(iter(find_sounds(stream)), None)
        origin = _clock_origin(stream, sound)
        stated_end = _stated_end(stream)
    if timeline is None:
        raise VideoError(f"{path} contains no video frames; it was probably cut off: copy or download it again")
    if sound is not None:
        timeline = _compare_with_sound(path, timeline, stated_end)
    # Opened again, because not every format can be rewound.
    with open_video(path) as stream:
        frame = next(decode_frames(stream, timeline.read(read_packets(stream))), None)
        if frame is None:
            raise VideoError(
                f"{path}: none of its {len(timeline.ticks)} video frames can be decoded; copy or download it again"
            )
        guesses = (stream.guessed_rate, stream.base_rate, stream.average_rate)
        codec = stream.codec_context.codec.canonical_name
        tags = [stream.metadata, stream.container.metadata, *(other.metadata for other in stream.container.streams)]
        timecode = next((v for tag in tags for key, v in tag.items() if key.lower() == "timecode"), None)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    rotation = find_rotation(struct.unpack("=9i", bytes(matrix))) if isinstance(matrix, SideData) else 0
    width, height = (frame.height, frame.width) if rotation in (90, 270) else (frame.width, frame.height)
    if frame.pts is not None:
        timeline = timeline.starting_at(frame.pts)
    rate, variable = find_frame_rate(timeline.ticks, timeline.end, timeline.time_base, guesses)
    losses = find_losses(Path(path), states_length=timeline.declared is not None)
    info = VideoInfo(
        path=os.fspath(path),
        duration=float(timeline.duration),
        start=float(int(timeline.ticks[0]) * timeline.time_base - origin),
        width=width,
        height=height,
        rotation=rotation,
        frame_rate=rate,
        variable_frame_rate=variable,
        codec=codec,
        has_audio=sound is not None,
        timecode=timecode,
    )
    return Survey(info, timeline, indexer.finish(timeline), tuple(losses))


def find_rotation(matrix: tuple[int, ...]) -> int:
    """Finds how far a display matrix, nine numbers by rows, turns the picture clockwise: 0, 90, 180 or 270 degrees.

    The first two rows map the picture's right and down. A mirrored picture counts as mirrored left to right, then
    turned.

    Example:
        >>> find_rotation((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
        90
        >>> find_rotation((-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))  # mirrored, not turned
        0
    """
    a, b, _, c, d = matrix[:5]
    if a * d - b * c < 0:
        a, b = -a, -b
    return round(degrees(atan2(b, a)) / 90) * 90 % 360


def _clock_origin(stream: VideoStream, sound: AudioStream | None) -> Fraction:
    """The stored time that a player shows as zero."""
    if not stream.container.format.flags & cast(int, Flags.ts_discont.value):
        return Fraction(0)
    starts = [
        s.start_time * s.time_base
        for s in (stream, sound)
        if s is not None and s.start_time is not None and s.time_base is not None
    ]
    return min(starts, default=Fraction(0))


def _stated_end(stream: VideoStream) -> Fraction:
    """Seconds at which the file ends at the latest, by its header; 0 if that does not say."""
    container = cast(InputContainer, stream.container)
    if container.duration is None:
        return Fraction(0)
    start = max(container.start_time or 0, 0)
    return Fraction(container.duration + start, 1_000_000)


def _compare_with_sound(path: str | os.PathLike[str], timeline: Timeline, stated_end: Fraction) -> Timeline:
    """Ends a timeline with the sound where a player does, if the header says that there is more than pictures."""
    end = timeline.stored_end * timeline.time_base
    if timeline.clock is not None or not timeline.ends_with_still or stated_end - end < 1:
        return timeline
    last = Fraction(0)
    with open_video(path) as stream:
        sound = next(iter(find_sounds(stream)), None)
        if sound is None or sound.time_base is None:
            return timeline
        for packet in read_packets(cast(VideoStream, sound)):
            if packet.pts is not None:
                begin = packet.pts * sound.time_base
                # A damaged time, unlike the others, does not go on from the packet before.
                if begin - last < _LONGEST_SILENCE:
                    last = max(last, begin + (packet.duration or 0) * sound.time_base)
    return timeline.ending_with_sound(last)
