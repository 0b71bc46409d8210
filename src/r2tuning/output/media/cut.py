"""Cuts spans of a video into MP4 files, encoded again or copied, and joins several into one."""

from __future__ import annotations

import heapq
import os
import unicodedata
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from r2tuning.errors import OutputError, VideoError, VideoWarning
from r2tuning.files import replace_file
from r2tuning.intervals import merge_spans
from r2tuning.output.media.footage import Footage, Stretch
from r2tuning.output.media.mp4 import WHOLE, write_stretches
from r2tuning.output.media.sound import Sound, SoundWriter, open_sound

_LONGEST = 120  # bytes of the query's words; the whole name stays below the 255 that file systems allow
_TAGS = ("hvc1",)  # names of codecs in MP4 that are kept; FFmpeg's own, such as hev1, do not play on Apple's devices
_LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")  # by their numbers of channels
_WORDS = "LMN"  # categories of letters, the marks that belong to them, and digits


def name_clip(number: int, count: int, query: str, start: float, end: float) -> str:
    """Names the clip of a moment after its query and times in seconds: NFC, shorter than 255 bytes in UTF-8.

    The number, from 1 to ``count``, comes first: it keeps clips in order and names distinct, and no name means a device
    to Windows. Of the query, letters and digits of any script remain.

    Example:
        >>> name_clip(1, 5, "The dog catches... the *frisbee*!", 12.34, 3718)
        '01-the-dog-catches-the-frisbee-0m12.3s-1h01m58.0s.mp4'
        >>> name_clip(7, 100, "???", 0, 1)
        '007-moment-0m00.0s-0m01.0s.mp4'
    """
    kept = (c if unicodedata.category(c)[0] in _WORDS else " " for c in unicodedata.normalize("NFC", query.lower()))
    words = "-".join("".join(kept).split()).encode()[:_LONGEST].decode(errors="ignore").strip("-")
    digits = max(2, len(str(count)))
    return f"{number:0{digits}d}-{words or 'moment'}-{_show(start)}-{_show(end)}.mp4"


def _show(seconds: float) -> str:
    minutes, tenths = divmod(round(max(float(seconds), 0.0) * 10), 600)
    hours, minute = divmod(minutes, 60)
    clock = f"{hours}h{minute:02d}" if hours else f"{minute}"
    return f"{clock}m{tenths // 10:02d}.{tenths % 10}s"


def copy_stretch(footage: Footage, stretch: Stretch, file: Path, options: dict[str, str] = WHOLE) -> None:
    """Copies the packets of a stretch, which begins with a key frame, and its sound into an MP4 file.

    Pictures that the last one needs are copied too, so that a few frames after the stretch may be shown. Sound that MP4
    does not take is encoded again, with a warning. ``options`` are those of the MP4 format.
    """
    path, begin, end = footage.info.path, stretch.begin * footage.time_base, stretch.end * footage.time_base
    with closing(_read_video(footage, stretch)) as video:
        decoded = time_decoding([packet.pts for packet in video if packet.pts is not None])
    with (
        closing(_stamp(_read_video(footage, stretch), decoded)) as video,
        closing(_read_sound(path, footage.sound, begin, end)) as sound,
        av.open(str(file), "w", format="mp4", options=options) as container,
    ):
        outputs: dict[int, Stream] = {}
        pieces = []
        refused: Sound | None = None
        for packets, is_sound in ((video, False), (sound, True)):
            first = next(packets, None)
            if first is None and not is_sound:
                raise VideoError(f"{path}: none of these frames can be read; copy or download it again")
            if first is None:
                continue
            try:
                outputs[first.stream.index] = _add_copy(container, first.stream)
            except ValueError as error:  # MP4 does not take the codec
                if not is_sound:
                    raise VideoError(f"{path} cannot be copied ({error}); cut it exactly, without --fast") from None
                refused = footage.sound
                if not footage.said_sound:
                    warnings.warn(
                        f"{path}: MP4 does not take its sound ({first.stream.codec_context.name}); it is encoded again "
                        f"as AAC, and the pictures are copied",
                        VideoWarning,
                        stacklevel=3,
                    )
                footage.said_sound = True
            else:
                pieces.append(chain([first], packets))
        writer = SoundWriter(container, refused)
        with writer.open(path, refused, begin, end - begin) as write_sound:
            for packet in heapq.merge(*pieces, key=_find_time):
                shift = round(begin / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) - shift, (packet.dts or 0) - shift
                packet.stream = outputs[packet.stream.index]
                write_sound(min(_find_time(packet), end - begin))
                container.mux(packet)
            write_sound(end - begin)
        writer.finish()


def _add_copy(container: OutputContainer, stream: Stream) -> Stream:
    """Adds a stream whose packets are copied from another file's."""
    copy = container.add_stream_from_template(stream, True)
    if stream.codec_context.codec_tag in _TAGS:
        copy.codec_context.codec_tag = stream.codec_context.codec_tag
    if isinstance(copy, AudioStream):
        # Matroska stores how many channels there are but not which; MP4 wants to know.
        layout = copy.codec_context.layout
        if "channels" in layout.name and layout.nb_channels <= len(_LAYOUTS):
            copy.codec_context.layout = _LAYOUTS[layout.nb_channels - 1]
    return copy


def time_decoding(shown: Sequence[int]) -> list[int]:
    """Computes when packets are decoded, which files such as MKV do not store.

    Given when each is shown, in decoding order: ascending times, as late as possible, none after its packet is shown.

    Example:
        >>> time_decoding([0, 3, 1, 2, 4])
        [-1, 0, 1, 2, 3]
    """
    ascending = sorted(shown)
    ahead = max((time - display for time, display in zip(ascending, shown, strict=True)), default=0)
    return [time - ahead for time in ascending]


def _read_video(footage: Footage, stretch: Stretch) -> Generator[Packet[Any], None, None]:
    """Yields the packets in file order from the one that begins the stretch to the last that holds a frame of it."""
    missing = set(stretch.ticks.tolist())
    begun = False
    with footage.open_at(stretch.begin) as (_, packets):
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
    with open_sound(path, sound, begin) as (_, packets):
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


def cut(
    video: str | Footage,
    start: float,
    end: float,
    target: str | os.PathLike[str],
    exact: bool = True,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Cuts a span of a video, with its sound, into an MP4 file; subtitles are left out.

    Args:
        video: The file, or a :class:`Footage` to cut several spans without reading the file each time.
        start: Seconds on the player's clock.
        end: Seconds on the player's clock.
        target: The file to write.
        exact: Whether to encode exactly the frames that appear in ``[start, end)``. Otherwise packets are copied:
            fast and lossless, but from the key frame at or before ``start``, and maybe to a few frames after ``end``.
        force: Whether an existing file may be replaced.
        progress: Called after each frame that is encoded with the numbers of frames written and expected.

    Returns:
        When the clip begins, in seconds on the player's clock of the video.

    Raises:
        OutputError: The file may not or cannot be written.
        ValueError: The span does not end after it starts.
        VideoError: The video cannot be read, shows nothing in the span, or cannot be copied into MP4.
    """
    footage = video if isinstance(video, Footage) else Footage(video)
    _check_apart(footage, target)
    stretch = footage.find(start, end)
    with replace_file(target, force=force, refusals=(av.FFmpegError,)) as file:
        if exact:
            write_stretches([(footage, [stretch])], file, progress)
        elif footage.stamped:
            stretch = footage.extend_to_key_frame(stretch)
            try:
                copy_stretch(footage, stretch, file)
            except av.FFmpegError as error:
                if isinstance(error, OSError):  # what the system refuses
                    raise
                reason = str(error).partition("last error log: ")[2] or error.strerror
                raise VideoError(
                    f"{footage.info.path} cannot be copied ({reason}); cut it exactly, without --fast"
                ) from error
        else:
            raise VideoError(
                f"{footage.info.path} does not say when its frames are shown; cut it exactly, without --fast"
            )
    return footage.find_time(stretch.begin)


def _check_apart(footage: Footage, target: str | os.PathLike[str]) -> None:
    if Path(target).exists() and Path(target).samefile(footage.info.path):
        raise OutputError(f"{target} is the video itself: choose another name")


def join(
    parts: Sequence[tuple[str | Footage, Sequence[tuple[float, float]]]],
    target: Path,
    *,
    force: bool,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Joins spans of one video or several, frame by frame and with their sound, into one MP4 file.

    One video stays as it is. Several share the size of the largest, upright: others are scaled to it and get black
    bars; all become 8-bit BT.709. Each keeps its frame rate, and is silent where it has no sound.

    Args:
        parts: Videos, as files or `Footage`, in the order of the reel, each once, with the starts and ends of its spans
            in seconds on the player's clock; they come in order of time, and overlaps are shown once.
        target: The file to write.
        force: Whether an existing file may be replaced.
        progress: Called after each frame with the numbers of frames written and expected.

    Raises:
        OutputError: The file may not or cannot be written.
        ValueError: There are no spans, or one does not end after it starts.
        VideoError: A video cannot be read, or shows nothing in one of its spans.
    """
    found = []
    for video, spans in parts:
        footage = video if isinstance(video, Footage) else Footage(video)
        _check_apart(footage, target)
        found.append((footage, [footage.find(start, end) for start, end in merge_spans(spans)]))
    if not found:
        raise ValueError("there are no spans")
    with replace_file(target, force=force, refusals=(av.FFmpegError,)) as file:
        write_stretches(found, file, progress)
