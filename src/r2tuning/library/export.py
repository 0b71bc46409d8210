"""Writes what a library knows as Parquet, which other tools read: a row for each video, or for each vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from r2tuning.errors import LibraryError
from r2tuning.files import replace_file
from r2tuning.library.library import Library
from r2tuning.library.snapshot import Snapshot

Rows = Literal["videos", "vectors"]

_AT_ONCE = 100  # videos in a row group


def export_library(library: Library, path: Path, rows: Rows = "videos", *, force: bool = False) -> int:
    """Writes a Parquet file; returns its number of rows.

    Columns of ``videos``: ``video`` (number), ``path``, ``copies`` (paths with the same content), ``identity``,
    ``duration`` and ``start`` in seconds, ``fps``, ``frames``, ``sampling``, ``truncated``, ``model``, ``backbone``.
    Columns of ``vectors``: ``video``, ``path``, ``frame``, ``time`` (seconds, of the middle of
    what the frame stands for), ``vector`` (unit, fp16). Files that are missing or could not be used are left out.

    Raises:
        LibraryError: If there is no library, or the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    snapshot = library.look()
    make = _make_videos if rows == "videos" else _make_vectors
    numbers = sorted(snapshot.videos)
    parts = [numbers[first : first + _AT_ONCE] for first in range(0, len(numbers), _AT_ONCE)]
    count = 0
    with replace_file(path, force=force, error=LibraryError, refusals=(pa.ArrowException,)) as temporary:
        writer = None
        try:
            for table in (make(snapshot, part) for part in parts or [[]]):
                writer = writer or parquet.ParquetWriter(temporary, table.schema)
                writer.write_table(table)
                count += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    return count


def _paths(snapshot: Snapshot, number: int) -> list[str]:
    return sorted(file.path for file in snapshot.files[number])


def _make_videos(snapshot: Snapshot, numbers: list[int]) -> Any:
    import pyarrow as pa

    facts = snapshot.generation.facts
    videos = [snapshot.videos[number] for number in numbers]
    return pa.table(
        {
            "video": pa.array(numbers, pa.int64()),
            "path": pa.array([_paths(snapshot, number)[0] for number in numbers], pa.string()),
            "copies": pa.array([_paths(snapshot, number)[1:] for number in numbers], pa.list_(pa.string())),
            "identity": pa.array([video.identity for video in videos], pa.string()),
            "duration": pa.array([video.duration for video in videos], pa.float64()),
            "start": pa.array([video.start for video in videos], pa.float64()),
            "fps": pa.array([video.fps for video in videos], pa.float64()),
            "frames": pa.array([video.frames for video in videos], pa.int64()),
            "sampling": pa.array([video.sampling for video in videos], pa.string()),
            "truncated": pa.array([video.truncated for video in videos], pa.bool_()),
            "model": pa.array([facts.model] * len(numbers), pa.string()),
            "backbone": pa.array([facts.backbone] * len(numbers), pa.string()),
        }
    )


def _make_vectors(snapshot: Snapshot, numbers: list[int]) -> Any:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in ("video", "path", "frame", "time")}
    values = []
    for number in numbers:
        found, video = snapshot.view.read(number), snapshot.videos[number]
        columns["video"] += [number] * len(found.frames)
        columns["path"] += [_paths(snapshot, number)[0]] * len(found.frames)
        columns["frame"] += found.frames.tolist()
        columns["time"] += (video.start + (found.frames + 0.5) / video.fps).tolist()
        values.append(found.vectors)
    flat = np.concatenate(values) if values else np.zeros((0, 1), np.float16)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    kinds = {"video": pa.int64(), "path": pa.string(), "frame": pa.int32(), "time": pa.float64()}
    return pa.table({name: pa.array(columns[name], kind) for name, kind in kinds.items()} | {"vector": vectors})
