"""The catalog of a library in SQLite: which files, videos and vectors it has, and which model made them.

A *file* is a place on the disk, a *video* is content that was encoded; copies of a file share one video. Everything
else that a library has on disk is written before the transaction that mentions it. So what the catalog says is
complete, and what it does not mention is left over from a run that was killed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any, get_args

import numpy as np

from r2tuning.errors import LibraryError
from r2tuning.files import guard
from r2tuning.library.records import File, Generation, GenerationFacts, Listed, RowRange, Segment, Video
from r2tuning.types import LONGEST_VIDEO, MOST_FPS, Sampling

CATALOG_FILE = "catalog.sqlite"
FORMAT_VERSION = 1
"""Raised whenever older code could not read a new catalog."""

_APPLICATION = 0x52325456
_PATIENCE = 60  # seconds that a reader or the writer waits for another one's transaction
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afpfs", "ncpfs", "ceph", "glusterfs", "lustre", "beegfs"}

_SCHEMA = """
CREATE TABLE generations (id INTEGER PRIMARY KEY AUTOINCREMENT, current INTEGER NOT NULL, facts TEXT NOT NULL);
CREATE TABLE roots (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, identity TEXT NOT NULL,
    added REAL NOT NULL, missing INTEGER NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX files_identity ON files (identity);
CREATE TABLE videos (
    id INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER NOT NULL REFERENCES generations, identity TEXT NOT NULL,
    duration REAL NOT NULL, start REAL NOT NULL, fps REAL NOT NULL, frames INTEGER NOT NULL, sampling TEXT NOT NULL,
    truncated INTEGER NOT NULL, bytes INTEGER NOT NULL, UNIQUE (generation, identity)
);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER NOT NULL REFERENCES generations, width INTEGER NOT NULL,
    rows INTEGER NOT NULL
);
CREATE TABLE ranges (
    video INTEGER NOT NULL REFERENCES videos, segment INTEGER NOT NULL REFERENCES segments, first INTEGER NOT NULL,
    count INTEGER NOT NULL, frames BLOB NOT NULL, PRIMARY KEY (segment, first)
) WITHOUT ROWID;
CREATE INDEX ranges_video ON ranges (video);
CREATE TABLE state (changes INTEGER NOT NULL);
INSERT INTO state VALUES (0);
"""
# Older code does without it: what was removed comes back there.
_REMOVED = "CREATE TABLE IF NOT EXISTS removed (path TEXT PRIMARY KEY) WITHOUT ROWID"


class Catalog:
    """One connection to the catalog of a library; use `open_catalog`. Changes are made in `change`, by one writer."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection = connection
        self.folder = folder

    @contextmanager
    def change(self) -> Iterator[None]:
        """A transaction: readers see what it wrote when it is over, and nothing if the block fails."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("UPDATE state SET changes = changes + 1")
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def look(self) -> Iterator[None]:
        """Lets a block read one state, whatever a writer does meanwhile."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def _guard(self) -> AbstractContextManager[None]:
        """SQLite keeps any value in any column: what others wrote there is one line."""
        return guard(self.folder / CATALOG_FILE, LibraryError, "index the videos into a new library")

    def count_changes(self) -> int:
        """How many transactions there were; as long as it is the same, so is everything."""
        return int(self._all("SELECT changes FROM state")[0][0])

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file."""
        return [text for (text,) in self._all("PRAGMA quick_check") if text != "ok"]

    def list_generations(self) -> list[Generation]:
        """All generations, oldest first."""
        found = self._all("SELECT id, current, facts FROM generations ORDER BY id")
        with self._guard():
            return [Generation(i, bool(c), GenerationFacts.model_validate_json(f)) for i, c, f in found]

    def add_generation(self, facts: GenerationFacts, *, current: bool) -> Generation:
        """A new generation without videos."""
        sql = "INSERT INTO generations (current, facts) VALUES (?, ?)"
        number = self._connection.execute(sql, (current, facts.model_dump_json())).lastrowid
        assert number is not None
        return Generation(number, current, facts)

    def choose_generation(self, facts: GenerationFacts) -> Generation:
        """The generation with which videos are encoded as some facts say, in a transaction of its own.

        That is the current one, which then keeps no more than the facts say; or one that is being built; or a new one.
        """
        generations = self.list_generations()
        current = next((g for g in generations if g.current), None)
        if current is not None and current.facts.same(facts):
            return current
        with self.change():
            if current is not None and current.facts.covers(facts):
                fewer = current.facts.model_copy(update={"keep": facts.keep})
                sql = "UPDATE generations SET facts = ? WHERE id = ?"
                self._connection.execute(sql, (fewer.model_dump_json(), current.id))
                return Generation(current.id, True, fewer)
            started = next((g for g in generations if g.facts.same(facts)), None)
            return started or self.add_generation(facts, current=current is None)

    def switch(self, generation: int) -> None:
        """Makes a generation the current one, and drops all others with their videos."""
        for table in ("ranges", "segments", "videos"):
            of_others = (
                "video IN (SELECT id FROM videos WHERE generation != ?)" if table == "ranges" else "generation != ?"
            )
            self._connection.execute(f"DELETE FROM {table} WHERE {of_others}", (generation,))
        self._connection.execute("DELETE FROM generations WHERE id != ?", (generation,))
        self._connection.execute("UPDATE generations SET current = 1")

    def list_roots(self) -> list[str]:
        """Folders and files that were added, as absolute paths."""
        return [path for (path,) in self._all("SELECT path FROM roots ORDER BY path")]

    def add_roots(self, paths: Iterable[str]) -> None:
        """Remembers what was added, for `rescan`; if it had been removed, it is not any more."""
        added = [(path,) for path in paths]
        self._connection.executemany("INSERT OR IGNORE INTO roots VALUES (?)", added)
        self._connection.executemany("DELETE FROM removed WHERE path = ?", added)

    def list_removed(self) -> list[str]:
        """Files and folders that were taken out of roots; only a writer may ask."""
        return [path for (path,) in self._all("SELECT path FROM removed ORDER BY path")]

    def save_removed(self, paths: Iterable[str]) -> None:
        """Remembers exactly these as taken out."""
        self._connection.execute("DELETE FROM removed")
        self._connection.executemany("INSERT OR IGNORE INTO removed VALUES (?)", [(path,) for path in paths])

    def drop_roots(self, paths: Iterable[str]) -> None:
        """Forgets roots."""
        self._connection.executemany("DELETE FROM roots WHERE path = ?", [(path,) for path in paths])

    def list_files(self) -> list[File]:
        """All files, by path."""
        found = self._all(
            "SELECT path, size, mtime_ns, identity, added, missing, reason FROM files ORDER BY path COLLATE BINARY"
        )
        with self._guard():
            return [
                File(str(path), int(size), int(mtime), str(identity), float(added), bool(missing), str(reason))
                for path, size, mtime, identity, added, missing, reason in found
            ]

    def list_contents(self) -> tuple[Generation | None, list[Listed]]:
        """The current generation, and all files by path, with their videos in it."""
        current = next((generation for generation in self.list_generations() if generation.current), None)
        videos = {video.identity: video for video in self.list_videos(current.id)} if current is not None else {}
        return current, [Listed(file, videos.get(file.identity)) for file in self.list_files()]

    def save_file(self, file: File) -> None:
        """Adds a file, or replaces what is known of its path."""
        self._connection.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
            (file.path, file.size, file.mtime_ns, file.identity, file.added, file.missing, file.reason),
        )

    def drop_files(self, paths: Iterable[str]) -> None:
        """Forgets files."""
        self._connection.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in paths])

    def list_videos(self, generation: int | None = None) -> list[Video]:
        """The videos of a generation, or of all, by number."""
        found = self._all(
            "SELECT id, generation, identity, duration, start, fps, frames, sampling, truncated, bytes FROM videos "
            "WHERE ? IS NULL OR generation = ? ORDER BY id",
            generation,
            generation,
        )
        with self._guard():
            return [_to_video(*row) for row in found]

    def next_video(self) -> int:
        """The number that the next video gets."""
        found = self._all("SELECT seq FROM sqlite_sequence WHERE name = 'videos'")
        return int(found[0][0]) + 1 if found else 1

    def add_video(self, video: Video) -> None:
        """Adds a video."""
        self._connection.execute("INSERT INTO videos VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(video))

    def drop_videos(self, videos: Iterable[int]) -> None:
        """Drops videos; their rows are dead from then on."""
        numbers = [(video,) for video in videos]
        self._connection.executemany("DELETE FROM ranges WHERE video = ?", numbers)
        self._connection.executemany("DELETE FROM videos WHERE id = ?", numbers)

    def list_segments(self, generation: int | None = None) -> list[Segment]:
        """The segments of a generation, or of all."""
        sql = "SELECT id, generation, width, rows FROM segments WHERE ? IS NULL OR generation = ? ORDER BY id"
        with self._guard():
            return [Segment(*map(int, row)) for row in self._all(sql, generation, generation)]

    def add_segment(self, generation: int, width: int) -> Segment:
        """A new segment without rows."""
        sql = "INSERT INTO segments (generation, width, rows) VALUES (?, ?, 0)"
        number = self._connection.execute(sql, (generation, width)).lastrowid
        assert number is not None
        return Segment(number, generation, width, 0)

    def drop_segments(self, segments: Iterable[int]) -> None:
        """Drops segments with all ranges in them."""
        numbers = [(segment,) for segment in segments]
        self._connection.executemany("DELETE FROM ranges WHERE segment = ?", numbers)
        self._connection.executemany("DELETE FROM segments WHERE id = ?", numbers)

    def list_ranges(self, generation: int) -> list[RowRange]:
        """The rows of all videos of a generation, by segment and row."""
        found = self._all(
            "SELECT ranges.video, segment, first, count, ranges.frames FROM ranges JOIN videos ON videos.id = video "
            "WHERE generation = ? ORDER BY segment, first",
            generation,
        )
        with self._guard():
            ranges = [RowRange(int(v), int(s), int(first), np.frombuffer(b, "<i4")) for v, s, first, _, b in found]
            for rows, (*_, count, _) in zip(ranges, found, strict=True):
                if len(rows.frames) != count:
                    raise ValueError(f"video {rows.video} has damaged rows")
            return ranges

    def add_range(self, rows: RowRange) -> None:
        """Adds rows that were written to the end of their segment."""
        frames = np.ascontiguousarray(rows.frames, "<i4").tobytes()
        values = (rows.video, rows.segment, rows.first, len(rows.frames), frames)
        self._connection.execute("INSERT INTO ranges VALUES (?, ?, ?, ?, ?)", values)
        self._connection.execute("UPDATE segments SET rows = ? WHERE id = ?", (rows.stop, rows.segment))


def _to_video(
    number: Any, generation: Any, identity: Any, duration: Any, start: Any, fps: Any, frames: Any, *rest: Any
) -> Video:
    sampling, truncated, size = rest
    if not (0 < float(duration) <= LONGEST_VIDEO and 0 < float(fps) <= MOST_FPS and 0 < frames <= duration * fps + 2):
        raise ValueError(f"video {number} lasts {duration} s with {frames} frames")
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling is {sampling!r}")
    return Video(
        int(number),
        int(generation),
        str(identity),
        float(duration),
        float(start),
        float(fps),
        int(frames),
        sampling,
        bool(truncated),
        int(size),
    )


@contextmanager
def open_catalog(folder: Path, *, create: bool = False) -> Iterator[Catalog]:
    """Opens the catalog in a folder while the block runs; only one connection may change it at a time.

    Raises:
        LibraryError: If there is none, it is damaged, or a newer r2tuning made it; in the block too, if the disk is
            full or something else keeps SQLite from working.
    """
    path = folder / CATALOG_FILE
    with _explained(folder):
        if not path.is_file() and not create:
            raise _no_library(folder)
        connection = sqlite3.connect(_to_uri(path, create), timeout=_PATIENCE, isolation_level=None, uri=True)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA synchronous = FULL")
            _prepare(connection, folder, create)
            yield Catalog(connection, folder)
        finally:
            connection.close()


def _to_uri(path: Path, create: bool) -> str:
    mode = "rwc" if create else "rw"
    if not create and not os.access(path.parent, os.W_OK):
        mode = "ro&immutable=1"  # nobody writes to a disk that cannot be written; WAL needs a file beside the catalog
    return f"{path.absolute().as_uri()}?mode={mode}"


def _prepare(connection: sqlite3.Connection, folder: Path, create: bool) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT_VERSION:
        raise LibraryError(
            f"{folder}: was made by a newer r2tuning (format {version}, this one reads up to {FORMAT_VERSION}); "
            "upgrade r2tuning"
        )
    if version == 0:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LibraryError(f"{folder / CATALOG_FILE}: is a database of another program; choose another folder")
        if not create:  # a writer is about to make it
            raise _no_library(folder)
        # The journal first: it cannot be changed in a transaction. Two processes may create it at once.
        connection.execute(f"PRAGMA journal_mode = {'DELETE' if is_network_folder(folder) else 'WAL'}")
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.execute("COMMIT")
    if create:
        connection.execute(_REMOVED)


def _no_library(folder: Path) -> LibraryError:
    return LibraryError(f"{folder}: has no library; make one with r2tuning library add --library {folder} PATH")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        advice = "free space, and run the command again" if "full" in str(error) else "run r2tuning library check"
        raise LibraryError(f"{folder / CATALOG_FILE}: {error}; {advice}") from error


def prepare_folder(folder: Path) -> None:
    """Creates the folder of a library, if it is not there.

    Raises:
        LibraryError: If it cannot be created, or has files of something else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(f"{folder}: cannot be created ({error.strerror}); choose another folder") from error
    if not (folder / CATALOG_FILE).exists() and any(p.name != ".lock" for p in folder.iterdir()):
        raise LibraryError(f"{folder}: has other files; choose an empty or a new folder for a library")


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a library is in an object store.

    Example:
        >>> is_remote("s3://bucket/videos"), is_remote("videos.r2")
        (True, False)
    """
    return "://" in os.fspath(path)


def is_network_folder(folder: Path, mounts: str | None = None) -> bool:
    """Whether a folder is on another machine, as far as Linux tells; SQLite's WAL needs memory that all readers share.

    Example:
        >>> is_network_folder(Path("/home/me"), "nas:/home /home nfs4 rw 0 0")
        True
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:  # not Linux
            return False
    kinds = {}
    for line in mounts.splitlines():
        _, place, kind, *_ = [*line.split(" "), "", "", ""]
        kinds[place.replace("\\040", " ")] = kind
    places = [folder.absolute(), *folder.absolute().parents]
    kind = next((kinds[str(place)] for place in places if str(place) in kinds), "")
    return kind in _NETWORK or kind.startswith("fuse.sshfs")
