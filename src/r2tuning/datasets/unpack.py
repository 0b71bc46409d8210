"""Unpacks an archive of features without trusting it."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import warnings
import zlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from r2tuning.errors import DataError, R2TuningWarning

EXPECTED = (".npy", ".json", ".jsonl")
BLOCK = 1 << 20
"""Bytes read at a time."""


def unpack_features(parts: Sequence[Path], folder: Path, progress: Callable[[int, int], None]) -> None:
    """Unpacks the files of a ``.tar.gz`` into one folder, without the archive's folders.

    Args:
        parts: The archive, or the parts that it was cut into, in order. They are read as one, without a joined copy.
        folder: Exists and is empty.
        progress: Called with the bytes of the archive done and their total.

    Raises:
        DataError: If the archive is damaged, has no feature file, or has something unsafe: a path out of the folder, a
            link, a device, the same name twice. The folder may then hold some of the files.

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
                pass  # gzip checks the checksum at the end
            progress(joined.size, joined.size)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: not a whole .tar.gz archive ({error}); download it again") from error
    if not any(folder.glob("*.npy")):
        raise DataError(f"{name}: has no .npy files; these are not the features")
    if skipped:
        warnings.warn(f"{name}: {skipped} files that are not {', '.join(EXPECTED)} were left out", R2TuningWarning, 2)


def _check_member(member: tarfile.TarInfo, folder: Path, name: str) -> Path | None:
    """Where to write a member; None to skip it."""
    try:
        tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        raise DataError(f"{name}: refused, since unsafe: {error}") from error
    if member.isdir():
        return None
    if not member.isreg():
        raise DataError(f"{name}: refused, since unsafe: {member.name!r} is a link")
    inner = PurePosixPath(member.name).name
    # Archives made on a Mac have a hidden ._x.npy for every x.npy.
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
    """Files read as one, each opened when its turn comes.

    Attributes:
        size: Bytes of all files.
        done: Bytes read so far.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        self.size = sum(part.stat().st_size for part in parts)
        self.done = 0
        self._blocks = _read_blocks(parts)
        self._rest = b""

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fills the buffer as far as one block goes; 0 at the end."""
        block = self._rest or next(self._blocks, b"")
        count = min(len(buffer), len(block))
        buffer[:count], self._rest = block[:count], block[count:]
        self.done += count
        return count

    def close(self) -> None:
        """Closes the open file."""
        self._blocks.close()
        super().close()


def _read_blocks(parts: Sequence[Path]) -> Generator[bytes, None, None]:
    for part in parts:
        with part.open("rb") as stream:
            while block := stream.read(BLOCK):
                yield block
