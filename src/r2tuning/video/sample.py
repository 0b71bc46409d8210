"""Frames of a video at a fixed rate, streamed in one pass."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator
from fractions import Fraction
from math import isfinite
from types import TracebackType
from typing import get_args

import numpy as np
from av.video.frame import VideoFrame

from r2tuning.errors import VideoError, VideoWarning
from r2tuning.types import FrameBatch, SampledVideo, Sampling, VideoInfo
from r2tuning.video.pick import count_clips, pick_last_before, pick_nearest
from r2tuning.video.preprocess import Preprocessor
from r2tuning.video.probe import survey
from r2tuning.video.reader import FrameReader
from r2tuning.video.source import open_video


class FrameStream(Iterator[FrameBatch]):
    """The sampled frames of one video, batch after batch; made by :func:`sample_frames`.

    Iterating opens the file, and the end, an error or :meth:`close` releases it. Use it in a ``with`` statement if
    you may stop early.

    Attributes:
        info: Facts about the file.
        expected_frames: How many frames will come, T; fewer if the file turns out to be damaged.
    """

    info: VideoInfo
    expected_frames: int

    def __init__(
        self, path: str | os.PathLike[str], fps: Fraction, size: int, batch_size: int, sampling: Sampling
    ) -> None:
        found = survey(path)
        self.info = found.info
        self.expected_frames = count_clips(found.timeline.duration, fps)
        self._timeline = found.timeline
        self._fps = fps
        self._preprocess = Preprocessor(size, found.info.rotation)
        self._batch_size = batch_size
        self._sampling = sampling
        self._sampled: SampledVideo | None = None
        self._batches = self._sample()

    @property
    def sampled(self) -> SampledVideo:
        """What is known once all frames have been sampled.

        Raises:
            RuntimeError: There are batches left to take.
        """
        if self._sampled is None:
            raise RuntimeError("FrameStream.sampled is known only after the last batch; iterate to the end first")
        return self._sampled

    def __iter__(self) -> FrameStream:
        return self

    def __next__(self) -> FrameBatch:
        return next(self._batches)

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Releases the file; no further batch comes."""
        self._batches.close()

    def _sample(self) -> Generator[FrameBatch, None, None]:
        keyframes = self._sampling == "keyframe"
        pick = pick_nearest if keyframes else pick_last_before
        pixels: list[np.ndarray] = []
        times: list[float] = []
        frames = 0
        previous: VideoFrame | None = None
        with open_video(self.info.path) as stream:
            reader = FrameReader(stream, self._timeline, self.info.frame_rate, keyframes=keyframes)
            for time, frame in pick(reader, self._fps):
                # Only now is it known how long the video really was. Picks made before are all within that.
                if reader.finished and frames >= count_clips(reader.duration, self._fps):
                    break
                pixels.append(pixels[-1] if pixels and frame is previous else self._preprocess(frame))
                times.append(self.info.start + float(time))
                frames += 1
                previous = frame
                if len(pixels) == self._batch_size:
                    yield FrameBatch(np.stack(pixels), np.array(times))
                    pixels, times = [], []
        if not frames:
            way_out = 'use sampling="exact"' if keyframes else "copy or download it again"
            raise VideoError(f"{self.info.path}: no {'key ' * keyframes}frame can be decoded; {way_out}")
        if pixels:
            yield FrameBatch(np.stack(pixels), np.array(times))
        self._warn_of_damage(reader)
        self._sampled = SampledVideo(
            frames=frames,
            duration=float(reader.duration),
            start=self.info.start,
            truncated=reader.ended_early or reader.damaged,
            sampling=self._sampling,
        )

    def _warn_of_damage(self, reader: FrameReader) -> None:
        path = self.info.path
        if reader.ended_early:
            message = (
                f"{path} was cut off or damaged: {float(reader.duration):.3f} s of the declared "
                f"{float(reader.declared):.3f} s can be used; the result covers only those"
            )
        elif reader.damaged:
            message = (
                f"{path} is damaged: {reader.lost} of {reader.stored} frames cannot be decoded properly; "
                f"what decodes stands in for them"
            )
        else:
            return
        warnings.warn(message, VideoWarning, stacklevel=4)


def sample_frames(
    path: str | os.PathLike[str],
    fps: float,
    size: int = 224,
    *,
    batch_size: int = 32,
    sampling: Sampling = "exact",
) -> FrameStream:
    """Samples frames of a video at a fixed rate, in one pass and in memory that does not grow with it.

    The video is cut into ``T = floor(duration·fps + 0.5)`` clips, at least 1, of ``1/fps`` seconds. With ``exact``,
    clip i is seen through the last frame shown strictly before its centre ``(i+0.5)/fps``, counted from the first
    frame: what FFmpeg's ``fps`` filter picks, and the released checkpoints were trained on. With ``keyframe``, only
    key frames are decoded, and the one nearest to the centre is taken. Where ``fps`` exceeds the video's rate,
    frames repeat.

    Damaged stretches are passed over. If frames are missing at the end, or more than 1 % anywhere, a
    :class:`VideoWarning` says so and ``stream.sampled.truncated`` is set.

    Args:
        path: The file.
        fps: Clips per second, > 0. Read as the nearest fraction with a denominator up to a million, so 29.97 and
            30000/1001 are both exact.
        size: Pixels per side of the crops, > 0; the model's input size, such as 224 or 336.
        batch_size: Most frames per batch, > 0. It does not change the frames.
        sampling: ``exact`` or ``keyframe``.

    Returns:
        The stream of batches; ``stream.info`` is known at once.

    Raises:
        VideoError: The file cannot be read, is not a video, or none of its frames can be decoded.
        ValueError: An argument is out of range.
    """
    if not (isfinite(fps) and fps > 0):
        raise ValueError(f"fps is {fps}; give a number of frames per second above 0")
    if size < 1 or batch_size < 1:
        raise ValueError(f"size is {size} and batch_size is {batch_size}; both must be at least 1")
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling is {sampling!r}; give one of {', '.join(get_args(Sampling))}")
    # A rate below one in a million would become 0.
    rate = Fraction(fps).limit_denominator(1_000_000) or Fraction(fps)
    return FrameStream(path, rate, size, batch_size, sampling)
