"""What one stage hands to the next, in order: video → frames → features → output → answer.

Letters in shapes: B batch, K layers, T frames, P patches per frame, L query tokens, C hidden, N points.
Masks are bool, True = real. Times are seconds on the clock a player shows; frame indices stay inside the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch

LONGEST_VIDEO = 1e8
"""Seconds, three years: more is no duration."""
MOST_FPS = 1000
"""Frames sampled per second; more is no frame rate."""

Sampling = Literal["exact", "fast", "keyframe"]
"""How frames are picked: ``exact`` at the sampling times, ``fast`` near them, wherever decoding is cheapest,
``keyframe`` from key frames only (fastest; far from the sampling times where key frames are rare)."""

Engine = Literal["torch", "torch-bf16", "onnx-int8"]
"""What runs the image tower: ``torch`` as published; ``torch-bf16``, whose blocks multiply in bf16, faster on a CPU
with AMX; ``onnx-int8``, in 8-bit integers, faster on any CPU."""

Summary = Literal["cls", "mean"]
"""What token 0 of a frame's features is: the [CLS] token of CLIP, or the mean of the patches where there is none."""


_VIDEO_ENDINGS = """
    264 265 3g2 3gp 3gpp amv asf av1 avi avs2 avs3 bik bk2 cavs dav dif divx drc dv dvr-ms evo f4v flc fli flv gif
    gxf h261 h263 h264 h265 hevc ismv ivf k3g lvf m1v m2p m2t m2ts m2v m4v mj2 mjp2 mjpeg mjpg mk3d mkv mod moflex
    mov mp4 mpe mpeg mpg mpv mpv2 mtv mts mv mvi mxf mxg nsv nut obu ogg ogm ogv ogx ps qt rcv rm rmvb roq rpl smk
    swf tod tp trp ts ty vb vc1 vc2 viv vob vro vvc webm wm wmv wtv xmv y4m yuv
"""

VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _VIDEO_ENDINGS.split())
"""Endings of video files, in lower case: the containers and raw streams that FFmpeg reads pictures from."""


@dataclass(frozen=True)
class Preprocessing:
    """How a backbone wants its frames; the defaults are those of OpenAI's CLIP.

    Attributes:
        size: Side of the square image, pixels.
        fit: ``crop`` scales the short side to ``size`` and cuts out the center; ``squash`` scales both sides.
        resampling: The filter that scales.
        mean: Mean of RGB in [0, 1], subtracted where the backbone runs.
        std: Standard deviation of RGB, by which the difference is divided.
    """

    size: int = 224
    fit: Literal["crop", "squash"] = "crop"
    resampling: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)


CLIP_PREPROCESSING = Preprocessing()
"""What OpenAI's CLIP of 224 pixels takes."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video file, read from its presentation timestamps.

    Attributes:
        path: The file.
        duration: Seconds from the first frame shown to the end of the last one; a last still picture is shown until the
            sound ends.
        start: Seconds on the player's clock at which the first frame is shown.
        width: Pixels, as displayed (after rotation).
        height: Pixels, as displayed (after rotation).
        rotation: Degrees clockwise (0, 90, 180 or 270) by which decoded frames are turned for display.
        frame_rate: Frames per second; for a variable rate, the frame count over the duration.
        variable_frame_rate: Whether frames are unevenly spaced by more than timestamp rounding.
        codec: FFmpeg's name of the video codec, such as ``h264``.
        has_audio: Whether the file has sound.
        timecode: Timecode of the first frame as the file states it, such as ``10:00:00:00``; None if it does not.
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
    has_audio: bool = False
    timecode: str | None = None


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive sampled frames: uint8 RGB ``[n, 3, size, size]``, shown at float64 ``[n]`` seconds.

    ``repeated``, bool ``[n]``, tells which frames are the one before, also of the batch before, sampled again.
    """

    pixels: np.ndarray
    times: np.ndarray
    repeated: np.ndarray


@dataclass(frozen=True)
class SampledVideo:
    """What is known once all T frames of a video have been sampled.

    The duration is that of the usable part: ``truncated`` videos ended early or were damaged. The start is the time of
    the first frame on the player's clock. Both are in seconds.
    """

    frames: int
    duration: float
    start: float
    truncated: bool
    sampling: Sampling


@dataclass(frozen=True)
class QueryFeatures:
    """A sentence, encoded by the frozen text tower.

    ``values`` are fp32 ``[K, L, Dq]``, outputs of the last K blocks, oldest first, start and end tokens included.
    """

    text: str
    values: torch.Tensor
    truncated: bool = False


Form = Literal["released", "paper"]
"""Which model: that of the released checkpoints, or the equations of the paper as written (see `R2Config`)."""


@dataclass(frozen=True)
class ModelOutput:
    """The model's output for a batch, before decoding.

    Attributes:
        hidden: ``[B, T, C]``, what pyramid, heads and saliency use: the last hidden state after a ReLU, or as it is in
            the paper's form.
        query: ``[B, C]``, the pooled query q̃.
        class_logits: ``[B, N]``, foreground logits of every point.
        offsets: ``[B, N, 2]``, distances > 0 to start and end in strides of the point; None for the saliency family.
        points: ``[N, 4]``: position, lowest and highest regression range (all in frames) and stride.
        point_mask: ``[B, N]``, True for points that lie on real frames.
        video_mask: ``[B, T]``, True for real frames.
        video_cls: ``[B, K, T, C]``, projected [CLS] tokens (Eq. 6), oldest layer first; for calibration losses.
        query_pooled: ``[B, K, C]``, pooled projected queries, oldest layer first; for calibration losses.
        form: Of the model; it decides what saliency is.
        presence: ``[B]``, logits of the video showing the query at all; None for models without that head.
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
    form: Form = "released"
    presence: torch.Tensor | None = None


@dataclass(frozen=True)
class PatchAttention:
    """Attention of the words of a query to some frames of a video (Eq. 4).

    Attributes:
        query: The sentence.
        words: Its words, then a name for its end token, in which CLIP gathers the whole sentence.
        times: float64 ``[n]``, centers of the frames' clips, seconds on the player's clock.
        layers: For each step, the layer of CLIP that it uses, counted from the last one, which is 1; 0 for the mean of
            all.
        weights: fp32 ``[steps, n, words, P+1]``, [CLS] first; each row sums to 1. A word of several tokens has their
            mean.
    """

    query: str
    words: tuple[str, ...]
    times: np.ndarray
    layers: tuple[int, ...]
    weights: np.ndarray


@dataclass(frozen=True)
class Moment:
    """A piece of a video: ``start`` and ``end`` in seconds, ``score`` in [0, 1].

    In a calibrated answer (`Grounding.calibrated`), the score is the probability that the moment overlaps a true one
    with IoU ≥ 0.5, if the video has one; otherwise it only ranks.
    """

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Saliency:
    """The highlight curve.

    Attributes:
        times: float64 ``[T]``, centers of the sampled clips, seconds.
        scores: ``[T]``, relevance to the query. Calibrated: float64, the probability that the frame is relevant, if
            anything in the video is. Otherwise float32, and it only ranks: in [0, 1] for the saliency family; in
            [-1, 1] for the grounding family and the paper's form, where values below 0 speak against the query.
    """

    times: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Reliability:
    """How often predictions are right, in bins of increasing score.

    Attributes:
        predicted: float64 ``[b]``, mean predicted probability.
        observed: float64 ``[b]``, share of predictions that are right.
        shares: float64 ``[b]``, share of all predictions, above 0; they sum to 1.
    """

    predicted: np.ndarray
    observed: np.ndarray
    shares: np.ndarray
