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

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from r2tuning.errors import FeatureError
from r2tuning.files import guard, name_temporary, relate, replace_file, require_regular
from r2tuning.hub import identify_file
from r2tuning.types import Engine, Sampling, Summary

TENSOR = "video"
METADATA = "r2tuning"
LONGEST_VIDEO = 1e8
"""Seconds, three years: more is no duration."""
MOST_FPS = 1000

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

    Attributes:
        frames: T.
        layers: K.
        tokens: P + 1.
        width: Dv.
    """

    def __init__(self, facts: EncodingFacts, values: Tensor | Path) -> None:
        self.facts = facts
        self._values = values
        if isinstance(values, Tensor):
            shape = list(values.shape)
        else:
            with safe_open(values, "pt") as file:
                shape = file.get_slice(TENSOR).get_shape()
        self.frames, self.layers, self.tokens, self.width = shape

    def read(self, start: int, stop: int) -> Tensor:
        """The features of frames ``start`` to ``stop`` (excluded), fp16 ``[K, stop - start, P+1, Dv]`` on the CPU."""
        if isinstance(self._values, Tensor):
            return self._values[start:stop].transpose(0, 1)
        # Opened again for each piece: a mapping that stays open keeps every page it has touched.
        with safe_open(self._values, "pt") as file:
            piece: Tensor = file.get_slice(TENSOR)[start:stop]
        return piece.transpose(0, 1)

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file that `load` reads.

        Raises:
            FeatureError: If it cannot be written there.
        """
        with replace_file(path, error=FeatureError, refusals=(SafetensorError,)) as part:
            facts = self.facts
            if facts.absolute:
                facts = facts.model_copy(update={"relative": relate(facts.absolute, Path(path).absolute().parent)})
            if isinstance(self._values, Tensor):
                save_file({TENSOR: self._values.contiguous()}, part, metadata={METADATA: facts.model_dump_json()})
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
        facts = read_header(Path(path), TENSOR, 4, EncodingFacts)[1]
        return cls(facts.model_copy(update={"video": facts.find_video(Path(path), video)}), Path(path))


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

    def append(self, values: Tensor) -> None:
        """Adds frames, ``[n, K, P+1, Dv]`` in any precision and on any device."""
        # Backbones have a few outlying channels; in fp16 they may be clamped, but must not become infinite.
        limit = torch.finfo(torch.float16).max
        part = values.clamp(-limit, limit).half().cpu().contiguous()
        self._parts.append(part)
        self._frames += len(part)
        self._bytes += part.nbytes
        if self._path is not None or self._bytes > self._limit:
            self._spill()

    def finish(self, facts: EncodingFacts) -> EncodedVideo:
        """The collected frames, at least one; their temporary file lives as long as the result."""
        if self._path is None:
            return EncodedVideo(facts, torch.cat(self._parts))
        _write_header(self._path, facts, [self._frames, *self._shape])
        encoded = EncodedVideo(facts, self._path)
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
