"""What has changed on the disk since a library last looked: new, replaced, moved, renamed, copied and missing files."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from r2tuning.errors import LibraryError, VideoError
from r2tuning.files import explain, find_videos, require_regular
from r2tuning.hub import identify_file
from r2tuning.library.records import File

Change = Literal["new", "replaced", "moved", "renamed", "copy", "unchanged", "unreadable", "missing"]
"""What became of a file: ``replaced`` has other content at its old path; ``moved`` is in another folder and ``renamed``
in the same, while the old path is gone; a ``copy`` has the content of another file that is still there; ``missing`` is
gone."""


@dataclass(frozen=True)
class Scan:
    """The state of the files that were looked at.

    Attributes:
        files: As the catalog must know them; those that did not change are left out.
        dropped: Paths to forget, since the files have others now.
        changes: What became of every file, by path.
    """

    files: list[File]
    dropped: list[str]
    changes: dict[str, Change]

    @property
    def counts(self) -> Counter[Change]:
        """How many files there are of each kind."""
        return Counter(self.changes.values())


def list_roots(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Absolute paths of what is to be added; each must exist.

    Raises:
        VideoError: If one does not.
    """
    roots = [os.path.abspath(path) for path in paths]  # noqa: PTH100  (links stay as given)
    for root in roots:
        if not os.path.lexists(root):
            raise VideoError(f"{root}: no such file or folder; check the path")
    return list(dict.fromkeys(roots))


def remove_places(places: Iterable[str], roots: Sequence[str], removed: Iterable[str]) -> list[str]:
    """What is left out of roots once some places are taken out too; what lies in no root needs no note.

    Example:
        >>> remove_places(["/a/b", "/c"], ["/a"], ["/a/b/d", "/a/e"])
        ['/a/b', '/a/e']
    """
    places = list(places)
    kept = [path for path in removed if not _lies_in(path, places)]
    return sorted({path for path in (*places, *kept) if _lies_in(path, roots)})


def is_removed(path: str, roots: Collection[str], removed: Collection[str]) -> bool:
    """Whether a file was taken out: of what was added and what was removed, the nearest to it decides.

    Example:
        >>> [is_removed(path, ["/a", "/a/b/c"], ["/a/b"]) for path in ("/a/x", "/a/b/x", "/a/b/c/x")]
        [False, True, False]
    """
    for place in (path, *map(str, Path(path).parents)):
        if place in roots or place in removed:
            return place not in roots
    return False


def scan_roots(
    roots: Sequence[str],
    known: Sequence[File],
    *,
    leave_out: Callable[[str], bool] = lambda _: False,
    retry: bool = False,
) -> Scan:
    """Compares what lies at some places with what a library knows.

    A file whose size and time of change are known is not read. Any other is, for its identity.

    Args:
        roots: Absolute paths of files, and of folders, which are searched with their subfolders.
        known: All files of the library.
        leave_out: Whether a file is not looked at.
        retry: Whether files that could not be used before are tried again although they have not changed.
    """
    by_path = {file.path: file for file in known}
    by_identity: dict[str, list[File]] = {}
    for file in known:
        if file.identity:
            by_identity.setdefault(file.identity, []).append(file)
    scan = Scan([], [], {})
    taken: set[str] = set()  # old paths of moved files
    for path in (path for path in _list_files(roots) if not leave_out(path)):
        now, change = _look_at(path, by_path.get(path), retry)
        if change == "new":
            same = [f for f in by_identity.get(now.identity, ()) if f.path not in taken and f.path != path]
            gone = next((f for f in same if not os.path.lexists(f.path)), None)
            if gone is not None:
                taken.add(gone.path)
                scan.dropped.append(gone.path)
                now = replace(now, added=gone.added, reason=gone.reason)
                change = "renamed" if Path(gone.path).parent == Path(path).parent else "moved"
            elif same:
                now = replace(now, reason=same[0].reason)
                change = "copy"
            by_identity.setdefault(now.identity, []).append(now)
        scan.changes[path] = change
        if now != by_path.get(path):
            scan.files.append(now)
    for file in known:
        if file.path in scan.changes or file.path in taken or not _lies_in(file.path, roots):
            continue
        if not os.path.exists(file.path):  # noqa: PTH110
            scan.changes[file.path] = "missing"
            if not file.missing:
                scan.files.append(replace(file, missing=True))
    return scan


def _list_files(roots: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for root in roots:
        for path in find_videos(root) if os.path.isdir(root) else [root]:  # noqa: PTH112
            if root in found or os.path.lexists(path):
                found[path] = None
    return list(found)


def _look_at(path: str, known: File | None, retry: bool) -> tuple[File, Change]:
    added = time.time() if known is None else known.added
    try:
        require_regular(path)
        status = os.stat(path)  # noqa: PTH116
        same = known is not None and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns)
        if known is not None and same and known.identity:
            fresh = replace(known, missing=False, reason="" if retry else known.reason)
            return fresh, "unreadable" if fresh.reason else "unchanged"
        identity = identify_file(path)
    except (OSError, ValueError) as error:
        reason = f"{path}: {explain(error, refused='cannot be read: ')}; check the file"
        return File(path, 0, 0, "", added, False, reason), "unreadable"
    fresh = File(path, status.st_size, status.st_mtime_ns, identity, added)
    if known is None or not known.identity:
        return fresh, "new"
    if known.identity != identity:
        return fresh, "replaced"
    return replace(fresh, reason="" if retry else known.reason), "unchanged"


def _lies_in(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(os.path.join(root, "")) for root in roots)  # noqa: PTH118


def require_paths(roots: Sequence[str]) -> None:
    """Refuses to look for nothing."""
    if not roots:
        raise LibraryError("the library has no folders yet; give one to r2tuning library add")
