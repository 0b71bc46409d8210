"""Keeps a library in order: sweeps what killed runs left, compacts segments, and finds and mends damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import safe_open

from r2tuning.errors import R2TuningError
from r2tuning.files import explain, flush_folder, remove_leftovers
from r2tuning.library.catalog import Catalog
from r2tuning.library.indexing import VIDEO_FOLDER, projected_path, raw_path
from r2tuning.library.projected import read_projected
from r2tuning.library.records import Generation, RowRange, Segment, Video
from r2tuning.library.segments import MOST_ROWS, SEGMENT_FOLDER, segment_path

MOST_DEAD = 0.2
"""Share of rows that belong to no video above which segments are rewritten without them."""


def sweep(catalog: Catalog) -> None:
    """Removes files that the catalog does not mention: those of killed runs, removed videos and old segments."""
    folder = catalog.folder
    wanted = {str(folder / VIDEO_FOLDER / name) for name in list_kept(catalog)}
    wanted |= {str(segment_path(folder, segment.id)) for segment in catalog.list_segments()}
    for name in (VIDEO_FOLDER, SEGMENT_FOLDER):
        if not (folder / name).is_dir():
            continue
        remove_leftovers(folder / name)
        for path in (folder / name).iterdir():
            if str(path) not in wanted and path.suffix in (".f16", ".safetensors"):
                with suppress(OSError):
                    path.unlink()


def list_kept(catalog: Catalog) -> set[str]:
    """Names of the files of v̂ and features that a library keeps."""
    places = {"vectors": (), "answers": (projected_path,), "raw": (projected_path, raw_path)}
    return {
        place(catalog.folder, video.id).name
        for generation in catalog.list_generations()
        for video in catalog.list_videos(generation.id)
        for place in places[generation.facts.keep]
    }


def tidy(catalog: Catalog) -> None:
    """Sweeps, and compacts where more than `MOST_DEAD` of the rows belong to no video."""
    sweep(catalog)
    every, dead = count_rows(catalog)
    if dead > MOST_DEAD * every:
        compact(catalog)


def count_rows(catalog: Catalog) -> tuple[int, int]:
    """How many rows the segments have, and how many of them belong to no video."""
    every = sum(segment.rows for segment in catalog.list_segments())
    living = sum(len(rows.frames) for g in catalog.list_generations() for rows in catalog.list_ranges(g.id))
    return every, every - living


def compact(catalog: Catalog) -> None:
    """Writes the living rows to new segments, which take the place of the old ones in one transaction."""
    folder = catalog.folder
    with catalog.change():
        for generation in catalog.list_generations():
            _compact(catalog, generation)
    sweep(catalog)
    flush_folder(folder / SEGMENT_FOLDER)


def _compact(catalog: Catalog, generation: Generation) -> None:
    folder = catalog.folder
    old = {segment.id: segment for segment in catalog.list_segments(generation.id)}
    ranges = catalog.list_ranges(generation.id)
    catalog.drop_segments(old)
    new: Segment | None = None
    file: BinaryIO | None = None
    try:
        for rows in ranges:
            width = old[rows.segment].width
            if new is None or new.rows + len(rows.frames) > MOST_ROWS:
                if file is not None:
                    _finish(file)
                new = catalog.add_segment(generation.id, width)
                file = segment_path(folder, new.id).open("wb")
            with segment_path(folder, rows.segment).open("rb") as source:
                source.seek(rows.first * 2 * width)
                file.write(source.read(len(rows.frames) * 2 * width))  # type: ignore[union-attr]
            moved = RowRange(rows.video, new.id, new.rows, rows.frames)
            catalog.add_range(moved)
            new = Segment(new.id, generation.id, width, moved.stop)
    finally:
        if file is not None:
            _finish(file)


def _finish(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def find_damage(catalog: Catalog) -> Iterator[tuple[int, str]]:
    """Videos that must be encoded again, and what is wrong with their segments or files."""
    folder = catalog.folder
    for generation in catalog.list_generations():
        segments = {segment.id: segment for segment in catalog.list_segments(generation.id)}
        ranges: dict[int, list[RowRange]] = {}
        last: RowRange | None = None
        for rows in catalog.list_ranges(generation.id):
            ranges.setdefault(rows.video, []).append(rows)
            if last is not None and last.segment == rows.segment and last.stop > rows.first:
                yield rows.video, f"video {rows.video}: shares rows with video {last.video}"
            last = rows
        for video in catalog.list_videos(generation.id):
            for problem in _check_vectors(folder, video, ranges.get(video.id, []), segments):
                yield video.id, f"video {video.id}: {problem}"
            if generation.facts.keep != "vectors" and (problem := _check_projected(folder, video)):
                yield video.id, problem
            if generation.facts.keep == "raw" and not raw_path(folder, video.id).is_file():
                yield video.id, f"{raw_path(folder, video.id)}: is missing"


def _check_vectors(folder: Path, video: Video, ranges: list[RowRange], segments: dict[int, Segment]) -> Iterator[str]:
    frames = np.concatenate([rows.frames for rows in ranges]) if ranges else np.zeros(0, np.int32)
    if not len(frames) or frames[0] != 0 or (np.diff(frames) <= 0).any() or frames[-1] >= video.frames:
        yield "the frames of its vectors are not those of the video"
    for rows in ranges:
        segment = segments.get(rows.segment)
        if segment is None or rows.stop > segment.rows:
            yield f"its rows are beyond the end of segment {rows.segment}"
            continue
        try:
            with segment_path(folder, segment.id).open("rb") as source:
                source.seek(rows.first * 2 * segment.width)
                values = np.frombuffer(source.read(len(rows.frames) * 2 * segment.width), "<f2")
        except OSError as error:
            yield f"{segment_path(folder, segment.id)}: {explain(error)}"
            continue
        if values.size != len(rows.frames) * segment.width:
            yield f"{segment_path(folder, segment.id)}: is shorter than the catalog says"
            continue
        lengths = np.linalg.norm(values.reshape(-1, segment.width).astype(np.float32), axis=1)
        if not (np.abs(lengths - 1) < 0.01).all():
            yield "its vectors are damaged"


def _check_projected(folder: Path, video: Video) -> str:
    path = projected_path(folder, video.id)
    try:
        read_projected(path, max(0, video.frames - 1), video.frames)
        with safe_open(path, "pt") as file:
            stored = file.get_slice("rows").get_shape()[0] if "rows" in file.keys() else None  # noqa: SIM118
            frames = file.get_slice("values").get_shape()[0] if stored is None else stored
    except R2TuningError as error:
        return str(error)
    return "" if frames == video.frames else f"{path}: has {frames} frames, not {video.frames}"
