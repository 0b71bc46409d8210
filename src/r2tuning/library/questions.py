"""What a library is asked: a sentence, a moment to find more like, or a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from r2tuning.backbones import Backbone
from r2tuning.errors import LibraryError
from r2tuning.library.records import File, Video
from r2tuning.library.segments import FrameVectors
from r2tuning.types import Moment, QueryFeatures
from r2tuning.video.preprocess import read_picture


@dataclass(frozen=True)
class Sentence:
    """A sentence for the R² head, and its unit vector ``[D]`` in the space of frames."""

    text: str
    features: QueryFeatures
    vector: Tensor


@dataclass(frozen=True)
class Question:
    """What to look for.

    Attributes:
        text: How it is shown.
        vector: Unit vector ``[D]`` that frames are compared with.
        sentence: What the R² head reads; None for a moment or a picture, which it cannot read.
        without: Sentences that what is found must not match.
        number: The video of the moment that was given, which is not found again; None without one.
        span: That moment, seconds from the video's first frame.
    """

    text: str
    vector: Tensor
    sentence: Sentence | None = None
    without: tuple[Sentence, ...] = ()
    number: int | None = None
    span: tuple[float, float] = (0.0, 0.0)


def ask_sentence(sentence: Sentence, without: Sequence[Sentence] = ()) -> Question:
    """Asks for a sentence, and not for others."""
    text = sentence.text + "".join(f" (without: {other.text})" for other in without)
    return Question(text, sentence.vector, sentence, tuple(without))


def ask_picture(backbone: Backbone, path: str | os.PathLike[str]) -> Question:
    """Asks for frames like a picture.

    Raises:
        VideoError: If the file is no picture.
    """
    pixels = read_picture(path, backbone.preprocessing)
    (vector,) = backbone.embed_frames(backbone.encode_frames(pixels[None]))
    return Question(f"like {Path(path).name}", vector.cpu())


def ask_like(video: Video, vectors: FrameVectors, path: str, moment: Moment) -> Question:
    """Asks for more like a moment of a video, by the mean of the vectors of its frames.

    Args:
        video: The video.
        vectors: Its vectors.
        path: How the video is called.
        moment: Seconds on the player's clock; the score does not matter.

    Raises:
        LibraryError: If the moment is not in the video.
    """
    start, end = moment.start - video.start, min(moment.end - video.start, video.duration)
    if not 0 <= start < end:
        last = video.start + video.duration
        raise LibraryError(
            f"{path}: has no moment from {moment.start:g} to {moment.end:g} seconds; "
            f"it lasts from {video.start:g} to {last:g}"
        )
    first = int(start * video.fps)
    stop = max(first + 1, round(end * video.fps))
    # A frame that was left out looks like the last one that was kept.
    rows = np.searchsorted(vectors.frames, np.arange(first, min(stop, video.frames)), side="right") - 1
    mean = torch.from_numpy(vectors.vectors[rows]).float().mean(dim=0)
    text = f"like {Path(path).name} from {moment.start:g} to {moment.end:g} s"
    return Question(text, normalize(mean, dim=0), number=video.id, span=(start, end))


def find_video(videos: dict[int, Video], files: dict[int, list[File]], path: str | os.PathLike[str]) -> Video:
    """The video of a file, by its path.

    Raises:
        LibraryError: If it is not in the library.
    """
    place = os.path.abspath(path)  # noqa: PTH100  (links are not followed)
    for number, places in files.items():
        if any(file.path == place for file in places):
            return videos[number]
    raise LibraryError(f"{os.fspath(path)}: is not in the library; add it with r2tuning library add")
