"""What a browser can play of a video: the file itself, its packets in another container, or an encoding made for it.

Remuxed and encoded videos are played piece by piece. A piece is a fragmented MP4 file by itself, whose times are those
of the video, so that a page appends pieces to a ``SourceBuffer`` in any order.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import numpy as np
from av.container import InputContainer

from r2tuning.errors import MissingError, VideoError
from r2tuning.output.media.cut import copy_stretch
from r2tuning.output.media.footage import Footage
from r2tuning.output.media.mp4 import PIECE, write_stretches
from r2tuning.video.container import find_sounds, open_video

PIECE_SECONDS = 4.0
"""Length of a piece; remuxed ones begin at the next key frame after it."""

_LONGEST_COPY = 30.0
"""Seconds between key frames; with fewer key frames, a video is encoded, since pieces would be too large."""

Mode = Literal["native", "remux", "transcode"]

# What browsers play, by FFmpeg's names: Chromium, Firefox and Safari alike but for the details.
_PICTURES = {"mp4": ("h264", "av1", "vp9"), "webm": ("vp8", "vp9", "av1")}
_SOUNDS = {"mp4": ("aac", "mp3", "opus", "flac"), "webm": ("opus", "vorbis")}
_COPIED = {"aac": "mp4a.40.2", "mp3": "mp4a.6B", "opus": "opus", "flac": "flac"}
_PLAIN = ("yuv420p", "yuvj420p")
_TYPES = {"mp4": "video/mp4", "webm": "video/webm"}
_TRANSCODED = "avc1.640028"


@dataclass(frozen=True)
class Plan:
    """How a browser plays a video.

    Attributes:
        mode: ``native``, the file itself; ``remux``, its packets in MP4; ``transcode``, encoded again, and smaller.
        mime: What to ask the browser for, with codecs where there are pieces.
        reason: Why the file itself does not do; empty for ``native``.
        start: Seconds on the player's clock at which the video begins.
        duration: Seconds.
        pieces: When each piece begins, seconds on the player's clock; empty for ``native``.
    """

    mode: Mode
    mime: str
    reason: str
    start: float
    duration: float
    pieces: tuple[float, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Asks for a piece of a preview, counted from 0."""

    path: str
    number: int


@dataclass(frozen=True)
class _Facts:
    """What decides: FFmpeg's names, and the decoder's configuration."""

    container: str
    codec: str
    pix_fmt: str
    sound: str
    extradata: bytes


def _read_facts(path: str) -> _Facts:
    with open_video(path) as stream:
        names = cast(InputContainer, stream.container).format.name.split(",")
        container = "mp4" if "mp4" in names else "webm" if "webm" in names else names[0]
        sound = next(iter(find_sounds(stream)), None)
        context = stream.codec_context
        return _Facts(
            container,
            context.codec.canonical_name,
            context.pix_fmt or "",
            "" if sound is None else sound.codec_context.codec.canonical_name,
            context.extradata or b"",
        )


def plan_preview(footage: Footage) -> Plan:
    """Finds the cheapest way to play a video in a browser.

    Raises:
        VideoError: If the file cannot be read.
    """
    info, facts = footage.info, _read_facts(footage.info.path)
    plays = facts.codec in _PICTURES.get(facts.container, ()) and facts.pix_fmt in _PLAIN
    if plays and facts.sound in ("", *_SOUNDS[facts.container]):
        return Plan("native", _TYPES[facts.container], "", info.start, info.duration)
    named = f"{facts.codec} {facts.pix_fmt}" + (f" with {facts.sound}" if facts.sound else "")
    reason = f"browsers do not play {named} in this container"
    end = info.start + info.duration
    # Pieces are not turned by browsers.
    plain = facts.codec == "h264" and facts.pix_fmt in _PLAIN and not info.rotation
    if (
        plain
        and facts.sound in ("", *_COPIED)
        and footage.stamped
        and len(facts.extradata) > 3
        and facts.extradata[0] == 1
    ):
        begins = _space(footage.list_key_frames())
        if len(begins) and np.diff([*begins, end]).max() <= _LONGEST_COPY and begins[0] <= info.start + 1e-3:
            codecs = f"avc1.{facts.extradata[1:4].hex()}" + (f",{_COPIED[facts.sound]}" if facts.sound else "")
            mime = f'video/mp4; codecs="{codecs}"'
            return Plan("remux", mime, reason, info.start, info.duration, tuple(begins))
    count = max(1, int(np.ceil(info.duration / PIECE_SECONDS)))
    begins = [info.start + number * PIECE_SECONDS for number in range(count)]
    codecs = _TRANSCODED + (",mp4a.40.2" if footage.sound is not None else "")
    return Plan("transcode", f'video/mp4; codecs="{codecs}"', reason, info.start, info.duration, tuple(begins))


def _space(times: np.ndarray) -> list[float]:
    """The first of some times, and then each that is `PIECE_SECONDS` after the one before.

    Example:
        >>> _space(np.array([0.0, 2.0, 4.5, 5.0, 9.0]))
        [0.0, 4.5, 9.0]
    """
    kept: list[float] = []
    for time in times.tolist():
        if not kept or time - kept[-1] >= PIECE_SECONDS:
            kept.append(time)
    return kept


def write_piece(footage: Footage, piece: Piece) -> bytes:
    """A piece of a preview as MP4.

    Raises:
        MissingError: If there is no such piece.
        VideoError: If nothing of it can be decoded.
    """
    plan = plan_preview(footage)
    if not 0 <= piece.number < len(plan.pieces):
        raise MissingError(f"{footage.info.path}: has no piece {piece.number} of {len(plan.pieces)}; see its preview")
    start = plan.pieces[piece.number]
    end = (*plan.pieces, plan.start + plan.duration)[piece.number + 1]
    stretch = footage.find(start, end)
    with tempfile.TemporaryDirectory(prefix="r2tuning-") as folder:
        file = Path(folder) / "piece.mp4"
        try:
            if plan.mode == "remux":
                stretch = footage.extend_to_key_frame(stretch)
                copy_stretch(footage, stretch, file, PIECE)
            else:
                write_stretches([(footage, [stretch])], file, preview=True)
        except av.FFmpegError as error:
            raise VideoError(f"{footage.info.path}: piece {piece.number} cannot be made ({error.strerror})") from error
        return move_piece(file.read_bytes(), Fraction(footage.find_time(stretch.begin)))


def move_piece(content: bytes, begin: Fraction) -> bytes:
    """Gives the first picture of a fragmented MP4 file its time, and everything else too, in seconds."""
    with av.open(io.BytesIO(content), "r") as container:
        packets = container.demux(container.streams.video[0])
        shown = min(packet.pts * packet.time_base for packet in packets if packet.pts is not None)
    moved = bytearray(content)
    scales, waits = _read_scales(moved), _drop_waits(moved)
    for track, place in _find_clocks(moved):
        shift = begin - shown + waits.get(track, Fraction(0))
        time = max(0, _read_clock(moved, place) + round(shift * scales[track]))
        struct.pack_into(">Q" if moved[place] == 1 else ">I", moved, place + 4, time)
    return bytes(moved)


def _read_clock(content: bytearray, place: int) -> int:
    return int(struct.unpack_from(">Q" if content[place] == 1 else ">I", content, place + 4)[0])


def _walk(content: bytearray, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of the content of each box between two places."""
    while begin + 8 <= end:
        size, name = struct.unpack_from(">I4s", content, begin)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", content, begin + 8), 16
        stop = end if size == 0 else begin + size
        if size and size < head:
            raise VideoError("preview: FFmpeg wrote no valid MP4; report this")
        yield name, begin + head, min(stop, end)
        begin = stop


def _find_boxes(content: bytearray, path: tuple[bytes, ...], begin: int, end: int) -> Iterator[tuple[int, int]]:
    for name, first, stop in _walk(content, begin, end):
        if name == path[0]:
            yield from [(first, stop)] if len(path) == 1 else _find_boxes(content, path[1:], first, stop)


def _read_scales(content: bytearray) -> dict[int, int]:
    """Ticks a second of each track."""
    scales = {}
    for first, stop in _find_boxes(content, (b"moov", b"trak"), 0, len(content)):
        ((head, _),) = _find_boxes(content, (b"tkhd",), first, stop)
        ((media, _),) = _find_boxes(content, (b"mdia", b"mdhd"), first, stop)
        (track,) = struct.unpack_from(">I", content, head + (20 if content[head] == 1 else 12))
        (scale,) = struct.unpack_from(">I", content, media + (20 if content[media] == 1 else 12))
        scales[track] = scale
    return scales


def _drop_waits(content: bytearray) -> dict[int, Fraction]:
    """Seconds that tracks wait before they begin by their edit lists, which then say nothing any more.

    Browsers obey the other use of edit lists, that B-frames are decoded before the first picture is shown, but no wait.
    """
    waits = {}
    ((head, _),) = _find_boxes(content, (b"moov", b"mvhd"), 0, len(content))
    (movie,) = struct.unpack_from(">I", content, head + (20 if content[head] == 1 else 12))
    scales = _read_scales(content)
    for first, stop in _find_boxes(content, (b"moov", b"trak"), 0, len(content)):
        ((head, _),) = _find_boxes(content, (b"tkhd",), first, stop)
        (track,) = struct.unpack_from(">I", content, head + (20 if content[head] == 1 else 12))
        for edits, end in _find_boxes(content, (b"edts",), first, stop):
            for place, _ in _find_boxes(content, (b"elst",), edits, end):
                (count,) = struct.unpack_from(">I", content, place + 4)
                entry = struct.Struct(">QqI" if content[place] == 1 else ">IiI")
                found = [entry.unpack_from(content, place + 8 + entry.size * number) for number in range(count)]
                if found and found[0][1] == -1:
                    shown = found[1][1] if count > 1 else 0
                    waits[track] = Fraction(found[0][0], movie) - Fraction(shown, scales[track])
                    content[edits - 4 : edits] = b"free"  # a box that everybody skips
    return waits


def _find_clocks(content: bytearray) -> Iterator[tuple[int, int]]:
    """The track of each part of each fragment, and where its ``tfdt`` box says when it is decoded."""
    for first, stop in _find_boxes(content, (b"moof", b"traf"), 0, len(content)):
        ((head, _),) = _find_boxes(content, (b"tfhd",), first, stop)
        (track,) = struct.unpack_from(">I", content, head + 4)
        for place, _ in _find_boxes(content, (b"tfdt",), first, stop):
            yield track, place
