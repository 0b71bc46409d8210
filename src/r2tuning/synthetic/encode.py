"""Writes scripts as MP4 files."""

from __future__ import annotations

import os
import secrets
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream

from r2tuning.errors import OutputError
from r2tuning.synthetic.render import render
from r2tuning.synthetic.script import FPS, HEIGHT, WIDTH, WORLD_VERSION, Script

_QUALITY = "24"  # x264's constant rate factor: no artefact to be seen, and well under 1 MB
_KEY_FRAMES = 5  # seconds between key frames at most; a cut has one too


def write_video(script: Script, path: str | os.PathLike[str]) -> None:
    """Draws and encodes a video as H.264 in an MP4 file, complete or not there; an existing file is replaced.

    Args:
        script: The video.
        path: The file, in a folder that exists.

    Raises:
        OutputError: If the file cannot be written.
    """
    target = Path(path)
    temporary = target.parent / f".r2tuning-{secrets.token_hex(8)}.tmp"
    try:
        _encode(script, temporary)
        temporary.replace(target)
    except OSError as error:  # which FFmpeg's errors of the file system are too
        reason = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written ({reason}): free space or choose another folder") from None
    finally:
        temporary.unlink(missing_ok=True)


def is_written(script: Script, path: str | os.PathLike[str]) -> bool:
    """Whether the file is there, whole, and shows this script, drawn by this version of the world."""
    try:
        with av.open(os.fspath(path)) as container:
            # A file that was cut off still begins as it should.
            frames = sum(packet.size > 0 for packet in container.demux(video=0))
            return container.metadata.get("title") == _title(script) and frames == script.frames
    except (OSError, av.error.FFmpegError):  # missing or damaged
        return False


def _encode(script: Script, path: Path) -> None:
    # faststart: players and range requests find the index first. bitexact: no version of FFmpeg in the file.
    options = {"movflags": "faststart", "fflags": "bitexact"}
    with av.open(os.fspath(path), "w", format="mp4", options=options) as container:
        container.metadata["title"] = _title(script)
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": _QUALITY})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.codec_context.gop_size = _KEY_FRAMES * FPS
        # Videos are made side by side; threads of one would also make its bytes depend on the machine.
        stream.codec_context.thread_count = 1
        for index in range(script.frames):
            frame = av.VideoFrame.from_ndarray(render(script, index / FPS), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _title(script: Script) -> str:
    return f"Moving Shapes {WORLD_VERSION} {script.vid}"
