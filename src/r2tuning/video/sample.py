"""Frames of a video at a fixed rate, streamed in one pass."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from functools import partial
from math import isfinite
from typing import get_args

import numpy as np
from av.video.frame import VideoFrame

from r2tuning.errors import VideoError, VideoWarning
from r2tuning.types import CLIP_PREPROCESSING, FrameBatch, Preprocessing, SampledVideo, Sampling
from r2tuning.video.container import open_video
from r2tuning.video.planned.groups import DecodingError, decode_picks
from r2tuning.video.preprocess import Preprocessor
from r2tuning.video.probe import survey
from r2tuning.video.selection import count_clips, pick_frames
from r2tuning.video.sequential import Coverage, decode_in_order

# Six days at one frame in two seconds are sampled even if they have few pictures. Beyond that, time and
# memory must be worth the pictures.
_MOST_FRAMES = 1 << 18
_MOST_REPEATS = 30


class FrameStream(Iterator[FrameBatch]):
    """The sampled frames of one video, batch after batch; made by :func:`sample_frames`.

    ``info`` holds the file's facts, and ``expected_frames`` how many frames will come, T; fewer come if the file turns
    out to be damaged. Iterating opens the file; the end, an error or :meth:`close` releases it. Use it in a ``with``
    statement if you may stop early.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: Fraction,
        preprocessing: Preprocessing,
        batch_size: int,
        sampling: Sampling,
        threads: int | None,
    ) -> None:
        self._survey = survey(path)
        self.info = self._survey.info
        self.expected_frames = count_clips(self._survey.timeline.duration, fps)
        stored = len(self._survey.timeline.ticks)
        if self.expected_frames > max(_MOST_FRAMES, _MOST_REPEATS * stored):
            raise VideoError(
                f"{self.info.path} claims {self.info.duration / 3600:,.0f} hours of video with {stored:,} pictures; "
                f"its times are probably damaged: repair it, or give fewer frames per second than {float(fps):g}"
            )
        self._fps = fps
        self._make_preprocessor = partial(Preprocessor, preprocessing, self.info.rotation)
        self._batch_size = batch_size
        self._sampling = sampling
        self._threads = threads
        self._coverage = Coverage(self._survey.timeline, self.info.frame_rate, keyframes=sampling == "keyframe")
        self._sampled: SampledVideo | None = None
        self._batches = self._sample()

    @property
    def sampled(self) -> SampledVideo:
        """What is known once all frames have been sampled; a `RuntimeError` before."""
        if self._sampled is None:
            raise RuntimeError("FrameStream.sampled is known only after the last batch; iterate to the end first")
        return self._sampled

    def __next__(self) -> FrameBatch:
        return next(self._batches)

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the file and ends the stream."""
        self._batches.close()

    def _sample(self) -> Generator[FrameBatch, None, None]:
        pixels: list[np.ndarray] = []
        times: list[float] = []
        repeated: list[bool] = []
        previous: np.ndarray | None = None
        frames = 0
        with closing(self._pick()) as picks:
            for time, image in picks:
                pixels.append(image)
                times.append(self.info.start + float(time))
                repeated.append(image is previous)
                previous = image
                frames += 1
                if len(pixels) == self._batch_size:
                    yield FrameBatch(_stack(pixels), np.array(times), np.array(repeated))
                    pixels, times, repeated = [], [], []
        if not frames:
            advice = 'use sampling="exact"' if self._coverage.keyframes else "copy or download it again"
            raise VideoError(f"{self.info.path}: no {'key ' * self._coverage.keyframes}frame can be decoded; {advice}")
        if pixels:
            yield FrameBatch(_stack(pixels), np.array(times), np.array(repeated))
        self._warn_of_damage()
        self._sampled = SampledVideo(
            frames=frames,
            duration=float(self._coverage.duration),
            start=self.info.start,
            truncated=self._coverage.ended_early or self._coverage.damaged or bool(self._survey.losses),
            sampling=self._sampling,
        )

    def _pick(self) -> Generator[tuple[Fraction, np.ndarray], None, None]:
        """Yields for each interval when its frame is shown, in seconds since the first one, and its pixels."""
        taken = 0
        if self._survey.index is not None and not self._coverage.keyframes:
            cheap = self._sampling == "fast"
            planned = decode_picks(self._survey, self._fps, self._make_preprocessor, cheap, self._threads)
            try:
                with closing(planned):
                    for pick in planned:
                        yield pick
                        taken += 1
                self._coverage.add_all()
                return
            except DecodingError:
                pass  # decoding everything in order copes with damage, and finds out how much there is
        yield from self._pick_in_order(taken)

    def _pick_in_order(self, skipped: int) -> Generator[tuple[Fraction, np.ndarray], None, None]:
        """Does the same by decoding everything from the beginning; leaves out the first few intervals."""
        coverage, preprocess = self._coverage, self._make_preprocessor()
        previous: tuple[VideoFrame, np.ndarray] | None = None
        with open_video(self.info.path) as stream:
            decoded = decode_in_order(stream, coverage, self._threads)
            picks = pick_frames(decoded, self._fps, nearest=coverage.keyframes)
            for interval, (time, frame) in enumerate(picks):
                # Only now is it known how long the video really is. Earlier picks are all within that.
                if coverage.finished and interval >= count_clips(coverage.duration, self._fps):
                    return
                if interval < skipped:
                    continue
                if previous is None or frame is not previous[0]:
                    previous = frame, preprocess(frame)
                yield time, previous[1]

    def _warn_of_damage(self) -> None:
        path, coverage, losses = self.info.path, self._coverage, self._survey.losses
        if losses:
            others = f" ({len(losses) - 1} more like this)" if len(losses) > 1 else ""
            message = f"{path} is not complete: {losses[0]}{others}; the result covers only the rest"
        elif coverage.ended_early:
            message = (
                f"{path} was cut off or damaged: {float(coverage.duration):.3f} s of the declared "
                f"{float(coverage.declared):.3f} s can be used; the result covers only those"
            )
        elif coverage.damaged:
            message = (
                f"{path} is damaged: {coverage.lost} of {coverage.stored} frames cannot be decoded properly; "
                f"what decodes stands in for them"
            )
        else:
            return
        warnings.warn(message, VideoWarning, stacklevel=4)


def _stack(images: list[np.ndarray]) -> np.ndarray:
    """Stacks images as ``[n, …]``, without copying one that fills all, as in a pause of hours."""
    if all(image is images[0] for image in images):
        return np.broadcast_to(images[0], (len(images), *images[0].shape))
    return np.stack(images)


def sample_frames(
    path: str | os.PathLike[str],
    fps: float,
    preprocessing: Preprocessing = CLIP_PREPROCESSING,
    *,
    batch_size: int = 32,
    sampling: Sampling = "exact",
    threads: int | None = None,
) -> FrameStream:
    """Samples frames of a video at a fixed rate, in one pass and in constant memory.

    The video is cut into ``T = floor(duration·fps + 0.5)`` intervals of ``1/fps`` seconds, at least 1.

    - ``exact`` takes the last frame shown strictly before the interval's center ``(i+0.5)/fps``, counted from the first
      frame: what FFmpeg's ``fps`` filter picks, and what the released checkpoints were trained on. If the packets tell
      for certain which frames these are (H.264, HEVC, VP9 and AV1 in most files), only the packets that they need are
      decoded, in parallel; the pixels are those of decoding everything in order.
    - ``fast`` takes the key frame nearest to the center if the interval has one, else the nearest frame that others are
      predicted from: up to half an interval from the center, and as fast as ``keyframe`` if every interval has a key
      frame. If the packets do not tell, it is ``exact``.
    - ``keyframe`` decodes only key frames and takes the one nearest to the center, however far that is.

    If ``fps`` exceeds the video's rate, frames repeat. Damaged stretches are skipped. If frames are missing at the end,
    or more than 1 % anywhere, a :class:`VideoWarning` says so and ``stream.sampled.truncated`` is set. Damage in
    stretches that are not decoded goes unnoticed.

    Args:
        path: The file.
        fps: Above 0; read as the nearest fraction with a denominator up to a million: 29.97 and 30000/1001 are exact.
        preprocessing: What frames a backbone takes; CLIP's crops of 224 pixels by default.
        batch_size: Most frames per batch. It does not change the frames.
        sampling: ``exact``, ``fast`` or ``keyframe``.
        threads: Most threads that decode; None for one per core that this process may use.

    Raises:
        VideoError: The file cannot be read, is not a video, or none of its frames can be decoded.
        ValueError: An argument is out of range.
    """
    if not (isfinite(fps) and fps > 0):
        raise ValueError(f"fps is {fps}; give a number of frames per second above 0")
    if preprocessing.size < 1 or batch_size < 1:
        raise ValueError(f"size is {preprocessing.size} and batch_size is {batch_size}; both must be at least 1")
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1, or None for one per core")
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling is {sampling!r}; give one of {', '.join(get_args(Sampling))}")
    # A rate below one in a million would become 0.
    rate = Fraction(fps).limit_denominator(1_000_000) or Fraction(fps)
    return FrameStream(path, rate, preprocessing, batch_size, sampling, threads)
