"""A stretch of a video copied as it is stored: at once and without loss, but only from a key frame on."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.packet import Packet

from r2tuning.errors import VideoError
from r2tuning.media.footage import Footage, Stretch
from r2tuning.media.sound import Sound, read_all_sound_packets, read_sound_packets
from r2tuning.video.source import open_video, read_packets


def copy_stretch(footage: Footage, stretch: Stretch, file: Path) -> None:
    """Copies the packets of pictures and sound into an MP4 file; their timestamps keep them together.

    Pictures needed by the last one are copied too, so that a few frames after the stretch may be shown.

    Args:
        footage: The video.
        stretch: It begins with a key frame.
        file: The file to write.

    Raises:
        VideoError: The video is stored in a way that MP4 does not allow, or none of its packets can be read.
        OSError: The file cannot be written; or another of FFmpeg's errors.
    """
    path, begin = footage.info.path, stretch.begin * footage.time_base
    with closing(_read_video(footage, stretch)) as video:
        decoded = time_decoding([packet.pts for packet in video if packet.pts is not None])
    with (
        closing(_stamp(_read_video(footage, stretch), decoded)) as video,
        closing(_read_sound(path, footage.sound, begin, stretch.end * footage.time_base)) as sound,
    ):
        starts = [next(video, None), next(sound, None)]
        if starts[0] is None:
            raise VideoError(f"{path}: none of these frames can be read; copy or download it again")
        with av.open(str(file), "w", format="mp4", options={"movflags": "faststart"}) as container:
            try:
                outputs = {p.stream.index: container.add_stream_from_template(p.stream, True) for p in starts if p}
            except ValueError as error:  # MP4 does not take the codec
                raise VideoError(f"{path} cannot be copied ({error}); cut it exactly, without --fast") from None
            pieces = [chain([first], rest) for first, rest in zip(starts, (video, sound), strict=True) if first]
            for packet in heapq.merge(*pieces, key=_find_time):
                shift = round(begin / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) - shift, (packet.dts or 0) - shift
                packet.stream = outputs[packet.stream.index]
                container.mux(packet)


def time_decoding(shown: Sequence[int]) -> list[int]:
    """Finds times for decoding, which files such as MKV do not store.

    Args:
        shown: When the packets of a stream are shown, in the order of decoding.

    Returns:
        Ascending times, none after the packet is shown and as late as that allows.

    Example:
        >>> time_decoding([0, 3, 1, 2, 4])
        [-1, 0, 1, 2, 3]
    """
    ascending = sorted(shown)
    ahead = max((time - own for time, own in zip(ascending, shown, strict=True)), default=0)
    return [time - ahead for time in ascending]


def _read_video(footage: Footage, stretch: Stretch) -> Generator[Packet[Any], None, None]:
    with open_video(footage.info.path) as stream:
        packets = footage.seek(stream, stretch.begin)
        if packets is not None:
            yield from _select(packets, stretch)
            return
    with open_video(footage.info.path) as stream:
        yield from _select(read_packets(stream), stretch)


def _select(packets: Iterator[Packet[Any]], stretch: Stretch) -> Iterator[Packet[Any]]:
    """Yields the packets in file order from the one that begins the stretch to the last that holds a frame of it."""
    missing = set(stretch.ticks.tolist())
    begun = False
    for packet in packets:
        begun = begun or (packet.pts == stretch.begin and packet.is_keyframe)
        # Pictures shown before their key frame need others that are left out.
        if not begun or packet.pts is None or packet.pts < stretch.begin:
            continue
        missing.discard(packet.pts)
        yield packet
        if not missing:
            return


def _stamp(packets: Iterator[Packet[Any]], decoded: Sequence[int]) -> Generator[Packet[Any], None, None]:
    for packet, time in zip(packets, decoded, strict=True):
        packet.dts = time
        yield packet


def _read_sound(path: str, sound: Sound | None, begin: Fraction, end: Fraction) -> Generator[Packet[Any], None, None]:
    if sound is None:
        return
    with open_video(path) as stream:
        packets = read_sound_packets(stream, sound, begin)
        if packets is not None:
            yield from _between(packets, begin, end)
            return
    with open_video(path) as stream:
        yield from _between(read_all_sound_packets(stream, sound), begin, end)


def _between(packets: Iterator[Packet[Any]], begin: Fraction, end: Fraction) -> Iterator[Packet[Any]]:
    for packet in packets:
        if packet.pts is None:
            continue
        packet.dts = packet.pts
        if _find_time(packet) >= end:
            return
        if _find_time(packet) >= begin:
            yield packet


def _find_time(packet: Packet[Any]) -> Fraction:
    return (packet.dts or 0) * packet.time_base
