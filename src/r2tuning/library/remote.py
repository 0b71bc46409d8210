"""A library in an object store: its catalog is one object, and the v̂ of each video another.

There is one writer, who holds a lease, and any number of readers. The writer works in a folder of this machine and
publishes from time to time: vectors and v̂ first, then the catalog in one conditional write, so that readers see what is
complete. They download the catalog when it has changed, and of v̂ only the frames they ask about.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r2tuning.errors import LibraryError, show_on_one_line
from r2tuning.files import cache_folder, guard, name_temporary, replace_folder
from r2tuning.library.catalog import CATALOG_FILE, Catalog, open_catalog
from r2tuning.library.indexing import VIDEO_FOLDER, projected_path
from r2tuning.library.lance import LanceIndex
from r2tuning.library.projected import ROWS, SCALES, VALUES
from r2tuning.library.repair import list_kept
from r2tuning.library.segments import FrameVectors
from r2tuning.model.pooling import QuantizedTokens

PUBLISH = 60.0
"""Seconds after which the writer publishes; a machine that fails loses as much."""

LEASE = 600.0
"""Seconds without a sign of life after which a writer is taken for dead."""

OLD = 3600.0
"""Seconds after which a copy of the catalog that is no longer the newest is removed."""

_LEASE_FILE = "writer.json"
_HEADER = 4096  # bytes that hold the header of v̂


class RemotePlace(LanceIndex):
    """A `Place` in an object store; access is set by the environment, such as ``AWS_REGION``.

    Args:
        uri: Such as ``s3://bucket/videos``.
    """

    def __init__(self, uri: str) -> None:
        from obstore.store import from_url

        self.name = uri.rstrip("/")
        super().__init__(f"{self.name}/vectors")
        with guard(self.name, LibraryError, "write it as s3://bucket/folder"):
            self._store: Any = from_url(self.name)
        self._mirror = cache_folder() / "libraries" / hashlib.sha256(self.name.encode()).hexdigest()[:16]
        self._tag: str | None = None
        self._published = 0.0

    @property
    def index(self) -> LanceIndex:
        """See `Place.index`."""
        return self

    def find_folder(self) -> Path:
        """See `Place.find_folder`; the catalog is downloaded if it has changed."""
        import obstore

        try:
            with _explained(self.name):
                tag = obstore.head(self._store, CATALOG_FILE)["e_tag"]
                folder = self._mirror / hashlib.sha256(str(tag).encode()).hexdigest()[:16]
                if not (folder / CATALOG_FILE).is_file():
                    content = obstore.get(self._store, CATALOG_FILE)
                    tag = content.meta["e_tag"]
                    folder = self._mirror / hashlib.sha256(str(tag).encode()).hexdigest()[:16]
                    with replace_folder(folder) as part:
                        (part / CATALOG_FILE).write_bytes(content.bytes())
                    self._forget(folder)
        except FileNotFoundError:
            raise LibraryError(
                f"{self.name}: has no library; make one with r2tuning library add --library {self.name} PATH"
            ) from None
        return folder

    def _forget(self, newest: Path) -> None:
        """Removes old copies of the catalog; what reads one now, such as another process, can end."""
        for other in self._mirror.iterdir():
            if other != newest and other.name[0] != "." and time.time() - other.stat().st_mtime > OLD:
                shutil.rmtree(other, ignore_errors=True)

    @contextmanager
    def write(self) -> Iterator[Catalog]:
        """See `Place.write`. The catalog is in a folder of this machine, and is published at the end.

        After an error, or Ctrl-C, what was committed is published too.
        """
        self._mirror.mkdir(parents=True, exist_ok=True)
        folder = name_temporary(self._mirror)
        folder.mkdir()
        try:
            with self._hold_lease(), self._open_copy(folder) as catalog:
                self.clean(catalog)  # what a writer that died wrote and did not publish
                self._sweep(catalog)
                self._published = time.monotonic()
                try:
                    yield catalog
                finally:
                    self.publish(catalog)
                self.clean(catalog)
                self._sweep(catalog)
                self.optimize()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _open_copy(self, folder: Path) -> Iterator[Catalog]:
        """The newest catalog, or a new one, to change in a folder."""
        import obstore

        self._tag = None
        with _explained(self.name), suppress(FileNotFoundError):
            content = obstore.get(self._store, CATALOG_FILE)
            self._tag = content.meta["e_tag"]
            (folder / CATALOG_FILE).write_bytes(content.bytes())
        with open_catalog(folder, create=True) as catalog:
            yield catalog

    def append(self, catalog: Catalog, generation: int, video: int, vectors: FrameVectors) -> None:
        """See `VectorIndex.append`. What was committed before is published now and then."""
        if time.monotonic() - self._published > PUBLISH:
            self.publish(catalog)
        super().append(catalog, generation, video, vectors)

    def publish(self, catalog: Catalog) -> None:
        """Uploads what the catalog has of committed changes, and then the catalog."""
        import obstore

        self.flush()
        snapshot = _copy_committed(catalog)
        with _explained(self.name):
            for path in sorted((catalog.folder / VIDEO_FOLDER).glob("[0-9]*.safetensors")):
                with path.open("rb") as file:
                    obstore.put(self._store, f"{VIDEO_FOLDER}/{path.name}", file)
                path.unlink()
            mode: Any = "create" if self._tag is None else {"e_tag": self._tag}
            try:
                self._tag = obstore.put(self._store, CATALOG_FILE, snapshot, mode=mode)["e_tag"]
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
                raise LibraryError(f"{self.name}: another process has written to it; run the command again") from None
        self._published = time.monotonic()

    def tidy(self, catalog: Catalog) -> None:
        """See `Place.tidy`: that must wait until the catalog is published."""

    def measure(self, catalog: Catalog) -> tuple[int, int, int]:
        """See `Place.measure`."""
        import obstore

        with _explained(self.name):
            size = sum(one["size"] for part in obstore.list(self._store) for one in part)
        return sum(self.count_rows(generation.id) for generation in catalog.list_generations()), 0, size

    def find_damage(self, catalog: Catalog) -> Iterator[tuple[int, str]]:
        """See `Place.find_damage`: what is missing."""
        objects = self._list()
        for generation in catalog.list_generations():
            known = self.list_videos(generation.id)
            for video in catalog.list_videos(generation.id):
                if video.id not in known:
                    yield video.id, f"video {video.id}: its vectors are missing"
                if generation.facts.keep != "vectors" and f"{video.id}.safetensors" not in objects:
                    yield video.id, f"video {video.id}: its v̂ is missing"

    def read_projected(self, video: int, start: int, stop: int) -> QuantizedTokens | None:
        """See `Place.read_projected`; only these frames are downloaded."""
        name = f"{VIDEO_FOLDER}/{projected_path(Path(), video).name}"
        try:
            with _explained(self.name):
                head = self._read(name, 0, _HEADER)
                length = int.from_bytes(head[:8], "little")
                if length > _HEADER - 8:
                    raise LibraryError(f"{self.name}/{name}: is no v̂ of a library; r2tuning library check --repair")
                return _read_window(json.loads(head[8 : 8 + length]), 8 + length, start, stop, self._reader(name))
        except FileNotFoundError:
            return None

    def _reader(self, name: str) -> Callable[[int, int], bytes]:
        return lambda first, end: self._read(name, first, end)

    def _read(self, name: str, first: int, end: int) -> bytes:
        import obstore

        return bytes(obstore.get_range(self._store, name, start=first, end=end))

    def _list(self) -> set[str]:
        import obstore

        with _explained(self.name):
            parts = obstore.list(self._store, prefix=VIDEO_FOLDER)
            return {one["path"].rpartition("/")[2] for part in parts for one in part}

    def _sweep(self, catalog: Catalog) -> None:
        import obstore

        gone = [f"{VIDEO_FOLDER}/{name}" for name in self._list() - list_kept(catalog)]
        with _explained(self.name):
            if gone:
                obstore.delete(self._store, gone)

    @contextmanager
    def _hold_lease(self) -> Iterator[None]:
        import obstore

        def content() -> bytes:
            return json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode()

        with _explained(self.name):
            try:
                tag = obstore.put(self._store, _LEASE_FILE, content(), mode="create")["e_tag"]
            except obstore.exceptions.AlreadyExistsError:
                tag = self._take_over(content())
        state, ended = {"tag": tag}, threading.Event()

        def renew() -> None:
            while not ended.wait(max(1.0, LEASE / 5)):
                with suppress(Exception):  # a network that is away for a moment
                    mode: Any = {"e_tag": state["tag"]}
                    state["tag"] = obstore.put(self._store, _LEASE_FILE, content(), mode=mode)["e_tag"]

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(Exception):  # it runs out by itself
                if obstore.head(self._store, _LEASE_FILE)["e_tag"] == state["tag"]:  # otherwise another's by now
                    obstore.delete(self._store, _LEASE_FILE)

    def _take_over(self, content: bytes) -> str | None:
        """The lease of a writer that gave no sign of life; both times are of the store's clock."""
        import obstore

        probe = f"{_LEASE_FILE}-{socket.gethostname()}-{os.getpid()}"
        held = obstore.get(self._store, _LEASE_FILE)
        obstore.put(self._store, probe, b"")
        now = obstore.head(self._store, probe)["last_modified"]
        obstore.delete(self._store, probe)
        writer = json.loads(bytes(held.bytes()))
        who = f"process {writer.get('process')} on {writer.get('host')}"
        if (now - held.meta["last_modified"]).total_seconds() < LEASE:
            raise LibraryError(
                f"{self.name}: is being written by {who}; wait for it, or {LEASE / 60:.0f} minutes if it is dead"
            )
        mode: Any = {"e_tag": held.meta["e_tag"]}
        try:
            tag: str | None = obstore.put(self._store, _LEASE_FILE, content, mode=mode)["e_tag"]
        except obstore.exceptions.PreconditionError:
            raise LibraryError(f"{self.name}: another process has just begun to write; wait for it") from None
        return tag


def _copy_committed(catalog: Catalog) -> bytes:
    """The catalog as it was before the transaction that is open, if one is, as the bytes of a file."""
    copy = catalog.folder / f"{CATALOG_FILE}.part"
    copy.unlink(missing_ok=True)
    source = sqlite3.connect(catalog.folder / CATALOG_FILE)
    try:
        source.execute("VACUUM INTO ?", (str(copy),))
    finally:
        source.close()
    content = copy.read_bytes()
    copy.unlink()
    return content


def _read_window(
    layout: dict[str, Any], begin: int, start: int, stop: int, read: Callable[[int, int], bytes]
) -> QuantizedTokens:
    """Frames ``start`` to ``stop`` of v̂, ``[K, stop - start, P+1, C]``, by reading parts of a safetensors file."""

    def part(name: str, kind: Any, first: int, end: int) -> Tensor:
        shape, offset = layout[name]["shape"], layout[name]["data_offsets"][0] + begin
        size = np.dtype(kind).itemsize * math.prod(shape[1:])
        data = bytearray(read(offset + first * size, offset + end * size))
        return torch.frombuffer(data, dtype=torch.from_numpy(np.zeros(0, kind)).dtype).reshape(-1, *shape[1:])

    rows = part(ROWS, np.int32, start, stop).long() if ROWS in layout else None
    first, end = (start, stop) if rows is None else (int(rows[0]), int(rows[-1]) + 1)
    frames = QuantizedTokens(part(VALUES, np.int8, first, end), part(SCALES, np.float32, first, end))
    if rows is not None:
        frames = frames[rows - first]
    return QuantizedTokens(frames.values.transpose(0, 1), frames.steps.transpose(0, 1))


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    import obstore

    try:
        yield
    except (LibraryError, FileNotFoundError):
        raise
    except (obstore.exceptions.BaseError, OSError, ValueError, KeyError) as error:
        reason = show_on_one_line(str(error).partition("\n")[0], 150)
        raise LibraryError(f"{uri}: cannot be reached ({reason}); check the address and the access") from error
