"""Small test videos: numbered frames, flashes with beeps, and moving texture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
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
        container.metadata["title"] = path.stem  # videos of two names are two videos
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


SIZE = (96, 48)
"""Width and height; the number of the frame is in the square in the middle, the flash beside it."""
_OPTIONS = {
    "libx264": {"crf": "16", "preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:frame-threads=1:bframes=0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "500k"},
    "libsvtav1": {"preset": "12", "crf": "30"},
}
_BEEP = 0.08  # seconds, of a flash too


def write_flashes(
    path: Path,
    *,
    frames: int,
    fps: Fraction | int = 25,
    times: Sequence[Fraction | float] | None = None,
    start: float = 0,
    rotation: int = 0,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sound: str | None = "aac",
    hertz: int = 44100,
    sound_until: float | None = None,
    hum: bool = False,
    gop: int = 12,
) -> list[float]:
    """Writes a video whose first frame in every second is bright at the sides and comes with a beep.

    Args:
        path: The file; its ending chooses the container.
        frames: Number of frames.
        fps: Frames per second.
        times: Seconds at which each frame is shown, for a variable rate.
        start: Seconds added to all timestamps.
        rotation: Degrees clockwise by which a player must turn the frames.
        size: Width and height as stored.
        codec: FFmpeg's name of the encoder.
        pix_fmt: FFmpeg's name of the pixel format.
        sound: The encoder of the sound; None for none.
        hertz: Samples per second.
        sound_until: Seconds after which the sound ends; None for the length of the video.
        hum: Whether a low tone sounds throughout, instead of beeps.
        gop: Most frames from one key frame to the next.

    Returns:
        When each frame is shown, in seconds.
    """
    rate = Fraction(fps)
    shown = [Fraction(i) / rate for i in range(frames)] if times is None else [Fraction(t) for t in times]
    base = 1 / rate if times is None and not start else Fraction(1, 90000)
    length = float(shown[-1] + 1 / rate)
    seconds = [next((t for t in shown if t >= second), None) for second in range(int(length) + 1)]
    onsets = [t for t in seconds if t is not None]
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, options=_OPTIONS.get(codec, {}) | {"g": str(gop)})
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.codec_context.max_b_frames = 2 if codec == "libx264" else 0
        video.codec_context.time_base = base
        video.codec_context.thread_count = 1
        if rotation:
            video.set_display_rotation(-rotation)
        audio = container.add_stream(sound, rate=hertz, layout="mono") if sound else None
        samples = _hum(length, hertz) if hum else _beep(onsets, sound_until or length, hertz)
        done = 0
        for index, time in enumerate(shown):
            image = mark_frame(index, size)
            if any(onset <= time < onset + _BEEP for onset in onsets):
                edge = (size[0] - min(size)) // 2
                image[:, :edge] = image[:, size[0] - edge :] = 250
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round((time + Fraction(start)) / base), base
            container.mux(video.encode(frame))
            while audio is not None and done < len(samples) and done / hertz <= time:
                block = av.AudioFrame.from_ndarray(samples[None, done : done + 1024], format="fltp", layout="mono")
                block.sample_rate, block.time_base = hertz, Fraction(1, hertz)
                block.pts = done + round(start * hertz)
                container.mux(audio.encode(block))
                done += 1024
        for stream in [video, *([audio] if audio else [])]:
            container.mux(stream.encode(None))
    return [float(time) + start for time in shown]


def _hum(length: float, hertz: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 100 * np.arange(round(length * hertz)) / hertz)).astype(np.float32)


def _beep(onsets: Sequence[Fraction], length: float, hertz: int) -> np.ndarray:
    samples = np.zeros(round(length * hertz), np.float32)
    tone = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(round(_BEEP * hertz)) / hertz)
    for onset in onsets:
        begin = round(onset * hertz)
        piece = samples[begin : begin + len(tone)]
        piece[:] = tone[: len(piece)]
    return samples


@dataclass(frozen=True)
class Heard:
    """What is seen and heard of a file.

    Attributes:
        frames: Numbers of the frames.
        times: When each is shown, seconds.
        flashes: When the sides turn bright, seconds.
        beeps: When beeps begin, seconds.
        sound: When the sound begins and ends, seconds; None where there is none.
    """

    frames: list[int]
    times: list[float]
    flashes: list[float]
    beeps: list[float]
    sound: tuple[float, float] | None


def see_and_hear(path: Path) -> Heard:
    """Decodes a whole file with FFmpeg's own defaults."""
    frames, times, bright = [], [], []
    blocks: list[tuple[float, np.ndarray]] = []
    with av.open(str(path)) as container:
        for frame in container.decode(*container.streams.video, *container.streams.audio):
            if isinstance(frame, av.VideoFrame):
                image = frame.to_ndarray(format="rgb24")
                side = min(image.shape[:2])
                top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
                frames.append(read_index(image[top : top + side, left : left + side].transpose(2, 0, 1)))
                times.append(float(frame.time))
                bright.append(bool(image[:, : max(left // 2, 1)].mean() > 170))
            else:
                blocks.append((frame.time, np.abs(frame.to_ndarray()).max(axis=0)))
                rate = frame.sample_rate
    flashes = [t for t, now, before in zip(times, bright, [False, *bright], strict=False) if now and not before]
    if not blocks:
        return Heard(frames, times, flashes, [], None)
    full = max(1.0, max(block.max() for _, block in blocks))
    loud = np.concatenate([begin + np.flatnonzero(block / full > 0.3) / rate for begin, block in blocks])
    pauses = np.diff(loud, prepend=-1.0) > 0.2
    beeps = loud[pauses].tolist()
    return Heard(frames, times, flashes, beeps, (blocks[0][0], blocks[-1][0] + len(blocks[-1][1]) / rate))


X264 = {"preset": "medium", "crf": "30"}


def write_moving(path, codec, options, frames=100, times=None, size=(96, 64), start=0, seed=0, rotation=0):
    """Writes texture that moves and changes, so that encoders use every kind of frame and every reference."""
    random = np.random.default_rng(seed)
    width, height = size
    texture = random.integers(0, 256, (height + 64, width + 256, 3)).astype(np.float32)
    texture = sum(np.roll(texture, shift, (0, 1)) for shift in range(6)) / 6
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        base = Fraction(1, 1000) if times or start else Fraction(1, 25)
        stream.codec_context.time_base = base
        if rotation:
            stream.set_display_rotation(-rotation)
        for i in range(len(times or range(frames))):
            x, y = int(2.3 * i) % 250, int(20 + 19 * np.sin(i / 7))
            image = texture[y : y + height, x : x + width].copy()
            image[10:30, i % 60 : i % 60 + 16] = (i * 37 % 255, 90, 200)
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24").reformat(format="yuv420p")
            shown = times[i] if times else Fraction(i, 25)
            frame.pts, frame.time_base = round((shown + start) / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
