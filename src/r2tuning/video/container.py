"""Opens a file with FFmpeg, chooses its video stream, reads and decodes packets, and words what goes wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from r2tuning.errors import VideoError
from r2tuning.video.playlist import finite_copy, read_playlist

# FFmpeg opens text as an animation of letters, and a photo as a video of one frame.
_TEXT_ART = {"tty", "bin", "xbin", "adf", "idf"}
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails

# Formats that make FFmpeg open other files or the network. It is told which of the others it may find, so that what
# passes our checks for one format is not read as another.
_OPEN_OTHERS = {"concat", "dash", "hls", "imf", "lavfi", "rtsp", "sap", "sdp", "webm_dash_manifest"}

# Reading continues after a damaged stretch, but a demuxer that never gets past it must not hang us.
_READ_ATTEMPTS = 1000


class _Source:
    """A file that FFmpeg reads through Python, so that Ctrl-C and SIGTERM end a long search for the next packet.

    FFmpeg's own reading cannot be interrupted, and PyAV ignores `KeyboardInterrupt` in a callback. So the file seems to
    end there, and leaving the block raises the exception.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._file = path.open("rb", buffering=0)
        self._stopped: BaseException | None = None
        self.seek, self.tell, self.seekable = self._file.seek, self._file.tell, self._file.seekable
        # Python handles signals where a function begins, which is outside of any ``try`` in it, and where a generator
        # goes on.
        blocks = self._read()
        next(blocks)
        self.read = blocks.send

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._stopped is not None:
            raise self._stopped

    def _read(self) -> Generator[bytes, int, None]:
        block = b""
        while True:
            try:
                size = yield block
                block = b"" if self._stopped is not None else self._file.read(size) or b""
            except OSError as error:  # noqa: PERF203  (what is raised at the yield counts too)
                raise av.FFmpegError(error.errno or 0, error.strerror or "", self.name) from error
            except (KeyboardInterrupt, SystemExit) as stop:
                self._stopped, block = stop, b""


@contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[VideoStream]:
    """Opens a local file and yields the video stream a player would show; the file is closed on leaving.

    The stream is the first one marked as default, else the one FFmpeg finds best; cover art does not count. Playlists
    may name local files only: the network is never used. FFmpeg's errors inside the block become `VideoError`.
    """
    _check_readable(path)
    playlist = read_playlist(Path(path))
    formats = av.formats_available - _OPEN_OTHERS | ({playlist.kind} if playlist else set())
    options = {"protocol_whitelist": "file,crypto", "format_whitelist": ",".join(formats)}
    if playlist is not None and playlist.key:
        options["allowed_extensions"] = "ALL"  # else FFmpeg reads no key
    try:
        # An absolute path cannot be mistaken for "protocol:…".
        with finite_copy(Path(path).absolute(), playlist) as opened, _Source(opened) as source:
            # FFmpeg opens the files of a playlist itself.
            readable = str(opened) if playlist is not None else source
            with av.open(readable, "r", options=options, metadata_errors="replace") as container:
                yield _choose_stream(container, path)
    except av.FFmpegError as error:
        if playlist is not None and playlist.key:
            raise VideoError(
                f"{path} is encrypted and its key {playlist.key} does not open it ({error.strerror}); put the right "
                f"key there, or decrypt the video first"
            ) from error
        raise VideoError(
            f"{path} cannot be read as video ({error.strerror}); check that it is one and was copied completely"
        ) from error


def read_packets(stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Reads the packets of ``stream`` in file order, skipping damaged stretches of the file."""
    container = cast(InputContainer, stream.container)
    for _ in range(_READ_ATTEMPTS):
        # Callers compare the number of frames with what they expect, so that a loss does not go unnoticed.
        with suppress(av.FFmpegError):
            for packet in container.demux(stream):
                if packet.size:
                    yield packet
                elif packet.dts is None:  # marks the end; after it, PyAV fails on streams found midway
                    return
            return


def decode_frames(stream: VideoStream, packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
    """Decodes ``packets``, given in file order, into frames in display order, omitting damaged ones.

    The stream's decoder is used up. Callers count the frames against the timestamps to learn what was lost.
    """
    for packet in chain(packets, (None,)):  # None flushes the decoder
        try:
            frames = stream.codec_context.decode(packet)
        except av.FFmpegError:
            continue
        yield from frames


def find_sounds(stream: VideoStream) -> list[AudioStream]:
    """The sounds that belong to a video stream, the one that a player would play first.

    That is the first one marked as default, else the one FFmpeg finds best. A transport stream may carry several
    programmes; the sound of another one does not count.
    """
    streams = stream.container.streams
    best = streams.best("audio", related=stream)
    if best is None:
        return []
    if stream.container.format.name == "mpegts" and len(streams.video) > 1:
        # Where the video's programme has no sound, FFmpeg finds that of another one, which has its own video.
        return [cast(AudioStream, best)] if streams.best("video", related=best) in (stream, None) else []
    defaults = [s for s in streams.audio if s.disposition & Disposition.default]
    return list(dict.fromkeys([*defaults, *(s for s in streams.audio if s is best), *streams.audio]))


def _check_readable(path: str | os.PathLike[str]) -> None:
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise VideoError(f"{path} does not exist; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{path!s} cannot be opened ({reason}); check the path") from None
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(f"{path} is a folder; name one video file in it")
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path} is not a regular file; save the video to disk first")
    if not os.access(path, os.R_OK):
        raise VideoError(f"{path} may not be read (permission denied); change its permissions")
    if status.st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes); copy or download it again")


def _choose_stream(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream:
    kind = container.format.name
    if kind in _TEXT_ART:
        raise VideoError(f"{path} is a text file, not a video; name a video file")
    streams = [s for s in container.streams.video if not s.disposition & _PICTURES]
    if not streams:
        found = sorted({str(s.type) for s in container.streams}) or ["no stream"]
        raise VideoError(f"{path} has no video stream (found: {', '.join(found)}); name a file with pictures")
    best = container.streams.best("video")
    defaults = [s for s in streams if s.disposition & Disposition.default]
    stream = [*defaults, *(s for s in streams if s is best), *streams][0]
    if kind == "image2" or kind.endswith("_pipe") or stream.disposition & Disposition.still_image:
        raise VideoError(f"{path} is a still image, not a video; name a video file")
    if stream.codec_context is None:
        raise VideoError(f"{path} uses a video codec that this FFmpeg cannot decode; convert it to H.264")
    return stream
