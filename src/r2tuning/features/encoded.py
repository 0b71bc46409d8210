"""An encoded video: the features of its frames with the facts that grounding needs.

Features are kept as fp16, the precision that the published models were trained with, laid out ``[T, K, P+1, Dv]``.
They live in memory or in a file; only the needed part of a file is read, so its size does not matter.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from r2tuning.errors import FeatureError
from r2tuning.files import guard, name_temporary, relate, replace_file, require_regular
from r2tuning.hub import identify_file
from r2tuning.types import LONGEST_VIDEO, MOST_FPS, Engine, Sampling, Summary

FEATURE_SUFFIX = ".safetensors"
"""What the name of a saved video ends in."""

TENSOR = "video"
METADATA = "r2tuning"
ROWS = "rows"
MOST_EXPANDED = 4 << 30

# A picture that is sampled fewer times in a row is stored as often; one that stays longer, only once.
_LONG_RUN = 16

Facts = TypeVar("Facts", bound=BaseModel)


class EncodingFacts(BaseModel):
    """How the features of a video were made: the facts of its `SampledVideo` and of the backbone.

    Attributes:
        video: Path of the video, as given.
        absolute: The same from the root; empty if unknown, like the next two.
        relative: The same from the folder that the features were saved in.
        identity: Of its content, see `r2tuning.hub.identify_file`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    video: str
    duration: float = Field(gt=0, le=LONGEST_VIDEO)
    start: float = Field(ge=-LONGEST_VIDEO, le=LONGEST_VIDEO)
    fps: float = Field(gt=0, le=MOST_FPS)
    sampling: Sampling
    truncated: bool
    backbone: str
    fingerprint: str
    preprocess_version: int
    engine: Engine = "torch"
    summary: Summary = "cls"
    absolute: str = ""
    relative: str = ""
    identity: str = ""

    def find_video(self, features: Path, chosen: str | Path | None = None) -> str:
        """Where the video is now: at its old place, as far from the features as before, or beside them.

        Returns the old path where none of these is the video that the features were made from. Another file as
        ``chosen`` is a FeatureError.
        """
        if chosen is not None:
            if not self._is_video(chosen):
                raise FeatureError(f"{chosen}: is not the video of {features}, {self.video}; give that, or encode this")
            return str(chosen)
        beside = features.parent / Path(self.video).name
        relative = features.parent / self.relative if self.relative else beside
        return next(
            (str(p) for p in (self.video, self.absolute, relative, beside) if p and self._is_video(p)), self.video
        )

    def _is_video(self, path: str | Path) -> bool:
        try:
            require_regular(path)
            return self.identity in ("", identify_file(path))
        except (OSError, ValueError):
            return False


class EncodedVideo:
    """Features of one video, fp16 ``[T, K, P+1, Dv]``; made by `r2tuning.Grounder.encode`.

    Args:
        facts: How the features were made.
        values: The features in memory, or the safetensors file that holds them.
        rows: If frames repeat, int32 ``[T]``, ascending, where the features of each frame are in the values.

    Attributes:
        frames: T.
        distinct: The number of frames whose features are stored.
        layers: K.
        tokens: P + 1.
        width: Dv.
    """

    def __init__(self, facts: EncodingFacts, values: Tensor | Path, rows: Tensor | None = None) -> None:
        self.facts = facts
        self._values = values
        self._rows = rows
        if isinstance(values, Tensor):
            shape = list(values.shape)
        else:
            with safe_open(values, "pt") as file:
                shape = file.get_slice(TENSOR).get_shape()
        self.distinct, self.layers, self.tokens, self.width = shape
        self.frames = self.distinct if rows is None else len(rows)

    def __repr__(self) -> str:
        facts = self.facts
        where = "in memory" if isinstance(self._values, Tensor) else "on disk"
        megabytes = self.frames * self.layers * self.tokens * self.width * 2 / 1e6
        frames = f"{self.frames} frames at {facts.fps:g} fps, {facts.duration:.1f} s"
        return f"<EncodedVideo {facts.video}: {frames}, by {facts.backbone}, {megabytes:.1f} MB {where}>"

    def read(self, start: int, stop: int) -> Tensor:
        """The features of frames ``start`` to ``stop`` (excluded), fp16 ``[K, stop - start, P+1, Dv]`` on the CPU."""
        if self._rows is not None:
            rows = self._rows[start:stop].long()
            first = int(rows[0]) if len(rows) else 0
            stored = self.read_stored(first, int(rows[-1]) + 1 if len(rows) else 0)
            return stored[rows - first].transpose(0, 1)
        return self.read_stored(start, stop).transpose(0, 1)

    @property
    def rows(self) -> Tensor | None:
        """Where the features of each frame are among those that are stored, int32 ``[T]``; None if in order."""
        return self._rows

    def read_stored(self, start: int, stop: int) -> Tensor:
        """Stored features, those of repeated frames once: fp16 ``[stop - start, K, P+1, Dv]`` on the CPU."""
        if isinstance(self._values, Tensor):
            return self._values[start:stop]
        # Opened again for each piece: a mapping that stays open keeps every page it has touched.
        with safe_open(self._values, "pt") as file:
            piece: Tensor = file.get_slice(TENSOR)[start:stop]
        return piece

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file that `load` reads.

        Raises:
            FeatureError: If it cannot be written there.
        """
        with replace_file(path, error=FeatureError, refusals=(SafetensorError,)) as part:
            facts = self.facts
            if facts.absolute:
                facts = facts.model_copy(update={"relative": relate(facts.absolute, Path(path).absolute().parent)})
            metadata = {METADATA: facts.model_dump_json()}
            if self._rows is not None:  # few pictures, compared with the frames
                tensors = {TENSOR: self.read_stored(0, self.distinct).contiguous(), ROWS: self._rows}
                save_file(tensors, part, metadata=metadata)
            elif isinstance(self._values, Tensor):
                save_file({TENSOR: self._values.contiguous()}, part, metadata=metadata)
            else:
                shutil.copyfile(self._values, part)
                _write_header(part, facts, [self.frames, self.layers, self.tokens, self.width])

    @classmethod
    def load(cls, path: str | Path, video: str | Path | None = None) -> EncodedVideo:
        """Opens a file written by `save`, without reading the features yet.

        Args:
            path: The file.
            video: Where the video is now, if not where it was, beside the features, or as far from them as before.

        Raises:
            FeatureError: If it is missing, damaged, or holds something else, or if ``video`` is another one.
        """
        shape, facts = read_header(Path(path), TENSOR, 4, EncodingFacts)
        facts = facts.model_copy(update={"video": facts.find_video(Path(path), video)})
        return cls(facts, Path(path), _read_rows(Path(path), shape[0]))

    def expand(self) -> EncodedVideo:
        """The same with the features of every frame, in memory if frames repeat, for those who read files as arrays.

        Raises:
            FeatureError: If that would take more than `MOST_EXPANDED` bytes, for a video that hardly changes.
        """
        if self._rows is None:
            return self
        size = 2 * self.frames * self.layers * self.tokens * self.width
        if size > MOST_EXPANDED:
            raise FeatureError(
                f"{self.facts.video}: a store would need {size / 1e9:,.0f} GB for the {self.distinct} pictures that it "
                f"shows for {self.facts.duration / 3600:,.0f} hours; cut out the pauses first"
            )
        return EncodedVideo(self.facts, self.read(0, self.frames).transpose(0, 1).contiguous())


def _read_rows(path: Path, distinct: int) -> Tensor | None:
    with safe_open(path, "pt") as file:
        if ROWS not in file.keys():  # noqa: SIM118  (not a mapping)
            return None
        rows: Tensor = file.get_tensor(ROWS).clone()
    sound = rows.dtype == torch.int32 and rows.dim() == 1 and len(rows) > 0 and int(rows[0]) >= 0
    if not sound or int(rows[-1]) >= distinct or bool((rows.diff() < 0).any()):
        raise FeatureError(f"{path}: the rows of its frames are damaged; encode it again")
    return rows


def read_header(path: Path, tensor: str, axes: int, facts: type[Facts]) -> tuple[tuple[int, ...], Facts]:
    """Shape and facts of the features in a safetensors file, without reading the features.

    A file whose ``tensor`` does not have that many axes, or none at all, is a FeatureError.
    """
    if not path.exists():
        raise FeatureError(f"{path}: no such file; make it with --save-features")
    with guard(path, FeatureError, "encode it again"):
        require_regular(path)
        with safe_open(path, "pt") as file:
            metadata, names = file.metadata() or {}, file.keys()
            piece = file.get_slice(tensor) if tensor in names and METADATA in metadata else None
            if piece is None or piece.get_dtype() != "F16" or len(piece.get_shape()) != axes:
                raise ValueError(f"not features of a {tensor} written by r2tuning")
            if 0 in piece.get_shape():
                raise ValueError("has no features")
            return tuple(piece.get_shape()), facts.model_validate_json(metadata[METADATA])


HEADER = 32 * 1024
"""Bytes at the head of a file that `FeatureWriter` wrote, for the shape and the facts, which are known last."""


def _write_header(path: Path, facts: EncodingFacts, shape: list[int]) -> None:
    """Writes the head of a safetensors file, if there is as much room as `FeatureWriter` leaves."""
    tensor = {"dtype": "F16", "shape": shape, "data_offsets": [0, 2 * math.prod(shape)]}
    text = json.dumps({"__metadata__": {METADATA: facts.model_dump_json()}, TENSOR: tensor}).encode()
    room = (HEADER - 8).to_bytes(8, "little")
    with path.open("r+b") as file:
        if file.read(8) in (room, bytes(8)) and len(text) <= HEADER - 8:
            file.seek(0)
            file.write(room + text.ljust(HEADER - 8))


class FeatureWriter:
    """Collects features in memory, and in a temporary file once they outgrow ``memory_limit`` bytes."""

    def __init__(self, memory_limit: int = 256 * 2**20) -> None:
        self._limit = memory_limit
        self._parts: list[Tensor] = []
        self._bytes = 0
        self._frames = 0
        self._path: Path | None = None
        self._last: Tensor | None = None
        self._waiting = 0  # frames that repeat the last one
        self._runs: list[tuple[int, int]] = []  # where the features of a long run are, and how often they repeat

    def append(self, values: Tensor | None, repeated: np.ndarray | None = None) -> None:
        """Adds frames, ``[n, K, P+1, Dv]`` in any precision and on any device.

        With ``repeated``, as in `FrameBatch`, those that repeat the one before are not among the values.
        """
        taken = 0
        for again in [] if repeated is None or not repeated.any() else repeated.tolist():
            if again:
                self._waiting += 1
            elif values is not None:
                self._repeat_last()
                self._add(values[taken : taken + 1])
                taken += 1
        if values is not None and taken < len(values):
            self._repeat_last()
            self._add(values[taken:])

    def _repeat_last(self) -> None:
        if self._waiting and self._last is not None:
            if self._waiting < _LONG_RUN:
                self._add(self._last.expand(self._waiting, *self._last.shape[1:]))
            else:
                self._runs.append((self._frames - 1, self._waiting))
        self._waiting = 0

    def _add(self, values: Tensor) -> None:
        # Backbones have a few outlying channels; in fp16 they may be clamped, but must not become infinite.
        limit = torch.finfo(torch.float16).max
        part = values.clamp(-limit, limit).half().cpu().contiguous()
        self._parts.append(part)
        self._last = part[-1:].clone()
        self._frames += len(part)
        self._bytes += part.nbytes
        if self._path is not None or self._bytes > self._limit:
            self._spill()

    def finish(self, facts: EncodingFacts) -> EncodedVideo:
        """The collected frames, at least one; their temporary file lives as long as the result."""
        self._repeat_last()
        rows = None
        if self._runs:
            counts = torch.ones(self._frames, dtype=torch.int64)
            counts[[row for row, _ in self._runs]] += torch.tensor([count for _, count in self._runs])
            rows = torch.arange(self._frames, dtype=torch.int32).repeat_interleave(counts)
        if self._path is None:
            return EncodedVideo(facts, torch.cat(self._parts), rows)
        _write_header(self._path, facts, [self._frames, *self._shape])
        encoded = EncodedVideo(facts, self._path, rows)
        weakref.finalize(encoded, self._path.unlink, missing_ok=True)
        return encoded

    def discard(self) -> None:
        """Drops what was collected and removes the temporary file."""
        self._parts.clear()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _spill(self) -> None:
        try:
            if self._path is None:
                self._path = name_temporary(Path(tempfile.gettempdir()))
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL, 0o600))
                self._shape = self._parts[0].shape[1:]
                self._path.write_bytes(bytes(HEADER))
            with self._path.open("ab") as file:
                for part in self._parts:
                    file.write(part.numpy().tobytes())
        except OSError as error:
            self.discard()
            raise FeatureError(
                f"{tempfile.gettempdir()}: no room for the features of this video ({error}); "
                f"set TMPDIR to a folder on a larger disk"
            ) from error
        self._parts.clear()
