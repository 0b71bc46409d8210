"""What is to be extracted into a store, and how one video of it is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from r2tuning.backbones import ClipBackbone
from r2tuning.errors import VideoError
from r2tuning.features.extract import encode_video
from r2tuning.features.store import FeatureStore
from r2tuning.types import Sampling


@dataclass(frozen=True)
class VideoTask:
    """A video to be encoded.

    Attributes:
        name: Of its features.
        path: The file.
        fps: Frames per second to sample.
    """

    name: str
    path: Path
    fps: float


@dataclass(frozen=True)
class QueryTask:
    """A sentence to be encoded.

    Attributes:
        name: Of its features.
        text: The sentence.
    """

    name: str
    text: str


@dataclass(frozen=True)
class Failure:
    """A video that got no features.

    Attributes:
        name: Of its features.
        reason: One line.
    """

    name: str
    reason: str


def encode_task(
    task: VideoTask, store: FeatureStore, backbone: ClipBackbone, sampling: Sampling, threads: int | None = None
) -> Failure | None:
    """Encodes one video into a store, decoding with that many threads, or with one for each core.

    Returns:
        Why the file cannot be read as video, if so.

    Raises:
        FeatureError: If the features cannot be written, as then those of the next video cannot either.
    """
    try:
        encoded = encode_video(task.path, backbone, task.fps, sampling=sampling, threads=threads)
    except VideoError as error:
        return Failure(task.name, str(error))
    store.save_video(task.name, encoded)
    return None
