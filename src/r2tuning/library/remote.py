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
from r2tuning.files import cache_folder, guard, replace_folder
from r2tuning.library.catalog import CATALOG_FILE, Catalog
from r2tuning.library.indexing import VIDEO_FOLDER, projected_path
from r2tuning.library.lance import LanceIndex
from r2tuning.library.projected import ROWS, SCALES, VALUES, dequantize
from r2tuning.library.segments import FrameVectors

PUBLISH = 60.0
"""Seconds after which the writer publishes; a machine that fails loses as much."""

LEASE = 600.0
"""Seconds without a sign of life after which a writer is taken for dead."""

_LEASE_FILE = "writer.json"
_HEADER = 4096  # bytes that hold the header of v̂


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a library is in an object store.

    Example:
        >>> is_remote("s3://bucket/videos"), is_remote("videos.r2")
        (True, False)
    """
    return "://" in os.fspath(path)


class RemoteLibrary(LanceIndex):
    """Where the parts of a library in an object store are; access is set by the environment, such as ``AWS_REGION``.

    Args:
        uri: Such as ``s3://bucket/videos``.
    """

    def __init__(self, uri: str) -> None:
        from obstore.store import from_url

        self.uri = uri.rstrip("/")
        super().__init__(f"{self.uri}/vectors")
        with guard(self.uri, LibraryError, "write it as s3://bucket/folder"):
            self._store: Any = from_url(self.uri)
        self._mirror = cache_folder() / "libraries" / hashlib.sha256(self.uri.encode()).hexdigest()[:16]
        self._tag: str | None = None
        self._published = 0.0
        self._catalog: Catalog | None = None

    def pull(self) -> Path:
        """The folder with the newest published catalog, downloaded if it has changed."""
        import obstore

        try:
            with _explained(self.uri):
                tag = obstore.head(self._store, CATALOG_FILE)["e_tag"]
                folder = self._mirror / hashlib.sha256(str(tag).encode()).hexdigest()[:16]
                if not (folder / CATALOG_FILE).is_file():
                    content = obstore.get(self._store, CATALOG_FILE)
                    tag = content.meta["e_tag"]
                    folder = self._mirror / hashlib.sha256(str(tag).encode()).hexdigest()[:16]
                    with replace_folder(folder) as part:
                        (part / CATALOG_FILE).write_bytes(content.bytes())
        except FileNotFoundError:
            raise LibraryError(
                f"{self.uri}: has no library; make one with r2tuning library add --library {self.uri} PATH"
            ) from None
        return folder

    @contextmanager
    def write(self) -> Iterator[Path]:
        """Holds the lease, and yields a folder of this machine with the catalog to change; `publish` does the rest."""
        import obstore

        folder = self._mirror / "writer"
        with self._hold_lease():
            shutil.rmtree(folder, ignore_errors=True)  # of a writer that died: what it published is in the store
            folder.mkdir(parents=True)
            self._tag = None
            with _explained(self.uri), suppress(FileNotFoundError):
                content = obstore.get(self._store, CATALOG_FILE)
                self._tag = content.meta["e_tag"]
                (folder / CATALOG_FILE).write_bytes(content.bytes())
            yield folder
            shutil.rmtree(folder, ignore_errors=True)

    def begin(self, catalog: Catalog) -> None:
        """Removes what a writer that died wrote and did not publish; `append` publishes from now on."""
        self.clean(catalog)
        self._sweep(catalog)
        self._catalog, self._published = catalog, time.monotonic()

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
        with _explained(self.uri):
            for path in sorted((catalog.folder / VIDEO_FOLDER).glob("[0-9]*.safetensors")):
                with path.open("rb") as file:
                    obstore.put(self._store, f"{VIDEO_FOLDER}/{path.name}", file)
                path.unlink()
            mode: Any = "create" if self._tag is None else {"e_tag": self._tag}
            try:
                self._tag = obstore.put(self._store, CATALOG_FILE, snapshot, mode=mode)["e_tag"]
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
                raise LibraryError(f"{self.uri}: another process has written to it; run the command again") from None
        self._published = time.monotonic()

    def finish(self, catalog: Catalog) -> None:
        """Publishes the last changes, removes what nothing mentions any more, and puts the vectors in order."""
        self.publish(catalog)
        self.clean(catalog)
        self._sweep(catalog)
        self.optimize()

    def check(self, catalog: Catalog) -> list[tuple[int, str]]:
        """Videos that lack something, and what."""
        objects, found = self._list(), []
        for generation in catalog.list_generations():
            known = self.list_videos(generation.id)
            for video in catalog.list_videos(generation.id):
                if video.id not in known:
                    found.append((video.id, f"video {video.id}: its vectors are missing"))
                if generation.facts.keep != "vectors" and f"{video.id}.safetensors" not in objects:
                    found.append((video.id, f"video {video.id}: its v̂ is missing"))
        return found

    def read_projected(self, video: int, start: int, stop: int) -> Tensor | None:
        """v̂ of the frames of a window, as `r2tuning.library.projected.read_projected`; None if the video is gone."""
        name = f"{VIDEO_FOLDER}/{projected_path(Path(), video).name}"
        try:
            with _explained(self.uri):
                head = self._read(name, 0, _HEADER)
                length = int.from_bytes(head[:8], "little")
                if length > _HEADER - 8:
                    raise LibraryError(f"{self.uri}/{name}: is no v̂ of a library; r2tuning library check --repair")
                return _read_window(json.loads(head[8 : 8 + length]), 8 + length, start, stop, self._reader(name))
        except FileNotFoundError:
            return None

    def count_bytes(self) -> int:
        """Size of all objects."""
        import obstore

        with _explained(self.uri):
            return sum(one["size"] for part in obstore.list(self._store) for one in part)

    def _reader(self, name: str) -> Callable[[int, int], bytes]:
        return lambda first, end: self._read(name, first, end)

    def _read(self, name: str, first: int, end: int) -> bytes:
        import obstore

        return bytes(obstore.get_range(self._store, name, start=first, end=end))

    def _list(self) -> set[str]:
        import obstore

        with _explained(self.uri):
            parts = obstore.list(self._store, prefix=VIDEO_FOLDER)
            return {one["path"].rpartition("/")[2] for part in parts for one in part}

    def _sweep(self, catalog: Catalog) -> None:
        import obstore

        known = {str(video.id) for video in catalog.list_videos()}
        gone = [f"{VIDEO_FOLDER}/{name}" for name in self._list() if name.partition(".")[0] not in known]
        with _explained(self.uri):
            if gone:
                obstore.delete(self._store, gone)

    @contextmanager
    def _hold_lease(self) -> Iterator[None]:
        import obstore

        def content() -> bytes:
            return json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode()

        with _explained(self.uri):
            try:
                tag = obstore.put(self._store, _LEASE_FILE, content(), mode="create")["e_tag"]
            except obstore.exceptions.AlreadyExistsError:
                tag = self._take_over(content())
        state, ended = {"tag": tag}, threading.Event()

        def renew() -> None:
            while not ended.wait(LEASE / 5):
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
                obstore.delete(self._store, _LEASE_FILE)

    def _take_over(self, content: bytes) -> str | None:
        """The lease of a writer that gave no sign of life; both times are of the store's clock."""
        import obstore

        probe = f"{_LEASE_FILE}-{socket.gethostname()}-{os.getpid()}"
        held = obstore.get(self._store, _LEASE_FILE)
        obstore.put(self._store, probe, b"")
        now = obstore.head(self._store, probe)["last_modified"]
        obstore.delete(self._store, probe)
        writer = json.loads(held.bytes())
        who = f"process {writer.get('process')} on {writer.get('host')}"
        if (now - held.meta["last_modified"]).total_seconds() < LEASE:
            raise LibraryError(
                f"{self.uri}: is being written by {who}; wait for it, or {LEASE / 60:.0f} minutes if it is dead"
            )
        mode: Any = {"e_tag": held.meta["e_tag"]}
        try:
            tag: str | None = obstore.put(self._store, _LEASE_FILE, content, mode=mode)["e_tag"]
        except obstore.exceptions.PreconditionError:
            raise LibraryError(f"{self.uri}: another process has just begun to write; wait for it") from None
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
) -> Tensor:
    """Frames ``start`` to ``stop`` of v̂, fp32 ``[K, stop - start, P+1, C]``, by reading parts of a safetensors file."""

    def part(name: str, kind: Any, first: int, end: int) -> Tensor:
        shape, offset = layout[name]["shape"], layout[name]["data_offsets"][0] + begin
        size = np.dtype(kind).itemsize * math.prod(shape[1:])
        data = bytearray(read(offset + first * size, offset + end * size))
        return torch.frombuffer(data, dtype=torch.from_numpy(np.zeros(0, kind)).dtype).reshape(-1, *shape[1:])

    rows = part(ROWS, np.int32, start, stop).long() if ROWS in layout else None
    first, end = (start, stop) if rows is None else (int(rows[0]), int(rows[-1]) + 1)
    frames = dequantize(part(VALUES, np.int8, first, end), part(SCALES, np.float32, first, end))
    if rows is not None:
        frames = frames[rows - first]
    return frames.transpose(0, 1).contiguous()


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
