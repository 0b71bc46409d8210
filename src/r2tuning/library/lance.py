"""Vectors of a library in an object store: a LanceDB table for each generation, searched without downloading it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r2tuning.errors import LibraryError, show_on_one_line
from r2tuning.library.catalog import Catalog
from r2tuning.library.segments import FrameVectors, Peak, find_peaks

INDEXED = 500_000
"""Rows from which an approximate index is built; a scan of fewer takes less than a second."""

PROBES = 0.2
"""Share of an index's partitions that are searched."""

REFINED = 10
"""How many times as many rows as are asked for are compared exactly."""

_ROWS_PER_HIT = 50  # asked for at first: a video has many rows near a query
_BUFFERED = 20_000  # rows written at once: each write is a file


class LanceIndex:
    """A `VectorIndex` in LanceDB. Rows of videos that the catalog does not have are never found.

    What is appended is written by `flush`, which must come before the catalog is published.

    Args:
        uri: Folder or object store, such as ``s3://bucket/videos``.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._buffer: dict[int, list[tuple[int, FrameVectors]]] = {}
        self._buffered = 0
        self._changed: set[int] = set()

    def append(self, catalog: Catalog, generation: int, video: int, vectors: FrameVectors) -> None:  # noqa: ARG002
        """See `VectorIndex.append`."""
        self._buffer.setdefault(generation, []).append((video, vectors))
        self._buffered += len(vectors.frames)
        if self._buffered >= _BUFFERED:
            self.flush()

    def drop(self, catalog: Catalog, videos: Collection[int]) -> None:
        """See `VectorIndex.drop`; rows are removed by `clean`, since the catalog may not get to forget the videos."""

    def view(self, catalog: Catalog, generation: int) -> LanceView:  # noqa: ARG002
        """See `VectorIndex.view`."""
        with _explained(self._uri):
            table = self._open(generation)
            return LanceView(self._uri, table, table is not None and bool(table.list_indices()))

    def flush(self) -> None:
        """Writes what was appended."""
        import pyarrow as pa

        for generation, parts in self._buffer.items():
            values = np.concatenate([vectors.vectors for _, vectors in parts])
            width = values.shape[1]
            schema = pa.schema(
                [("video", pa.int64()), ("frame", pa.int32()), ("vector", pa.list_(pa.float16(), width))]
            )
            videos = np.repeat([video for video, _ in parts], [len(vectors.frames) for _, vectors in parts])
            frames = np.concatenate([vectors.frames for _, vectors in parts])
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)
            rows = pa.table({"video": videos, "frame": frames, "vector": vectors}, schema=schema)
            with _explained(self._uri):
                table = self._open(generation)
                if table is None:
                    self._connect().create_table(_name(generation), rows)
                else:
                    table.add(rows)
            self._changed.add(generation)
        self._buffer, self._buffered = {}, 0

    def clean(self, catalog: Catalog) -> None:
        """Removes the rows of videos, and the tables of generations, that the catalog does not have."""
        self._buffer, self._buffered = {}, 0
        generations = {generation.id: generation for generation in catalog.list_generations()}
        with _explained(self._uri):
            for name in self._list_tables():
                if name not in map(_name, generations):
                    self._connect().drop_table(name)
        for generation in generations:
            known = {video.id for video in catalog.list_videos(generation)}
            gone = self.list_videos(generation) - known
            with _explained(self._uri):
                if gone and (table := self._open(generation)) is not None:
                    table.delete(_where(gone))
                    self._changed.add(generation)

    def optimize(self) -> None:
        """Merges small files, and indexes tables that are large, of generations that were changed."""
        from lancedb.index import BTree, IvfRq

        for generation in sorted(self._changed):
            with _explained(self._uri):
                table = self._open(generation)
                if table is None:
                    continue
                rows = table.count_rows()
                indexed = {index.columns[0] for index in table.list_indices()}
                if rows >= INDEXED and "vector" not in indexed:
                    table.create_index("vector", config=IvfRq(distance_type="dot", num_partitions=int(rows**0.5)))
                    table.create_index("video", config=BTree())
                table.optimize()
        self._changed = set()

    def list_videos(self, generation: int) -> set[int]:
        """The videos that a table has rows of."""
        with _explained(self._uri):
            table = self._open(generation)
            if table is None:
                return set()
            rows = table.search().where("frame = 0").select(["video"]).limit(None).to_arrow()
            return set(rows["video"].to_pylist())

    def count_rows(self, generation: int) -> int:
        """How many rows a table has."""
        with _explained(self._uri):
            table = self._open(generation)
            return 0 if table is None else int(table.count_rows())

    def _connect(self) -> Any:
        import lancedb

        return lancedb.connect(self._uri)

    def _open(self, generation: int) -> Any:
        name = _name(generation)
        return self._connect().open_table(name) if name in self._list_tables() else None

    def _list_tables(self) -> list[str]:
        tables: list[str] = self._connect().list_tables(limit=1000).tables
        return tables


class LanceView:
    """A `VectorView` of a table as it was when the view was made."""

    def __init__(self, uri: str, table: Any, indexed: bool) -> None:
        self._uri = uri
        self._table = table
        self._indexed = indexed
        self._known: set[int] | None = None

    def scan(self, query: Tensor, videos: Collection[int], count: int, apart: int) -> list[Peak]:
        """See `VectorView.scan`. Nearest rows tell the videos, whose rows are then compared as in a local library."""
        vector = query.to("cpu", torch.float32)
        if self._table is None or not videos:
            return []
        with _explained(self._uri):
            nearest = self._find_videos(vector, set(videos), count)
            rows = self._table.search().where(_where(nearest)).limit(None).to_arrow() if nearest else None
        if rows is None:
            return []
        owners, frames = rows["video"].to_numpy(), rows["frame"].to_numpy()
        cosines = (torch.from_numpy(_read_vectors(rows).astype(np.float32)) @ vector).numpy()
        peaks: list[Peak] = []
        for video in nearest:
            own = np.flatnonzero(owners == video)
            own = own[np.argsort(frames[own], kind="stable")]
            peaks += find_peaks(video, frames[own], cosines[own], count, apart)
        return sorted(peaks, key=lambda peak: (-peak.cosine, peak.video, peak.frame))[:count]

    def read(self, video: int) -> FrameVectors:
        """See `VectorView.read`."""
        with _explained(self._uri):
            rows = self._table.search().where(_where([video])).limit(None).to_arrow()
        frames, values = rows["frame"].to_numpy(), _read_vectors(rows)
        order = np.argsort(frames, kind="stable")
        return FrameVectors(values[order], frames[order])

    def _find_videos(self, vector: Tensor, allowed: set[int], count: int) -> list[int]:
        """The videos with the nearest rows, at least ``count`` where there are as many."""
        wanted, limit = min(count, len(allowed)), count * _ROWS_PER_HIT
        while True:
            search = self._table.search(vector.numpy(), vector_column_name="vector").metric("dot")
            if self._indexed:
                search = search.nprobes(self._probes()).refine_factor(REFINED)
            search = search.where(_where(allowed), prefilter=True)
            found = search.limit(limit).select(["video", "_distance"]).to_arrow()
            nearest = list(dict.fromkeys(found["video"].to_pylist()))
            if len(nearest) >= wanted or len(found) < limit:
                return nearest[: count + 10]  # a few more: an index and a scan round differently
            limit *= 4

    def _probes(self) -> int:
        (index,) = [one for one in self._table.list_indices() if one.columns[0] == "vector"]
        rows = int(self._table.index_stats(index.name).num_indexed_rows)
        return max(1, int(PROBES * rows**0.5))


def _read_vectors(rows: Any) -> NDArray[np.float16]:
    values: NDArray[np.float16] = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(rows), -1)


def _where(videos: Collection[int]) -> str:
    """A condition on rows; numbers that follow each other are one range, which is what most libraries are."""
    runs: list[list[int]] = []
    for video in sorted(videos):
        if runs and video == runs[-1][1] + 1:
            runs[-1][1] = video
        else:
            runs.append([video, video])
    single = [str(first) for first, last in runs if first == last]
    parts = [f"video BETWEEN {first} AND {last}" for first, last in runs if first != last]
    return " OR ".join(parts + ([f"video IN ({', '.join(single)})"] if single else []))


def _name(generation: int) -> str:
    return f"vectors-{generation}"


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = show_on_one_line(str(error).partition("\n")[0], 150)
        raise LibraryError(
            f"{uri}: the vectors cannot be reached ({reason}); check the address and the access"
        ) from error
