"""The projected patches v̂ of a video in a file: int8 with one scale for each token, read a window at a time.

v̂ must not depend on the window that it is read for. A video that fits into one window has that window's own v̂. In a
longer one every frame is projected as if it were in the middle of a window (`R2Tuning.project_frames`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from r2tuning.errors import LibraryError
from r2tuning.features import EncodedVideo
from r2tuning.files import guard, require_regular
from r2tuning.model import R2Tuning
from r2tuning.model.pooling import QuantizedTokens

VALUES, SCALES, ROWS = "values", "scales", "rows"
FRAMES_AT_ONCE = 64


def write_projected(encoded: EncodedVideo, model: R2Tuning, window: int, path: Path) -> int:
    """Projects a video and writes v̂ to a new file, and on to the disk; returns its bytes.

    Args:
        encoded: The features.
        model: Whose projection it is.
        window: Frames of a window.
        path: Of the file; an existing one is replaced in place.
    """
    config = model.config
    rows = encoded.rows if encoded.frames > window else None
    frames = encoded.distinct if rows is not None else encoded.frames
    shape = [frames, config.steps, encoded.tokens]
    layout: dict[str, object] = {}
    place = 0
    tensors = [(SCALES, "F32", 4, shape), (VALUES, "I8", 1, [*shape, config.hidden])]
    if rows is not None:
        tensors.insert(1, (ROWS, "I32", 4, [len(rows)]))
    for name, kind, size, axes in tensors:
        layout[name] = {"dtype": kind, "shape": axes, "data_offsets": [place, place + size * math.prod(axes)]}
        place += size * math.prod(axes)
    text = json.dumps(layout).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    begin = 8 + len(text)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        scales: list[Tensor] = []
        file.seek(begin + place - math.prod(shape) * config.hidden)
        for projected in _project(encoded, model, window, stored=rows is not None):
            tokens = QuantizedTokens.quantize(projected)
            file.write(tokens.values.numpy().tobytes())
            scales.append(tokens.steps)
        file.seek(begin)
        file.write(torch.cat(scales).numpy().tobytes())
        if rows is not None:
            file.write(rows.to(torch.int32).numpy().tobytes())
        file.flush()
        os.fsync(file.fileno())
    return begin + place


@torch.inference_mode()
def _project(encoded: EncodedVideo, model: R2Tuning, window: int, *, stored: bool) -> Iterator[Tensor]:
    """v̂ of frames in order, or of those that are stored, ``[n, K, P+1, C]`` on the CPU."""
    device = model.level_scale.device
    if encoded.frames <= window:
        projected = model.project(encoded.read(0, encoded.frames)[None].to(device))
        yield projected[0].transpose(0, 1).cpu().contiguous()
        return
    frames = encoded.distinct if stored else encoded.frames
    for first in range(0, frames, FRAMES_AT_ONCE):
        stop = min(first + FRAMES_AT_ONCE, frames)
        features = encoded.read_stored(first, stop).transpose(0, 1) if stored else encoded.read(first, stop)
        yield model.project_frames(features[None].to(device), window)[0].transpose(0, 1).cpu().contiguous()


def read_projected(path: Path, start: int, stop: int) -> QuantizedTokens:
    """v̂ of the frames of a window, ``[K, stop - start, P+1, C]``; only these are read.

    Raises:
        LibraryError: If the file is missing or damaged.
    """
    with guard(path, LibraryError, "run r2tuning library check --repair"):
        require_regular(path)
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            if not {VALUES, SCALES} <= names:
                raise ValueError("is no v̂ of a library")
            rows = file.get_slice(ROWS)[start:stop].long() if ROWS in names else None
            if rows is not None and not len(rows):
                raise ValueError("is shorter than the catalog says")
            first, end = (start, stop) if rows is None else (int(rows[0]), int(rows[-1]) + 1)
            values, scales = file.get_slice(VALUES)[first:end], file.get_slice(SCALES)[first:end]
        if values.dim() != 4 or scales.shape != values.shape[:3] or len(values) < end - first:
            raise ValueError("is shorter than the catalog says")
        frames = QuantizedTokens(values, scales)
        if rows is not None:
            frames = frames[rows - first]
        if len(frames.values) != stop - start:
            raise ValueError("is shorter than the catalog says")
        return QuantizedTokens(frames.values.transpose(0, 1), frames.steps.transpose(0, 1))
