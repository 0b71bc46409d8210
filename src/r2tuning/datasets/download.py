"""Downloads a benchmark's annotations and the authors' features: resumable, checked, each item complete or absent.

The folder has the annotation files, ``clip_b32_vid_k4/`` and ``clip_b32_txt_k4/``, the record ``download.json``, and
``archives/`` until all is done.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from string import ascii_lowercase
from typing import Any

from pydantic import BaseModel, ConfigDict

from r2tuning.checkpoints.published import REPOSITORY
from r2tuning.datasets.benchmark import Benchmark
from r2tuning.errors import DataError, DownloadError, OutputError, R2TuningWarning
from r2tuning.files import cache_folder, read_model, remove_leftovers, replace_folder, write_atomically
from r2tuning.hub import HubFile, Progress, fetch_file, fetched_bytes, free_space, list_files, no_progress

RECORD_FILE = "download.json"
ARCHIVES = "archives"
ARCHIVE_SUFFIX = ".tar.gz"
EXPECTED = (".npy", ".json", ".jsonl")
BLOCK = 1 << 20
"""Bytes read at a time."""
UNPACKED_RATIO = 1.25
"""Estimated bytes unpacked per byte of archive: features hardly compress."""
MOST_UNPACKED = 4
"""Bytes unpacked per byte of archive from which on it is refused: there may be less room than was announced."""

_PART_NAMES = tuple(f".{first}{second}" for first, second in product(ascii_lowercase, repeat=2))


class _Record(BaseModel):
    """What was fetched: for each annotation file or archive, the hashes that the hub lists for its parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, tuple[str, ...]] = {}


@dataclass(frozen=True)
class _Item:
    """An annotation file, or an archive in one or more files."""

    name: str
    target: Path
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def unpacked_size(self) -> int:
        return round(UNPACKED_RATIO * self.size) if self.name.endswith(ARCHIVE_SUFFIX) else 0


def dataset_folder(benchmark: Benchmark) -> Path:
    """The default folder of a benchmark, in the cache beside the checkpoints."""
    return cache_folder() / "datasets" / benchmark.name


def download_benchmark(
    benchmark: Benchmark,
    folder: str | Path | None = None,
    *,
    annotations_only: bool = False,
    keep_archives: bool = False,
    announce: Callable[[Sequence[HubFile]], None] = lambda _: None,
    progress: Progress = no_progress,
) -> Path:
    """Downloads what is missing of a benchmark into a folder, by default `dataset_folder`; resumes if interrupted.

    Every file is checked against the hash that the hub lists. Other files in the folder are left alone; files of the
    same names that were not downloaded are an OutputError. Before anything is fetched, ``announce`` is called once with
    the files to fetch, none if all are there.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # it is documented there

    folder = dataset_folder(benchmark) if folder is None else Path(folder)
    if benchmark.is_custom:
        raise DataError(f"{benchmark.name} is your own data, nothing to download; choose a benchmark")
    if not benchmark.hub_folder:
        raise DataError(
            f"{benchmark.name} is synthetic, not downloaded; run r2tuning synthesize {folder} --split train, "
            "then val and test"
        )
    targets = {
        name: _target(benchmark, folder, name)
        for name in benchmark.hub_files
        if not (annotations_only and name.endswith(ARCHIVE_SUFFIX))
    }
    missing = {name: target for name, target in targets.items() if not _is_complete(name, target)}
    for target in missing.values():
        if target.exists():
            raise OutputError(f"{target}: exists but was not downloaded; move it away or choose another folder")
    items = _find_items(benchmark, missing) if missing else []
    announce([file for item in items for file in item.files])
    if not items:
        return folder
    archives = folder / ARCHIVES
    needed, free = _needed_bytes(items, archives, keep_archives), free_space(folder)
    if needed > free:
        raise OutputError(
            f"{folder}: {benchmark.name} needs about {needed / 1e9:.3g} GB of disk, {free / 1e9:.3g} GB are free; "
            "free the rest or choose a folder on another disk"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(folder / ".download.lock"):
            remove_leftovers(folder, age=0)  # of a process that was killed
            for item in items:
                # Another process may have fetched it while this one waited for the lock.
                if not _is_complete(item.name, item.target):
                    _fetch_item(item, folder, keep_archives, progress)
            if archives.is_dir() and not any(archives.iterdir()):
                archives.rmdir()
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); "
            "free space or choose another folder; run it again to resume"
        ) from error
    return folder


def _target(benchmark: Benchmark, folder: Path, name: str) -> Path:
    """The path of a finished item; that of ``charades_clip_b32_vid_k4.tar.gz`` is the folder ``clip_b32_vid_k4``."""
    if name.endswith(ARCHIVE_SUFFIX):
        name = name.removesuffix(ARCHIVE_SUFFIX).removeprefix(f"{benchmark.hub_folder}_")
    return folder / name


def _find_items(benchmark: Benchmark, targets: Mapping[str, Path]) -> list[_Item]:
    """The items with their files on the hub, which knows how many parts an archive has."""
    listed = {file.path: file for file in list_files(REPOSITORY)}
    items = []
    for name, target in targets.items():
        path = f"datasets/{benchmark.hub_folder}/{name}"
        parts = sum(path + ending in listed for ending in _PART_NAMES)
        wanted = [path] if path in listed or not parts else [path + ending for ending in _PART_NAMES[:parts]]
        for one in wanted:
            if one not in listed:
                raise DownloadError(
                    f"{benchmark.name}: {one} is not in {REPOSITORY} on the hub; "
                    "fetch it by other means, or upgrade r2tuning"
                )
        items.append(_Item(name, target, tuple(listed[one] for one in wanted)))
    return items


def _needed_bytes(items: Sequence[_Item], archives: Path, keep_archives: bool) -> int:
    """The peak of additional disk space: items are fetched one by one, each is then unpacked."""
    held = most = 0
    for item in items:
        held += item.size - sum(fetched_bytes(file, archives) for file in item.files) + item.unpacked_size
        most = max(most, held)
        if item.unpacked_size and not keep_archives:
            held -= item.size
    return most


def _fetch_item(item: _Item, folder: Path, keep_archives: bool, progress: Progress) -> None:
    archives = folder / ARCHIVES
    fetched = [fetch_file(file, archives, progress) for file in item.files]
    if not item.name.endswith(ARCHIVE_SUFFIX):
        _record(item, folder)
        fetched[0].replace(item.target)
        return
    try:
        with replace_folder(item.target) as unpacked, progress(f"Unpacking {item.name}") as report:
            _unpack_features(fetched, unpacked, report)
            _record(item, folder)
    except DataError:
        for file in fetched:
            file.unlink()
        raise
    if not keep_archives:
        for file in fetched:
            file.unlink()


def _record(item: _Item, folder: Path) -> None:
    """Records an item that is about to be moved to its place.

    An item counts as complete if it is recorded and in its place, so a process killed in between leaves nothing that
    looks complete or like a file of the user's.
    """
    files = _read_record(folder).files | {item.name: tuple(file.digest for file in item.files)}
    write_atomically(folder / RECORD_FILE, _Record(files=files).model_dump_json(indent=2) + "\n", force=True)


def _is_complete(name: str, target: Path) -> bool:
    return name in _read_record(target.parent).files and target.exists()


def _read_record(folder: Path) -> _Record:
    path = folder / RECORD_FILE
    if not path.exists():
        return _Record()
    return read_model(path, _Record, DataError, f"it is no record of a download; move {folder} away and download again")


def _unpack_features(parts: Sequence[Path], folder: Path, progress: Callable[[int, int], None]) -> None:
    """Unpacks a ``.tar.gz``, whole or in parts, into an empty folder, without the archive's folders.

    An archive that is damaged, has no feature file, or has something unsafe (a path out of the folder, a link, a
    device, the same name twice) is a DataError.
    """
    name = f"{parts[0].name} and {len(parts) - 1} more parts" if len(parts) > 1 else parts[0].name
    skipped = unpacked = 0
    try:
        with _Joined(parts) as joined, gzip.GzipFile(fileobj=io.BufferedReader(joined, BLOCK)) as plain:
            with tarfile.open(fileobj=plain, mode="r|", bufsize=BLOCK) as archive:
                for member in archive:
                    progress(joined.done, joined.size)
                    file = _check_member(member, folder, name)
                    unpacked += member.size
                    if unpacked > MOST_UNPACKED * joined.size + BLOCK:
                        raise DataError(f"{name}: refused, since it unpacks to far more than was announced")
                    if file is None:
                        skipped += not member.isdir()
                    else:
                        _write(archive, member, file, name)
            while plain.read(BLOCK):
                pass  # gzip checks the checksum at the end
            progress(joined.size, joined.size)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError) as error:
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
    if member.issparse():
        raise DataError(f"{name}: refused, since unsafe: {member.name!r} is a sparse file, whose size is only claimed")
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
    """Files read as one, each opened when its turn comes; ``done`` of ``size`` bytes are read."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self.size = sum(part.stat().st_size for part in parts)
        self.done = 0
        self._waiting = list(parts)
        self._stream: io.BufferedIOBase = io.BytesIO()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not (count := self._stream.readinto(buffer)) and self._waiting:
            self._stream.close()
            self._stream = self._waiting.pop(0).open("rb")
        self.done += count
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()
