"""Where a library is: in a folder, or in an object store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from r2tuning.errors import LibraryError
from r2tuning.files import cache_folder, name_temporary
from r2tuning.library import repair
from r2tuning.library.catalog import Catalog, is_remote, open_catalog, prepare_folder
from r2tuning.library.indexing import projected_path
from r2tuning.library.projected import read_projected
from r2tuning.library.segments import SegmentIndex, VectorIndex
from r2tuning.model.pooling import QuantizedTokens
from r2tuning.processes import hold

MOST_CACHED = 20 * 10**9
"""Bytes of all cached libraries; of more, those used longest ago are removed."""

_IN_USE = 3600.0  # seconds after its last use during which a cached library stays


class Place(Protocol):
    """The parts of a library: its catalog, its vectors, and the v̂ of its videos."""

    name: str
    """As the user gave it."""

    @property
    def index(self) -> VectorIndex:
        """The vectors."""
        ...

    def find_folder(self) -> Path:
        """The folder with the newest catalog, to read."""
        ...

    def write(self) -> AbstractContextManager[Catalog]:
        """Lets a block change the catalog as the only writer."""
        ...

    def tidy(self, catalog: Catalog) -> None:
        """Removes what no video needs any more, while writing."""
        ...

    def find_damage(self, catalog: Catalog) -> Iterator[tuple[int, str]]:
        """Videos that must be encoded again, and what is wrong with them."""
        ...

    def measure(self, catalog: Catalog) -> tuple[int, int, int]:
        """How many vectors there are, how many of them are of removed videos, and the bytes of everything."""
        ...

    def read_projected(self, video: int, start: int, stop: int) -> QuantizedTokens | None:
        """v̂ of the frames of a window, ``[K, T, P+1, C]``; None if the video was removed meanwhile."""
        ...


def open_place(path: str | os.PathLike[str]) -> Place:
    """The place of a library, which need not exist."""
    if is_remote(path):
        from r2tuning.library.remote import RemotePlace

        return RemotePlace(os.fspath(path))
    return LocalPlace(Path(path).expanduser())


def cached_library(videos: Sequence[str | os.PathLike[str]], settings: Sequence[str | None]) -> Path:
    """The folder of the cached library of some folders of videos, for questions about them without a library.

    It may not exist yet. Those used longest ago are removed where all together have more than `MOST_CACHED` bytes.

    Args:
        videos: Folders.
        settings: Whatever else tells libraries of the same videos apart, such as the model.
    """
    named = json.dumps([sorted(os.path.realpath(folder) for folder in videos), list(settings)])
    chosen = cache_folder() / "folders" / hashlib.sha256(named.encode(errors="surrogatepass")).hexdigest()[:16]
    with suppress(OSError):
        os.utime(chosen)
        _bound_cache(chosen)
    return chosen


def _bound_cache(chosen: Path) -> None:
    """Removes the libraries beside one that were used longest ago, until the others and it are small enough."""
    used = {place: place.stat().st_mtime for place in chosen.parent.iterdir() if place.name[0] != "."}
    sizes = {place: _measure(place) for place in used}
    total = sum(sizes.values())
    for place in sorted(used, key=lambda place: used[place]):
        if total <= MOST_CACHED or place == chosen or time.time() - used[place] < _IN_USE:
            continue
        with suppress(OSError, LibraryError), hold(place, LibraryError):  # a writer keeps it
            gone = place.rename(name_temporary(place.parent))
            shutil.rmtree(gone, ignore_errors=True)
            total -= sizes[place]


def _measure(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class LocalPlace:
    """A `Place` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.index = SegmentIndex(folder)
        self._folder = folder

    def find_folder(self) -> Path:
        """See `Place.find_folder`."""
        return self._folder

    @contextmanager
    def write(self) -> Iterator[Catalog]:
        """See `Place.write`."""
        folder = self._folder
        prepare_folder(folder)
        with hold(folder, LibraryError), open_catalog(folder, create=True) as catalog:
            repair.sweep(catalog)
            yield catalog

    def tidy(self, catalog: Catalog) -> None:
        """See `Place.tidy`."""
        repair.tidy(catalog)

    def find_damage(self, catalog: Catalog) -> Iterator[tuple[int, str]]:
        """See `Place.find_damage`."""
        return repair.find_damage(catalog)

    def measure(self, catalog: Catalog) -> tuple[int, int, int]:
        """See `Place.measure`."""
        return *repair.count_rows(catalog), _measure(self._folder)

    def read_projected(self, video: int, start: int, stop: int) -> QuantizedTokens | None:
        """See `Place.read_projected`."""
        path = projected_path(self._folder, video)
        try:
            return read_projected(path, start, stop)
        except LibraryError:
            if path.exists():
                raise
            return None
