"""Unpacks an archive of features that somebody else made."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from r2tuning.errors import DataError, R2TuningWarning

EXPECTED = (".npy", ".json", ".jsonl")
BLOCK = 1 << 20
"""Bytes unpacked at a time."""


def unpack_features(parts: Sequence[Path], folder: Path, progress: Callable[[int, int], None]) -> None:
    """Unpacks the files of a ``.tar.gz`` into a folder, whatever folders they are in there.

    Args:
        parts: The archive, or the parts that it was cut into, in order. They are read as one, without a joined copy.
        folder: Exists and is empty.
        progress: Called with the bytes of the archive done and their total.

    Raises:
        DataError: If the archive is damaged, has no feature file, or has something that no data set needs: a path
            out of the folder, a link, a device, the same name twice. The folder then has a part of the files.

    Warns:
        R2TuningWarning: If files of other kinds were left out.
    """
    name = f"{parts[0].name} and {len(parts) - 1} more parts" if len(parts) > 1 else parts[0].name
    skipped = 0
    try:
        with _Joined(parts) as joined, gzip.GzipFile(fileobj=io.BufferedReader(joined, BLOCK)) as plain:
            with tarfile.open(fileobj=plain, mode="r|", bufsize=BLOCK) as archive:
                for member in archive:
                    progress(joined.done, joined.size)
                    file = _check_member(member, folder, name)
                    if file is None:
                        skipped += not member.isdir()
                    else:
                        _write(archive, member, file, name)
            while plain.read(BLOCK):
                pass  # up to the end, where gzip has the checksum of it all
            progress(joined.size, joined.size)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: not a whole .tar.gz archive ({error}); download it again") from error
    if not any(folder.glob("*.npy")):
        raise DataError(f"{name}: has no .npy files; these are not the features")
    if skipped:
        warnings.warn(f"{name}: {skipped} files that are not {', '.join(EXPECTED)} were left out", R2TuningWarning, 2)


def _check_member(member: tarfile.TarInfo, folder: Path, name: str) -> Path | None:
    """Where to write a member; None where there is nothing to write."""
    try:
        tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        raise DataError(f"{name}: refused, since unsafe: {error}") from error
    if member.isdir():
        return None
    if not member.isreg():
        raise DataError(f"{name}: refused, since unsafe: {member.name!r} is a link")
    inner = PurePosixPath(member.name).name
    # Archives made on a Mac have a hidden companion, ._x.npy, for every x.npy.
    return folder / inner if inner.endswith(EXPECTED) and not inner.startswith(".") else None


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, file: Path, name: str) -> None:
    content = archive.extractfile(member)
    assert content is not None  # of a regular file
    try:
        with content, file.open("xb") as target:
            shutil.copyfileobj(content, target, BLOCK)
    except FileExistsError:
        raise DataError(f"{name}: refused, since it has {file.name} twice") from None


class _Joined(io.RawIOBase):
    """Files read as one, each opened only once it is its turn.

    Attributes:
        size: Bytes of all files.
        done: Bytes read so far.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        self.size = sum(part.stat().st_size for part in parts)
        self.done = 0
        self._waiting = list(parts)
        self._open: io.BufferedReader | None = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Reads from the part whose turn it is; 0 once all are read."""
        while True:
            if self._open is not None:
                if count := self._open.readinto(buffer):
                    self.done += count
                    return count
                self._open.close()
                self._open = None
            if not self._waiting:
                return 0
            self._open = self._waiting.pop(0).open("rb")

    def close(self) -> None:
        """Closes the part that is open."""
        if self._open is not None:
            self._open.close()
            self._open = None
        super().close()
