"""What the catalog of a library hands out, by value, and what makes a generation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from r2tuning.errors import LibraryError
from r2tuning.types import Engine, Sampling
from r2tuning.video.preprocess import PREPROCESS_VERSION

if TYPE_CHECKING:
    from r2tuning.grounder import Grounder

Keep = Literal["vectors", "answers", "raw"]
"""What is kept of a video: ``vectors`` of its frames, with which it is found; for ``answers`` also what the model reads
(int8 v̂); ``raw`` features too, from which another head can be served without decoding. Each keeps what those before it
keep."""

Ints = NDArray[np.int32]


class GenerationFacts(BaseModel):
    """What made the vectors and v̂ of a generation; those of two models, or two ways to sample, are never mixed.

    Attributes:
        model: Name or folder of the checkpoint.
        backbone_at: Where its backbone is, if not where the checkpoint says; else None.
        head: Fingerprint of the weights of the head.
        backbone: Name of the backbone.
        fingerprint: Of its weights.
        preprocess_version: Of the frames.
        fps: Frames sampled per second.
        window: Frames of the window in whose middle v̂ sees each frame of a longer video.
        sampling: How frames are picked.
        engine: What runs the image tower.
        keep: What is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str
    backbone_at: str | None
    head: str
    backbone: str
    fingerprint: str
    preprocess_version: int
    fps: float = Field(gt=0, le=1000)
    window: int = Field(ge=1)
    sampling: Sampling
    engine: Engine
    keep: Keep

    def same(self, other: GenerationFacts) -> bool:
        """Whether both make the same vectors and v̂; names and folders may differ."""
        names = {"model", "backbone_at", "backbone"}
        return self.model_dump(exclude=names) == other.model_dump(exclude=names)

    def covers(self, other: GenerationFacts) -> bool:
        """Whether both make the same, and all that ``other`` keeps is kept."""
        tiers = get_args(Keep)
        more = tiers.index(self.keep) >= tiers.index(other.keep)
        return more and self.model_copy(update={"keep": other.keep}).same(other)


@dataclass(frozen=True)
class Generation:
    """The videos encoded by one model; the current one is searched, another may be being built."""

    id: int
    current: bool
    facts: GenerationFacts


@dataclass(frozen=True)
class File:
    """A file of the library.

    Attributes:
        path: From the root, links as given.
        size: Bytes.
        mtime_ns: When it was last changed.
        identity: Of its content, see `r2tuning.hub.identify_file`; empty if it could not be read.
        added: When it joined, seconds since 1970.
        missing: Whether it was not there when it was last looked for.
        reason: Why it has no video; empty if it has one.
    """

    path: str
    size: int
    mtime_ns: int
    identity: str
    added: float
    missing: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Video:
    """Encoded content.

    Attributes:
        id: Counts up, and is never used again.
        generation: By which it was encoded.
        identity: Of its content.
        duration: Seconds.
        start: Seconds on the player's clock at which it begins.
        fps: Frames sampled per second.
        frames: T.
        sampling: How they were picked.
        truncated: Whether the file ended early or is damaged.
        bytes: Size of what was kept of it when it was encoded.
    """

    id: int
    generation: int
    identity: str
    duration: float
    start: float
    fps: float
    frames: int
    sampling: Sampling
    truncated: bool
    bytes: int


@dataclass(frozen=True)
class Segment:
    """A file of vectors; rows after the first ``rows`` are no part of the library."""

    id: int
    generation: int
    width: int
    rows: int


@dataclass(frozen=True)
class RowRange:
    """Rows of a segment that belong to a video, and the frame of each, int32 ``[count]``; other rows are dead."""

    video: int
    segment: int
    first: int
    frames: Ints

    @property
    def stop(self) -> int:
        """The first row after them."""
        return self.first + len(self.frames)


@dataclass(frozen=True)
class Listed:
    """A file of a library, and its video: None if it could not be used, or is not encoded yet."""

    file: File
    video: Video | None

    @property
    def state(self) -> Literal["ready", "missing", "failed", "waiting"]:
        """What became of it: ``waiting`` files are encoded by the next `r2tuning.Library.rescan`."""
        if self.file.missing:
            return "missing"
        if self.file.reason:
            return "failed"
        return "waiting" if self.video is None else "ready"


@dataclass(frozen=True)
class LibraryInfo:
    """What a library holds.

    Attributes:
        name: Its folder, or its address in an object store.
        generation: What made it; None if it is empty.
        building: What is being made to take its place, if `rescan` was interrupted.
        files: How many files it knows.
        videos: How many different videos they are.
        seconds: How long these last.
        missing: How many files are not there.
        failed: How many could not be used.
        rows: Vectors of frames.
        dead: Vectors of videos that were removed.
        bytes: Size on the disk.
    """

    name: str
    generation: Generation | None
    building: Generation | None
    files: int
    videos: int
    seconds: float
    missing: int
    failed: int
    rows: int
    dead: int
    bytes: int


def name_model(model: str | Path) -> str:
    """The name of a model, or the absolute path of one in a folder."""
    return str(Path(model).absolute()) if Path(model).exists() else str(model)


def describe(grounder: Grounder, model: str, backbone: str | None, keep: Keep, sampling: Sampling) -> GenerationFacts:
    """What vectors and v̂ of a model are known by."""
    config, tower = grounder.config, grounder.backbone
    return GenerationFacts(
        model=model,
        backbone_at=backbone,
        head=fingerprint_head(grounder),
        backbone=tower.name,
        fingerprint=tower.fingerprint,
        preprocess_version=PREPROCESS_VERSION,
        fps=config.fps,
        window=max(1, round(config.window * config.fps)),
        sampling=sampling,
        engine=tower.engine,
        keep=keep,
    )


def fingerprint_head(grounder: Grounder) -> str:
    """Hash of the weights of the head, 16 hex digits."""
    digest = hashlib.sha256(grounder.config.model.model_dump_json().encode())
    for name, weight in sorted(grounder.model.state_dict().items()):
        digest.update(name.encode() + weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def other_model(name: str, old: GenerationFacts, new: GenerationFacts) -> LibraryError:
    """The error of asking a library with a model that did not make it."""
    ours, theirs = new.model_dump(), old.model_dump()
    differ = [key for key in ours if ours[key] != theirs[key] and key not in ("model", "backbone", "backbone_at")]
    reasons = ", ".join(f"{key} is {theirs[key]}, not {ours[key]}" for key in differ)
    return LibraryError(
        f"{name}: was made by {old.model} ({reasons}); use that, or encode all again with r2tuning library rescan"
    )
