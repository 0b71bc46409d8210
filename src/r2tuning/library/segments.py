"""Vectors of frames in the space of sentences, in files that only grow: which videos are near a query, and where.

A segment is a file of fp16 rows, without a header. Rows are added after the last one that the catalog counts, so what a
killed run left there is overwritten, and what readers map is never changed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear

from r2tuning.errors import LibraryError
from r2tuning.files import flush_folder
from r2tuning.library.catalog import Catalog
from r2tuning.library.records import Ints, RowRange, Segment

SEGMENT_FOLDER = "segments"
MOST_ROWS = 256 * 1024
"""Rows of a segment, at most."""

SAME = 0.97
"""A frame whose cosine to the last one that is kept reaches this is left out.

Two frames of a CLIP have half of their length in common whatever they show, so that 0.95 would drop what happens in a
still shot.
"""

_SPARE = 10  # videos more than asked for, whose cosines are computed exactly
_ROUNDING = 2e-3  # by which products in fp16 may be too high or too low, generously


@dataclass(frozen=True)
class FrameVectors:
    """What is kept of the frames of a video: unit vectors fp16 ``[n, D]``, and the frame of each, ascending."""

    vectors: NDArray[np.float16]
    frames: Ints


@dataclass(frozen=True)
class Peak:
    """Where a video is near a query.

    Attributes:
        video: Its number.
        frame: The nearest frame.
        cosine: How near it is, in [-1, 1].
        first: The first frame around it that is nearer than halfway between the farthest and the nearest of the video.
        last: The last such frame.
    """

    video: int
    frame: int
    cosine: float
    first: int
    last: int


class VectorView(Protocol):
    """The vectors of a generation as they were when the view was made; what a writer does later does not change it."""

    def scan(self, query: Tensor, videos: Collection[int], count: int, apart: int) -> list[Peak]:
        """The nearest peaks of some videos, nearest first.

        Args:
            query: Unit vector, fp32 ``[D]``.
            videos: Numbers of the videos that may be found. It is as if there were no others.
            count: Most peaks to return.
            apart: Least distance of two peaks of a video, in frames.
        """
        ...

    def read(self, video: int) -> FrameVectors:
        """The vectors of a video."""
        ...


class VectorIndex(Protocol):
    """Keeps the vectors of the frames of videos.

    What `append` wrote counts once the catalog has the video, and a view is asked only about videos that the catalog
    has: rows of others may stay until they are dropped.
    """

    def append(self, catalog: Catalog, generation: int, video: int, vectors: FrameVectors) -> None:
        """Stores vectors, durably, in the transaction that adds the video."""
        ...

    def drop(self, catalog: Catalog, videos: Collection[int]) -> None:
        """Forgets videos, in the transaction that drops them."""
        ...

    def view(self, catalog: Catalog, generation: int) -> VectorView:
        """The vectors of a generation as the catalog has them now."""
        ...


def thin(vectors: Tensor, frames: Ints) -> FrameVectors:
    """Drops frames that look like the last one that is kept; vectors are unit, fp32 ``[n, D]``.

    Example:
        >>> near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 1.0]]), dim=1)
        >>> thin(near, np.arange(3, dtype=np.int32)).frames.tolist()
        [0, 2]
    """
    rounded = vectors.half()
    values = rounded.float().numpy()
    kept = [0] if len(values) else []
    for row in range(1, len(values)):
        if values[row] @ values[kept[-1]] < SAME:
            kept.append(row)
    return FrameVectors(rounded.numpy()[kept], frames[kept].astype(np.int32))


def segment_path(folder: Path, segment: int) -> Path:
    """The file of a segment."""
    return folder / SEGMENT_FOLDER / f"{segment}.f16"


class SegmentIndex:
    """A `VectorIndex` of files beside the catalog, scanned exactly.

    Args:
        folder: The library.
        most_rows: Rows of a segment, at most.
    """

    def __init__(self, folder: Path, most_rows: int = MOST_ROWS) -> None:
        self._folder = folder
        self._most_rows = most_rows

    def append(self, catalog: Catalog, generation: int, video: int, vectors: FrameVectors) -> None:
        """See `VectorIndex.append`."""
        width = vectors.vectors.shape[1]
        segments = catalog.list_segments(generation)
        last = segments[-1] if segments else None
        done = 0
        while done < len(vectors.frames):
            if last is None or last.rows >= self._most_rows:
                last = catalog.add_segment(generation, width)
            if last.width != width:
                raise LibraryError(f"{self._folder}: has vectors of width {last.width}, not {width}; check the model")
            stop = min(len(vectors.frames), done + self._most_rows - last.rows)
            self._write(last, vectors.vectors[done:stop])
            rows = RowRange(video, last.id, last.rows, vectors.frames[done:stop])
            catalog.add_range(rows)
            last = Segment(last.id, generation, width, rows.stop)
            done = stop

    def _write(self, segment: Segment, vectors: NDArray[np.float16]) -> None:
        path = segment_path(self._folder, segment.id)
        try:
            path.parent.mkdir(exist_ok=True)
            new = not path.exists()
            with path.open("wb" if new else "r+b") as file:
                file.truncate(segment.rows * 2 * segment.width)
                file.seek(0, os.SEEK_END)
                file.write(np.ascontiguousarray(vectors, "<f2").tobytes())
                file.flush()
                os.fsync(file.fileno())
            if new:
                flush_folder(path.parent)
        except OSError as error:
            raise LibraryError(f"{path}: cannot be written ({error.strerror}); free space and run it again") from error

    def drop(self, catalog: Catalog, videos: Collection[int]) -> None:
        """See `VectorIndex.drop`: rows without a range are dead, until `repair.compact`."""

    def view(self, catalog: Catalog, generation: int) -> SegmentView:
        """See `VectorIndex.view`."""
        return SegmentView(self._folder, catalog.list_segments(generation), catalog.list_ranges(generation))


class SegmentView:
    """A `VectorView` of segments, mapped into memory.

    Args:
        folder: The library.
        segments: What the catalog says of them.
        ranges: Of all videos, by segment and row.

    Raises:
        LibraryError: If a file is missing or too short.
    """

    def __init__(self, folder: Path, segments: list[Segment], ranges: list[RowRange]) -> None:
        self._frames = [rows.frames for rows in ranges]
        # [r, 4]: video, segment, first row and the row after the last, for each range.
        columns = [(rows.video, rows.segment, rows.first, rows.stop) for rows in ranges]
        self._ranges = np.array(columns, np.int64).reshape(-1, 4)
        self._maps = {segment.id: _map_segment(folder, segment) for segment in segments if segment.rows}
        for video, segment, first, stop in columns:
            if segment not in self._maps or not 0 <= first < stop <= len(self._maps[segment]):
                raise LibraryError(f"{folder}: rows of video {video} are gone; run r2tuning library check --repair")

    def scan(self, query: Tensor, videos: Collection[int], count: int, apart: int) -> list[Peak]:
        """See `VectorView.scan`."""
        chosen = np.flatnonzero(np.isin(self._ranges[:, 0], np.fromiter(videos, np.int64, len(videos))))
        if not len(chosen):
            return []
        vector = query.to("cpu", torch.float32)
        cosines = self._multiply(vector, chosen)
        sizes = self._ranges[chosen, 3] - self._ranges[chosen, 2]
        begins = np.r_[0, np.cumsum(sizes)]
        numbers, owner = np.unique(self._ranges[chosen, 0], return_inverse=True)
        best = np.full(len(numbers), -np.inf)
        np.maximum.at(best, owner, np.maximum.reduceat(cosines, begins[:-1]))
        # Peaks of all other videos are farther than those of these, of which there are enough.
        order = np.lexsort((numbers, -best))[: count + _SPARE]
        floor = float(best[order[count - 1]]) - _ROUNDING if len(order) >= count else -math.inf
        peaks: list[Peak] = []
        for place in order:
            own = np.flatnonzero(owner == place)
            parts = [self._maps[int(s)][a:b] for _, s, a, b in self._ranges[chosen[own]].tolist()]
            curve = (torch.from_numpy(np.concatenate(parts)).float() @ vector).numpy()
            frames = np.concatenate([self._frames[chosen[i]] for i in own])
            peaks += find_peaks(int(numbers[place]), frames, curve, count, apart, floor)
        return sorted(peaks, key=lambda peak: (-peak.cosine, peak.video, peak.frame))[:count]

    def read(self, video: int) -> FrameVectors:
        """See `VectorView.read`."""
        own = np.flatnonzero(self._ranges[:, 0] == video)
        frames = np.concatenate([self._frames[i] for i in own])
        vectors = np.concatenate([self._maps[int(s)][a:b] for _, s, a, b in self._ranges[own].tolist()])
        order = np.argsort(frames, kind="stable")
        return FrameVectors(vectors[order], frames[order])

    def _multiply(self, vector: Tensor, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosines of the rows of some ranges, one range after the other; other rows are not read.

        The product is in fp16, as the rows are, which rounds by up to 5e-4 and takes a third of the time.
        """
        _, segment, first, stop = self._ranges[chosen].T
        apart = np.r_[True, (segment[1:] != segment[:-1]) | (first[1:] != stop[:-1])]
        half = vector.half()[None]
        # `linear` takes up to a third less time than `mv`, which has no fp16 product of its own on newer processors.
        parts = [
            linear(torch.from_numpy(self._maps[int(segment[begin])][int(first[begin]) : int(stop[end - 1])]), half)
            for begin, end in pairwise([*np.flatnonzero(apart).tolist(), len(chosen)])  # ranges that lie side by side
        ]
        return torch.cat(parts)[:, 0].float().numpy()


def find_peaks(
    video: int, frames: Ints, curve: NDArray[np.float32], count: int, apart: int, floor: float = -math.inf
) -> list[Peak]:
    """The nearest peaks of a video, at most ``count``, from its kept frames, ascending, and their cosines ``[n]``.

    Peaks with a cosine below ``floor`` are left out.

    Example:
        >>> curve = np.array([0.1, 0.5, 0.4, 0.1, 0.3], dtype=np.float32)
        >>> [peak.frame for peak in find_peaks(1, np.arange(5, dtype=np.int32), curve, 2, 2)]
        [1, 4]
    """
    order = np.argsort(frames, kind="stable")
    frames, curve = frames[order], curve[order]
    lowest = float(curve.min())
    free = np.ones(len(curve), dtype=bool)
    peaks: list[Peak] = []
    while free.any() and len(peaks) < count:
        top = int(np.where(free, curve, -2).argmax())
        height = float(curve[top])
        if height < floor:
            break
        low = np.flatnonzero(curve < (height + lowest) / 2)
        split = int(np.searchsorted(low, top))
        first = int(frames[low[split - 1]]) + 1 if split else 0
        # A row stands for the frames up to the next one.
        last = int(frames[low[split]]) - 1 if split < len(low) else int(frames[-1])
        peaks.append(Peak(video, int(frames[top]), height, min(first, int(frames[top])), last))
        free &= np.abs(frames - frames[top]) >= apart
    return peaks


def _map_segment(folder: Path, segment: Segment) -> NDArray[np.float16]:
    path = segment_path(folder, segment.id)
    try:
        # Copy on write: PyTorch takes only arrays that may be written to.
        return np.memmap(path, np.dtype("<f2"), "c", shape=(segment.rows, segment.width))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is shorter than the catalog says"
        raise LibraryError(f"{path}: {reason}; run r2tuning library check --repair") from error
