"""Writes small test videos whose every frame says, in its pixels, which one it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder writes to stderr by itself

_CELLS = 4  # the mark is 4 × 4 blocks: a white corner, three black ones, and 12 bits
_CORNERS = {(0, 0): True, (0, 3): False, (3, 0): False, (3, 3): False}
_BITS = [(row, column) for row in range(_CELLS) for column in range(_CELLS) if (row, column) not in _CORNERS]
STREAM_OFFSET = 1000
"""Frame i of the n-th video stream is marked ``i + n * STREAM_OFFSET``."""


def write_video(
    path: Path,
    *,
    frames: int = 60,
    fps: float | Fraction = 30,
    times: Sequence[float | Fraction] | None = None,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    rotation: int = 0,
    start: float | Fraction = 0,
    gop: int = 12,
    b_frames: int = 2,
    audio: float | None = None,
    streams: int = 1,
    default_stream: int | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Writes a video and returns its path; the name's ending chooses the container.

    Args:
        frames: Number of frames; ignored where ``times`` are given.
        fps: Frames per second, and what the header says of it.
        times: Seconds at which each frame is shown, for a variable rate; the last frame lasts 1/fps.
        size: Width and height as displayed.
        codec: FFmpeg's name of the encoder.
        rotation: Degrees clockwise by which a player must turn the stored frames to see the marks upright.
        start: Seconds added to all timestamps.
        gop: Most frames from one key frame to the next.
        b_frames: Most consecutive B-frames, where the codec has them.
        audio: Seconds of silent sound to add.
        streams: Number of video streams.
        default_stream: The one video stream marked as default; None leaves it to the container.
        container_options: Options of FFmpeg's muxer, such as ``{"movflags": "faststart"}``.
    """
    rate = Fraction(fps).limit_denominator(1001)
    shown = [Fraction(i) / rate for i in range(frames)] if times is None else [Fraction(t) for t in times]
    base = 1 / rate if times is None and Fraction(start) * rate % 1 == 0 else Fraction(1, 90000)
    width, height = size if rotation in (0, 180) else (size[1], size[0])
    with av.open(str(path), "w", options=container_options or {}) as container:
        outputs = []
        for number in range(streams):
            stream = container.add_stream(codec, rate=rate, options=_encoder_options(codec, gop, b_frames))
            stream.width, stream.height = width, height
            stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
            stream.codec_context.time_base = base
            if rotation:
                stream.set_display_rotation(-rotation)  # counts anticlockwise
            if default_stream is not None:
                stream.disposition = int(number == default_stream)
            outputs.append(stream)
        sound = container.add_stream("aac", rate=16000) if audio else None
        for index, time in enumerate(shown):
            for number, stream in enumerate(outputs):
                image = np.rot90(mark_frame(index + number * STREAM_OFFSET, size), rotation // 90)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = round((time + Fraction(start)) / base), base
                container.mux(stream.encode(frame))
        if sound is not None:
            _write_silence(container, sound, audio or 0)
        for stream in [*outputs, *([sound] if sound else [])]:
            container.mux(stream.encode(None))
    return path


def mark_frame(index: int, size: tuple[int, int]) -> np.ndarray:
    """An RGB image ``[height, width, 3]`` that carries ``index`` (below 4096) in its centre square."""
    if not 0 <= index < 1 << len(_BITS):
        raise ValueError(f"index is {index}; a mark holds 0 to {(1 << len(_BITS)) - 1}")
    width, height = size
    image = np.full((height, width, 3), 96, dtype=np.uint8)
    cell = min(size) // _CELLS
    top, left = (height - cell * _CELLS) // 2, (width - cell * _CELLS) // 2
    lit = _CORNERS | {place: bool(index >> bit & 1) for bit, place in enumerate(_BITS)}
    for (row, column), white in lit.items():
        y, x = top + row * cell, left + column * cell
        image[y : y + cell, x : x + cell] = 235 if white else 20
    return image


def read_index(pixels: np.ndarray) -> int:
    """The index that a sampled frame ``[3, size, size]`` was marked with.

    Raises:
        ValueError: The mark is not there, or not upright.
    """
    size = pixels.shape[-1]
    centres = ((np.arange(_CELLS) + 0.5) * size / _CELLS).astype(int)
    lit = pixels.mean(axis=0)[np.ix_(centres, centres)] > 128
    if any(bool(lit[place]) != white for place, white in _CORNERS.items()):
        raise ValueError(f"no upright mark: the corners are {[bool(lit[place]) for place in _CORNERS]}")
    return sum(1 << bit for bit, place in enumerate(_BITS) if lit[place])


def _encoder_options(codec: str, gop: int, b_frames: int) -> dict[str, str]:
    common = {"g": str(gop)}
    own: dict[str, dict[str, str]] = {
        "libx264": {"preset": "ultrafast", "crf": "18", "bf": str(b_frames)},
        "libx265": {
            "preset": "ultrafast",
            "x265-params": f"log-level=none:keyint={gop}:bframes={b_frames}:pools=1:frame-threads=1",
        },
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "500k"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "500k"},
        "libsvtav1": {"preset": "12", "crf": "30"},
        "mpeg4": {"bf": str(b_frames), "b": "500k"},
        "mpeg2video": {"bf": str(b_frames), "b": "500k"},
    }
    return common | own.get(codec, {})


def _write_silence(container: Any, stream: Any, seconds: float) -> None:
    samples = np.zeros((1, 1024), dtype=np.float32)
    for start in range(0, round(seconds * 16000), 1024):
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(stream.encode(frame))
