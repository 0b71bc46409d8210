"""Jobs in a SQLite file beside the catalog: what was asked for, how far it is, and what came of it.

The server adds, claims and ends jobs; the process that does one writes its progress. A job that was running when the
server was killed is queued again by the next one.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from r2tuning.errors import BusyError, ServerError
from r2tuning.files import guard
from r2tuning.library.catalog import is_network_folder

JOBS_FILE = "jobs.sqlite"
FORMAT_VERSION = 1

MOST_JOBS = 1000
"""Of those that ended, the oldest are forgotten beyond this number."""

MOST_WAITING = 200
"""Jobs that may be queued."""

MOST_FAILURES = 100
"""Of a job, so many failures are listed."""

State = Literal["queued", "running", "done", "failed", "cancelled"]
Kind = Literal["add", "rescan", "remove", "export", "summary"]
Lane = Literal["index", "render"]

LANES: dict[Lane, tuple[Kind, ...]] = {"index": ("add", "rescan", "remove"), "render": ("export", "summary")}
"""Jobs of two lanes run side by side, those of one lane one after the other."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, task TEXT NOT NULL,
    state TEXT NOT NULL, progress TEXT NOT NULL, error TEXT NOT NULL, result TEXT NOT NULL, attempts INTEGER NOT NULL,
    stopping INTEGER NOT NULL, created REAL NOT NULL, started REAL, ended REAL, subject TEXT NOT NULL DEFAULT ''
)
"""
_COLUMNS = "id, kind, task, state, progress, error, result, attempts, created, started, ended, subject"


class FileFailure(BaseModel):
    """A file that could not be used."""

    name: str = Field(description="Of the file, as the API shows it.", examples=["videos/broken.mp4"])
    reason: str = Field(examples=["videos/broken.mp4 cannot be read as video; check that it was copied completely"])


class Progress(BaseModel):
    """How far a job is."""

    unit: Literal["videos", "frames", "clips"] = "videos"
    done: int = Field(default=0, ge=0)
    expected: int | None = Field(default=None, ge=0, description="Null until it is known.")
    seconds: float = Field(default=0, ge=0, description="Of video that was encoded.")
    bytes: int = Field(default=0, ge=0, description="That the library grew by.")
    rate: float | None = Field(default=None, ge=0, description="Units a second; null until it is known.")
    eta: float | None = Field(default=None, ge=0, description="Seconds that it will probably take still.")
    failures: list[FileFailure] = Field(
        default=[], description=f"Files that could not be used, at most {MOST_FAILURES}."
    )


class Job(BaseModel):
    """A job as the store hands it out.

    Attributes:
        id: Random, 16 hex digits.
        kind: What it does.
        task: What it does it to; see `r2tuning.server.work`.
        state: How it stands.
        progress: How far it is.
        error: Why it failed; empty if it did not.
        result: Name of the file that it made, in its folder; empty if none.
        attempts: How often its process died.
        created: Seconds since 1970, as for the next two.
        started: None if it has not.
        ended: None if it has not.
        subject: What it is about, such as the name of a video; empty if that is the whole library.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    kind: Kind
    task: str
    state: State
    progress: Progress
    error: str
    result: str
    attempts: int
    created: float
    started: float | None
    ended: float | None
    subject: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")


class JobStore:
    """The jobs of a library. Every method is one transaction; threads and processes may share the file.

    Args:
        folder: Of the library.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOBS_FILE
        with self._open(prepare=True) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > FORMAT_VERSION:
                raise ServerError(f"{self._path}: was made by a newer r2tuning; upgrade r2tuning")
            connection.execute(_SCHEMA)
            if "subject" not in {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}:
                connection.execute("ALTER TABLE jobs ADD COLUMN subject TEXT NOT NULL DEFAULT ''")
            connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")

    @contextmanager
    def _open(self, *, write: bool = True, prepare: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction; one that only reads waits for nobody."""
        try:
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            try:
                connection.execute("PRAGMA trusted_schema = OFF")
                if prepare and not is_network_folder(self._path.parent):
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()  # rolls back what was not committed
        except sqlite3.Error as error:
            advice = "free space, and try again" if "full" in str(error) else "move it away; the videos stay"
            raise ServerError(f"{self._path}: {error}; {advice}") from error

    def _read(self, connection: sqlite3.Connection, where: str, *values: object) -> list[Job]:
        found = connection.execute(f"SELECT {_COLUMNS} FROM jobs {where}", values).fetchall()
        names = _COLUMNS.split(", ")
        with guard(self._path, ServerError, "move it away; the videos stay"):
            return [
                Job.model_validate(
                    dict(zip(names, row, strict=True)) | {"progress": Progress.model_validate_json(row[4])}
                )
                for row in found
            ]

    def add(self, kind: Kind, task: BaseModel, subject: str = "") -> Job:
        """Queues a job about something.

        Raises:
            BusyError: If `MOST_WAITING` wait already.
        """
        with self._open() as connection:
            (waiting,) = connection.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= MOST_WAITING:
                raise BusyError(f"jobs: {waiting} wait already; wait until some are done, or cancel some")
            number = secrets.token_hex(8)
            connection.execute(
                "INSERT INTO jobs (id, kind, task, state, progress, error, result, attempts, stopping, created, "
                "subject) VALUES (?, ?, ?, 'queued', ?, '', '', 0, 0, ?, ?)",
                (number, kind, task.model_dump_json(), Progress().model_dump_json(), time.time(), subject),
            )
            connection.execute(
                "DELETE FROM jobs WHERE state NOT IN ('queued', 'running') AND number <= "
                "(SELECT max(number) FROM jobs) - ?",
                (MOST_JOBS,),
            )
            return self._read(connection, "WHERE id = ?", number)[0]

    def find(self, number: str) -> Job | None:
        """The job of an id; None if there is none."""
        with self._open(write=False) as connection:
            return next(iter(self._read(connection, "WHERE id = ?", number)), None)

    def list_jobs(self, states: Sequence[State] = (), most: int = 100) -> list[Job]:
        """Jobs, newest first, in one of some states, or in any."""
        marks = ", ".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        with self._open(write=False) as connection:
            return self._read(connection, f"{where} ORDER BY number DESC LIMIT ?", *states, most)

    def requeue(self) -> int:
        """Queues again what was running when the server was killed, and returns how many jobs these were."""
        with self._open() as connection:
            connection.execute("UPDATE jobs SET state = 'cancelled' WHERE state = 'running' AND stopping")
            return connection.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'").rowcount

    def claim(self, lane: Lane) -> Job | None:
        """The oldest queued job of a lane, which is running from now on; None if there is none."""
        kinds = LANES[lane]
        where = f"WHERE state = 'queued' AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY number LIMIT 1"
        with self._open() as connection:
            job = next(iter(self._read(connection, where, *kinds)), None)
            if job is None:
                return None
            change = "UPDATE jobs SET state = 'running', started = ?, stopping = 0 WHERE id = ?"
            connection.execute(change, (time.time(), job.id))
            return self._read(connection, "WHERE id = ?", job.id)[0]

    def save_progress(self, number: str, progress: Progress) -> None:
        """Notes how far a running job is."""
        with self._open() as connection:
            change = "UPDATE jobs SET progress = ? WHERE id = ? AND state = 'running'"
            connection.execute(change, (progress.model_dump_json(), number))

    def stop(self, number: str) -> Job | None:
        """Cancels a job: at once if it is queued; one that is running is marked, and its process must be ended."""
        with self._open() as connection:
            now = time.time()
            change = "UPDATE jobs SET state = 'cancelled', ended = ? WHERE id = ? AND state = 'queued'"
            connection.execute(change, (now, number))
            connection.execute("UPDATE jobs SET stopping = 1 WHERE id = ? AND state = 'running'", (number,))
            return next(iter(self._read(connection, "WHERE id = ?", number)), None)

    def is_stopping(self, number: str) -> bool:
        """Whether a running job was cancelled."""
        with self._open(write=False) as connection:
            found = connection.execute("SELECT stopping FROM jobs WHERE id = ?", (number,)).fetchone()
            return bool(found and found[0])

    def end(self, number: str, state: State, *, error: str = "", result: str = "") -> None:
        """Ends a running job."""
        with self._open() as connection:
            change = "UPDATE jobs SET state = ?, error = ?, result = ?, ended = ? WHERE id = ? AND state = 'running'"
            connection.execute(change, (state, error, result, time.time(), number))

    def put_back(self, number: str, *, died: bool) -> None:
        """Queues a running job again, since the server ends, or its process ``died``."""
        with self._open() as connection:
            change = "UPDATE jobs SET state = 'queued', attempts = attempts + ? WHERE id = ? AND state = 'running'"
            connection.execute(change, (int(died), number))

    def retry(self, number: str) -> Job | None:
        """Queues a job again that failed or was cancelled, to try failed files again too; others stay as they are."""
        with self._open() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'queued', attempts = 0, error = '', progress = ?, started = NULL, "
                "ended = NULL, task = CASE WHEN kind IN ('add', 'rescan') "
                "THEN json_set(task, '$.retry', json('true')) ELSE task END "
                "WHERE id = ? AND state IN ('failed', 'cancelled')",
                (Progress().model_dump_json(), number),
            )
            return next(iter(self._read(connection, "WHERE id = ?", number)), None)

    def list_tasks(self, kind: Kind) -> list[str]:
        """What all jobs of a kind are about, as JSON text."""
        with self._open(write=False) as connection:
            return [text for (text,) in connection.execute("SELECT task FROM jobs WHERE kind = ?", (kind,))]
