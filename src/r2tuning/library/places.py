"""Where a library is: in a folder, or in an object store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from r2tuning.errors import LibraryError
from r2tuning.library import repair
from r2tuning.library.catalog import CATALOG_FILE, Catalog, open_catalog
from r2tuning.library.indexing import projected_path
from r2tuning.library.projected import read_projected
from r2tuning.library.segments import SegmentIndex, VectorIndex
from r2tuning.model.pooling import QuantizedTokens
from r2tuning.processes import hold


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


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a library is in an object store.

    Example:
        >>> is_remote("s3://bucket/videos"), is_remote("videos.r2")
        (True, False)
    """
    return "://" in os.fspath(path)


def open_place(path: str | os.PathLike[str]) -> Place:
    """The place of a library, which need not exist."""
    if is_remote(path):
        from r2tuning.library.remote import RemotePlace

        return RemotePlace(os.fspath(path))
    return LocalPlace(Path(path).expanduser())


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
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LibraryError(f"{folder}: cannot be created ({error.strerror}); choose another folder") from error
        if not (folder / CATALOG_FILE).exists() and any(p.name != ".lock" for p in folder.iterdir()):
            raise LibraryError(f"{folder}: has other files; choose an empty or a new folder for a library")
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
        size = sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())
        return *repair.count_rows(catalog), size

    def read_projected(self, video: int, start: int, stop: int) -> QuantizedTokens | None:
        """See `Place.read_projected`."""
        path = projected_path(self._folder, video)
        try:
            return read_projected(path, start, stop)
        except LibraryError:
            if path.exists():
                raise
            return None
