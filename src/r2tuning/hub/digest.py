"""Hashes of files, read in pieces since some are tens of gigabytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

PIECE = 1 << 20
"""Bytes read at a time."""


def hash_file(path: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """SHA-256 of a file, as 64 hex digits: what the hub states of large files.

    Args:
        path: The file.
        progress: Called with the bytes done and their total.
    """
    return _hash(path, hashlib.sha256(), progress)


def hash_blob(path: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """Git's id of a file's content, as 40 hex digits: what the hub states of small files.

    It is the SHA-1 of a header with the size, and the content (Git's object format).

    Args:
        path: The file.
        progress: Called with the bytes done and their total.
    """
    header = b"blob %d\0" % path.stat().st_size
    return _hash(path, hashlib.sha1(header, usedforsecurity=False), progress)


def _hash(path: Path, digest: _Hash, progress: Callable[[int, int], None] | None) -> str:
    size, done = path.stat().st_size, 0
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done, size)
    return digest.hexdigest()
