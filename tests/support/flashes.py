"""Videos that flash and beep at the same moments, and what is seen and heard of that in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from support.videos import mark_frame, read_index

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
