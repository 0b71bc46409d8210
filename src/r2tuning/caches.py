"""What r2tuning keeps in caches: list it, measure it, remove it.

Only entries whose names r2tuning gives are listed, and only those can be removed: a cache folder may lie beside other
files, and the hub's cache is shared with other programs.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from r2tuning.backbones.registry import KNOWN_BACKBONES
from r2tuning.checkpoints.published import PUBLISHED, REPOSITORY
from r2tuning.errors import OutputError, R2TuningError, show_on_one_line
from r2tuning.files import cache_folder, name_temporary, remove_leftovers
from r2tuning.hub import cached_repository, hub_cache
from r2tuning.processes import hold

Kind: TypeAlias = Literal["model", "download", "backbone", "int8", "library", "catalog", "dataset"]

CONTENTS: dict[Kind, str] = {
    "model": "a published checkpoint, converted",
    "download": "the authors' files, as downloaded",
    "backbone": "a backbone, shared with other programs",
    "int8": "an image tower for --engine onnx-int8",
    "library": "a folder that was asked",
    "catalog": "the catalog of a library in an object store",
    "dataset": "annotations and features of a benchmark",
}
"""What the entries of each kind are, in the order of the list."""

_DIGEST = re.compile(r"[0-9a-f]{16}")
_INT8 = re.compile(r"[0-9a-f]+-k\d+-int8-v\d+\.onnx")


@dataclass(frozen=True)
class CacheEntry:
    """One thing in a cache.

    Attributes:
        kind: What it is.
        name: Distinct among those of its kind.
        path: File or folder.
        content: In a few words.
        size: Bytes.
        used: When it was last read or written, in seconds since 1970, as far as the file system records it.
    """

    kind: Kind
    name: str
    path: Path
    content: str
    size: int
    used: float

    @property
    def full_name(self) -> str:
        """The name that no other entry has, such as ``model:tvsum/BK``."""
        return f"{self.kind}:{self.name}"

    def is_called(self, name: str) -> bool:
        """Whether a name, in upper or lower case, means this entry."""
        return name.lower() in (self.name.lower(), self.full_name.lower(), str(self.path).lower())


def list_entries() -> list[CacheEntry]:
    """Everything that r2tuning has in its cache folder and in the hub's, by kind and name."""
    found = [
        _describe(kind, name, path, content or CONTENTS[kind])
        for root, entries in ((cache_folder(), _list_own()), (hub_cache(), _list_repositories()))
        for kind, name, path, content in entries
        if _is_inside(path, root)
    ]
    order = list(CONTENTS)
    return sorted(found, key=lambda entry: (order.index(entry.kind), entry.name.lower()))


_Place: TypeAlias = tuple[Kind, str, Path, str]


def _list_own() -> Iterator[_Place]:
    from r2tuning.datasets import BENCHMARKS
    from r2tuning.datasets.download import dataset_folder

    for entry in PUBLISHED:
        current = entry.cached_folder
        for folder in current.parent.glob(f"{current.name[:-8]}{'[0-9a-f]' * 8}"):
            old = folder != current
            yield "model", f"{entry.name}-{folder.name[-8:]}" if old else entry.name, folder, "outdated" if old else ""
    for model in (cache_folder() / "engines").glob("*.onnx"):
        if _INT8.fullmatch(model.name):
            yield "int8", model.stem, model, ""
    for kind, parent in (("library", "folders"), ("catalog", "libraries")):
        for folder in (cache_folder() / parent).glob("*"):
            if _DIGEST.fullmatch(folder.name):
                yield kind, folder.name, folder, _name_videos(folder) if kind == "library" else ""  # type: ignore[misc]
    for benchmark in BENCHMARKS:
        yield "dataset", benchmark.name, dataset_folder(benchmark), ""


def _list_repositories() -> Iterator[_Place]:
    yield "download", REPOSITORY, cached_repository(REPOSITORY), ""
    for known in KNOWN_BACKBONES:
        if known.folder is None:
            yield "backbone", known.name, cached_repository(known.repository), ""


def _name_videos(folder: Path) -> str:
    """Which folders a cached library is about; nothing if it cannot be read."""
    before = folder.stat()
    try:
        from r2tuning.library.catalog import open_catalog  # it imports PyTorch

        with open_catalog(folder) as catalog:
            return show_on_one_line(f"videos of {', '.join(catalog.list_roots())}", 100)
    except (R2TuningError, ImportError, OSError):
        return ""
    finally:
        with suppress(OSError):  # SQLite puts files beside the catalog for a moment, which is no use of the library
            os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


def _is_inside(path: Path, root: Path) -> bool:
    """Whether something is there, and in the cache itself: a link may lead anywhere."""
    if path.is_symlink() or not path.exists():
        return False
    return path.resolve().is_relative_to(root.resolve())


def _describe(kind: Kind, name: str, path: Path, content: str) -> CacheEntry:
    size, used = measure(path)
    # Each question about a folder sets the time of its library, whose catalog was just read to list it.
    return CacheEntry(kind, name, path, content, size, path.stat().st_mtime if kind == "library" else used)


def measure(path: Path) -> tuple[int, float]:
    """Bytes of a file, or of all files in a folder, and when one was last read or written; links are not followed."""
    size, used = 0, 0.0
    for place in [path, *path.rglob("*")] if path.is_dir() else [path]:
        with suppress(OSError):  # removed meanwhile
            status = place.lstat()
            if stat.S_ISREG(status.st_mode):
                size += status.st_size
                used = max(used, status.st_atime, status.st_mtime)
    return size, used


def choose_entries(names: Sequence[str], entries: Sequence[CacheEntry]) -> list[CacheEntry]:
    """The entries of some names, each once.

    Raises:
        R2TuningError: If a name means nothing, or more than one entry.
    """
    chosen = []
    for name in names:
        found = [entry for entry in entries if entry.is_called(name)]
        if not found:
            raise R2TuningError(f"{name}: nothing of that name is cached; r2tuning cache list names what is")
        if len(found) > 1:
            ways_out = " or ".join(entry.full_name for entry in found)
            raise R2TuningError(f"{name}: several cached things have that name; write {ways_out}")
        chosen += [entry for entry in found if entry not in chosen]
    return chosen


def find_unused(entries: Sequence[CacheEntry], days: float) -> list[CacheEntry]:
    """Those that were last used at least so many days ago; 0 means all.

    Data sets are left out: their folders may hold files that a user put there, such as the labels of a test split.
    """
    now = time.time()
    return [entry for entry in entries if entry.kind != "dataset" and now - entry.used >= days * 86_400]


def remove_entry(entry: CacheEntry) -> None:
    """Removes an entry, with what killed processes left beside it.

    Raises:
        OutputError: If it cannot be removed, or a process writes to it.
    """
    path = entry.path
    try:
        remove_leftovers(path.parent)
        with hold(path, OutputError) if path.is_dir() else nullcontext():
            gone = path.rename(name_temporary(path.parent))  # at once, so that no reader finds half of it
            shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    except FileNotFoundError:  # removed meanwhile
        return
    except OSError as error:
        raise OutputError(
            f"{entry.full_name}: cannot be removed from {path.parent} ({error.strerror}); ask who owns that folder"
        ) from error
