"""What one stage hands to the next, in the order of the flow: video → frames → features → output → answer.

Letters in shapes: B batch, K layers, T frames, P patches per frame, L query tokens, C hidden, N points.
Masks are bool, True = real. Times are seconds on the clock a player shows; frame indices stay inside the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch

Sampling = Literal["exact", "fast", "keyframe"]
"""How frames are picked: ``exact`` at the asked times, ``fast`` in the asked clips but wherever that is cheapest,
``keyframe`` from key frames only (fastest; far from the asked times where those are rare)."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video file, read from its presentation timestamps.

    Attributes:
        path: The file.
        duration: Seconds from the first frame shown to the end of the last one.
        start: Seconds on the player's clock at which the first frame is shown.
        width: Pixels, as displayed (after rotation).
        height: Pixels, as displayed (after rotation).
        rotation: Degrees clockwise (0, 90, 180 or 270) by which decoded frames are turned for display.
        frame_rate: Frames per second; for a variable rate, the frame count over the duration.
        variable_frame_rate: Whether frames are unevenly spaced by more than timestamp rounding.
        codec: FFmpeg's name of the video codec, such as ``h264``.
    """

    path: str
    duration: float
    start: float
    width: int
    height: int
    rotation: int
    frame_rate: Fraction
    variable_frame_rate: bool
    codec: str


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive sampled frames.

    Attributes:
        pixels: uint8 RGB ``[n, 3, size, size]``.
        times: float64 ``[n]``, when the picked source frames are shown, in seconds on the player's clock.
    """

    pixels: np.ndarray
    times: np.ndarray


@dataclass(frozen=True)
class SampledVideo:
    """What is known once all frames of a video have been sampled.

    Attributes:
        frames: Number of sampled frames T.
        duration: Seconds that could be used; less than the file's own when ``truncated``.
        start: Seconds on the player's clock at which the first frame is shown.
        truncated: Whether the file ended early or was damaged.
        sampling: The strategy that picked the frames.
    """

    frames: int
    duration: float
    start: float
    truncated: bool
    sampling: Sampling


@dataclass(frozen=True)
class QueryFeatures:
    """A sentence as the frozen text tower sees it.

    Attributes:
        text: The sentence.
        values: fp32 ``[K, L, Dq]``, outputs of the last K blocks, oldest first, start and end tokens included.
        truncated: Whether the sentence had more tokens than the text tower takes, and was cut.
    """

    text: str
    values: torch.Tensor
    truncated: bool = False


@dataclass(frozen=True)
class ModelOutput:
    """What the model says of a batch, before decoding.

    Attributes:
        hidden: ``[B, T, C]``, ReLU of the last hidden state: what pyramid, heads and saliency use.
        query: ``[B, C]``, the pooled query q̃.
        class_logits: ``[B, N]``, foreground logits of every point.
        offsets: ``[B, N, 2]``, distances to start and end in units of the point's stride, > 0; None for the
            saliency family.
        points: ``[N, 4]``: position, lowest and highest regression range (all in frames) and stride.
        point_mask: ``[B, N]``, True for points that lie on real frames.
        video_mask: ``[B, T]``, True for real frames.
        video_cls: ``[B, K, T, C]``, projected [CLS] tokens (Eq. 6), oldest layer first; for calibration losses.
        query_pooled: ``[B, K, C]``, pooled projected queries, oldest layer first; for calibration losses.
    """

    hidden: torch.Tensor
    query: torch.Tensor
    class_logits: torch.Tensor
    offsets: torch.Tensor | None
    points: torch.Tensor
    point_mask: torch.Tensor
    video_mask: torch.Tensor
    video_cls: torch.Tensor
    query_pooled: torch.Tensor


@dataclass(frozen=True)
class Moment:
    """One answer: ``start`` and ``end`` in seconds, ``score`` in [0, 1]."""

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Saliency:
    """The highlight curve.

    Attributes:
        times: float64 ``[T]``, centres of the sampled clips, seconds.
        scores: float32 ``[T]``, relevance to the query. Saliency family: a probability in [0, 1]; grounding family:
            that times a cosine, so in [-1, 1], where values below 0 speak against the query.
    """

    times: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Grounding:
    """The answer to one query on one video.

    Attributes:
        query: The sentence.
        video: The file.
        duration: Seconds of video that the answer covers.
        start: Seconds on the player's clock at which the video begins.
        moments: Best first.
        saliency: The highlight curve.
        model: Name of the checkpoint.
        sampling: How frames were picked.
        video_truncated: Whether the file ended early or was damaged; the answer covers ``duration`` seconds.
        query_truncated: Whether the query was cut to what the text tower takes.
        windows: Number of overlapping windows the video was covered with (1: seen whole).
    """

    query: str
    video: str
    duration: float
    start: float
    moments: list[Moment]
    saliency: Saliency
    model: str
    sampling: Sampling
    video_truncated: bool = False
    query_truncated: bool = False
    windows: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The answer in plain Python values, as `r2tuning ground --json` prints it.

        Returns:
            The attributes, seconds rounded to 3 decimals and scores to 6; ``moments`` is a list of
            ``{"start", "end", "score"}``, ``saliency`` is ``{"times": [...], "scores": [...]}``.
        """
        return {
            "query": self.query,
            "video": self.video,
            "duration": _round(self.duration, 3),
            "start": _round(self.start, 3),
            "model": self.model,
            "sampling": self.sampling,
            "video_truncated": bool(self.video_truncated),
            "query_truncated": bool(self.query_truncated),
            "windows": int(self.windows),
            "moments": [
                {"start": _round(m.start, 3), "end": _round(m.end, 3), "score": _round(m.score, 6)}
                for m in self.moments
            ],
            "saliency": {
                "times": [_round(time, 3) for time in self.saliency.times],
                "scores": [_round(score, 6) for score in self.saliency.scores],
            },
        }


def _round(value: float, decimals: int) -> float:
    # float(): NumPy scalars are no JSON numbers. + 0.0 turns -0.0 into 0.0.
    return round(float(value), decimals) + 0.0
