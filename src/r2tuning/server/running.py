"""Runs the jobs: one process for each lane, one job at a time, which can be ended and starts over after a crash."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from r2tuning.errors import R2TuningError
from r2tuning.files import remove_leftovers
from r2tuning.processes import Death, Isolated
from r2tuning.server.jobs import LANES, Job, JobStore, Kind, Lane
from r2tuning.server.settings import Settings
from r2tuning.server.tasks import AddTask, Outcome, start_work

_LOG = logging.getLogger(__name__)

MOST_ATTEMPTS = 2
"""Times that the process of a job may die before the job counts as failed."""

KEPT_SECONDS = 24 * 3600.0
"""How long what jobs made can be downloaded."""

IDLE_SECONDS = 60.0
"""How long a process waits for the next job before it ends."""

_PAUSE = 2.0  # seconds after which another process' jobs are looked for


class Runner:
    """Runs the jobs of a store.

    Args:
        settings: Of the server.
        store: The jobs.
        hide: Takes paths of the server out of texts.
    """

    def __init__(self, settings: Settings, store: JobStore, hide: Callable[[str], str]) -> None:
        self._settings = settings
        self._hide = hide
        self._store = store
        self._wakes = {lane: asyncio.Event() for lane in LANES}
        self._lanes: list[asyncio.Task[None]] = []
        self._at_work: dict[str, Isolated[Job, Outcome]] = {}
        self._closing = False

    def start(self) -> None:
        """Queues again what a killed server left, and starts."""
        self._store.requeue()
        self._lanes = [asyncio.create_task(self._run(lane)) for lane in LANES]

    async def stop(self) -> None:
        """Ends the processes; what they were doing is queued again."""
        self._closing = True
        for lane in self._lanes:
            lane.cancel()
        for isolated in list(self._at_work.values()):
            isolated.interrupt()
        for lane in self._lanes:
            with suppress(asyncio.CancelledError):
                await lane

    async def submit(self, kind: Kind, task: BaseModel, subject: str = "") -> Job:
        """Queues a job about something."""
        job = await asyncio.to_thread(self._store.add, kind, task, subject)
        self.wake(kind)
        return job

    def wake(self, kind: Kind) -> None:
        """Says that a job of a kind was queued."""
        for lane, kinds in LANES.items():
            if kind in kinds:
                self._wakes[lane].set()

    async def cancel(self, number: str) -> Job | None:
        """Cancels a job, and ends its process; None if there is no such job."""
        job = await asyncio.to_thread(self._store.stop, number)
        if number in self._at_work:
            self._at_work[number].interrupt()
        return job

    async def retry(self, number: str) -> Job | None:
        """Queues a job again; None if there is no such job."""
        job = await asyncio.to_thread(self._store.retry, number)
        if job is not None:
            self.wake(job.kind)
        return job

    async def _run(self, lane: Lane) -> None:
        """Does the jobs of a lane; its process stays for the next job, but not for ever, since it holds a model."""
        isolated: Isolated[Job, Outcome] = Isolated(partial(start_work, self._settings), has_children=True)
        last = 0.0
        try:
            while True:
                if (job := await self._claim(lane)) is not None:
                    await self._do(job, isolated)
                    last = time.monotonic()
                    continue
                if time.monotonic() - last > IDLE_SECONDS:
                    await asyncio.to_thread(isolated.close)
                self._wakes[lane].clear()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wakes[lane].wait(), _PAUSE)
        finally:
            isolated.close()

    async def _claim(self, lane: Lane) -> Job | None:
        try:
            return await asyncio.to_thread(self._store.claim, lane)
        except R2TuningError as error:  # such as a full disk, which may be emptied
            _LOG.error(f"{error}")
            return None

    async def _do(self, job: Job, isolated: Isolated[Job, Outcome]) -> None:
        self._at_work[job.id] = isolated
        doing = asyncio.create_task(asyncio.to_thread(self._finish, job, isolated))
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError:
            isolated.interrupt()
            await doing
            raise
        finally:
            del self._at_work[job.id]

    def _finish(self, job: Job, isolated: Isolated[Job, Outcome]) -> None:
        """Does a job in its process, and notes how it ended; runs in a thread."""
        try:
            isolated.start()
            # It may have been cancelled before there was a process to end.
            stopped = self._closing or self._store.is_stopping(job.id)
            outcome = Death("it was cancelled") if stopped else isolated(job)
        except R2TuningError as error:
            ending = self._closing or self._store.is_stopping(job.id)  # then it did not fail by itself
            outcome = Death("it was ended while it started") if ending else Outcome(error=self._hide(str(error)))
        if isinstance(outcome, Death):
            isolated.close()
        try:
            self._note(job, outcome)
        except R2TuningError as error:
            _LOG.error(f"job {job.id}: {error}")

    def _note(self, job: Job, outcome: Outcome | Death) -> None:
        if isinstance(outcome, Outcome):
            state = "failed" if outcome.error else "done"
            self._store.end(job.id, state, error=outcome.error, result=outcome.result)  # type: ignore[arg-type]
        elif self._store.is_stopping(job.id):
            self._store.end(job.id, "cancelled")
            remove_result(self._settings, job.id)
        elif self._closing:
            self._store.put_back(job.id, died=False)
        elif job.attempts + 1 < MOST_ATTEMPTS:
            self._store.put_back(job.id, died=True)
        else:
            self._store.end(job.id, "failed", error=f"job {job.id}: {outcome.reason}; if memory is short, free some")


def remove_result(settings: Settings, job: str) -> None:
    """Removes what a job made."""
    shutil.rmtree(settings.exports / job, ignore_errors=True)


def tidy(settings: Settings, store: JobStore, known: set[str]) -> None:
    """Removes what nobody can ask for any more: old results, and uploads that no job and no library mentions.

    Args:
        settings: Of the server.
        store: Its jobs.
        known: Paths of the library.
    """
    alive = {
        job.id for job in store.list_jobs(most=10_000) if job.ended is None or time.time() - job.ended < KEPT_SECONDS
    }
    for folder in _list(settings.exports):
        if folder.name not in alive:
            shutil.rmtree(folder, ignore_errors=True)
    remove_leftovers(settings.uploads)
    mentioned = set(known)
    for text in store.list_tasks("add"):
        with suppress(ValueError):
            mentioned |= set(AddTask.model_validate_json(text).paths)
    for folder in _list(settings.uploads):
        if not any(folder in Path(path).parents for path in mentioned):
            shutil.rmtree(folder, ignore_errors=True)


def _list(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
