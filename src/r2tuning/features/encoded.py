"""An encoded video: the features of its frames with the facts that grounding needs.

Features are kept as fp16, the precision that the published models were trained with, laid out ``[T, K, P+1, Dv]``.
They live in memory or in a file; only the needed part of a file is read, so its size does not matter.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from r2tuning.errors import FeatureError
from r2tuning.files import first_problem, replace_file
from r2tuning.types import Engine, Sampling, Summary

TENSOR = "video"
METADATA = "r2tuning"
ROWS = "rows"
MOST_EXPANDED = 4 << 30

# A picture that is sampled fewer times in a row is stored as often; one that stays longer, only once.
_LONG_RUN = 16

Facts = TypeVar("Facts", bound=BaseModel)


class EncodingFacts(BaseModel):
    """How the features of a video were made: the facts of its `SampledVideo` and of the backbone."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    video: str
    duration: float = Field(gt=0)
    start: float
    fps: float = Field(gt=0)
    sampling: Sampling
    truncated: bool
    backbone: str
    fingerprint: str
    preprocess_version: int
    engine: Engine = "torch"
    summary: Summary = "cls"


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

    def read(self, start: int, stop: int) -> Tensor:
        """The features of frames ``start`` to ``stop`` (excluded), fp16 ``[K, stop - start, P+1, Dv]`` on the CPU."""
        if self._rows is not None:
            rows = self._rows[start:stop].long()
            first = int(rows[0]) if len(rows) else 0
            stored = self._read_stored(first, int(rows[-1]) + 1 if len(rows) else 0)
            return stored[rows - first].transpose(0, 1)
        return self._read_stored(start, stop).transpose(0, 1)

    def _read_stored(self, start: int, stop: int) -> Tensor:
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
            if self._rows is not None:  # few pictures, compared with the frames
                tensors = {TENSOR: self._read_stored(0, self.distinct).contiguous(), ROWS: self._rows}
                save_file(tensors, part, metadata={METADATA: self.facts.model_dump_json()})
            elif isinstance(self._values, Tensor):
                save_file({TENSOR: self._values.contiguous()}, part, metadata={METADATA: self.facts.model_dump_json()})
            else:
                shutil.copyfile(self._values, part)

    @classmethod
    def load(cls, path: str | Path) -> EncodedVideo:
        """Opens a file written by `save`, without reading the features yet.

        Raises:
            FeatureError: If it is missing, damaged, or holds something else.
        """
        shape, facts = read_header(Path(path), TENSOR, 4, EncodingFacts)
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
    if not path.is_file():
        raise FeatureError(f"{path}: no such file; make it with --save-features")
    try:
        with safe_open(path, "pt") as file:
            metadata, names = file.metadata() or {}, file.keys()
            piece = file.get_slice(tensor) if tensor in names and METADATA in metadata else None
            if piece is None or piece.get_dtype() != "F16" or len(piece.get_shape()) != axes:
                raise FeatureError(f"{path}: not features of a {tensor} written by r2tuning; encode it again")
            return tuple(piece.get_shape()), facts.model_validate_json(metadata[METADATA])
    except (SafetensorError, OSError) as error:
        raise FeatureError(f"{path}: damaged or not a feature file ({error}); encode it again") from error
    except ValidationError as error:
        raise FeatureError(f"{path}: {first_problem(error)}; encode it again") from error


class FeatureWriter:
    """Collects features in memory, and in a temporary file once they outgrow ``memory_limit`` bytes."""

    HEADER = 32 * 1024
    """Bytes reserved at the head of the file, where the shape is written once it is known."""

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
        header = {
            "__metadata__": {METADATA: facts.model_dump_json()},
            TENSOR: {"dtype": "F16", "shape": [self._frames, *self._shape], "data_offsets": [0, self._bytes]},
        }
        text = json.dumps(header).encode()
        with self._path.open("r+b") as file:
            file.write((self.HEADER - 8).to_bytes(8, "little") + text.ljust(self.HEADER - 8))
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
                handle, name = tempfile.mkstemp(prefix="r2tuning-", suffix=".safetensors")
                os.close(handle)
                self._path = Path(name)
                self._shape = self._parts[0].shape[1:]
                self._path.write_bytes(bytes(self.HEADER))
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
