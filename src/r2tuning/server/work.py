"""What the process of a job does: changes of the library, and what decodes whole videos."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from r2tuning.errors import LibraryError, R2TuningError, ServerError
from r2tuning.files import find_videos, guard, write_atomically
from r2tuning.library.catalog import open_catalog
from r2tuning.library.indexing import Added
from r2tuning.library.library import Library
from r2tuning.library.scanning import Scan
from r2tuning.results import Grounding, summarize
from r2tuning.server.collection import Collection, make_id
from r2tuning.server.exports import ExportTask, write_export
from r2tuning.server.jobs import MOST_FAILURES, FileFailure, Job, JobStore, Progress
from r2tuning.server.settings import Settings
from r2tuning.server.tasks import AddTask, Outcome, RemoveTask, RescanTask, SummaryTask

NICENESS = 10
"""How much a job stands back behind questions, as ``nice`` counts."""

PAUSE = 0.5
"""Seconds between two notes of progress."""


def open_work(settings: Settings) -> Callable[[Job], Outcome]:
    """Prepares a process for jobs; the model is loaded by the first that needs it."""
    with suppress(OSError, AttributeError):  # Windows has no such thing
        os.nice(NICENESS)
    library = Library(settings.library, settings.model, device=settings.device, engine=settings.engine)
    return partial(do_job, settings, library)


def do_job(settings: Settings, library: Library, job: Job) -> Outcome:
    """Does a job; what went wrong is in the outcome."""
    report = Reporter(settings, job.id)
    collection = Collection(settings)
    try:
        if job.kind in ("add", "rescan"):
            return _index(settings, library, collection, job, report)
        with guard(f"job {job.id}", ServerError, "submit it again"):
            if job.kind == "remove":
                return _remove(settings, library, RemoveTask.model_validate_json(job.task))
            folder = settings.exports / job.id
            folder.mkdir(parents=True, exist_ok=True)
            if job.kind == "export":
                export = ExportTask.model_validate_json(job.task)
                return Outcome(write_export(export, folder, report.note))
            return _sum_up(SummaryTask.model_validate_json(job.task), collection, folder, report)
    except R2TuningError as error:
        with suppress(R2TuningError):
            collection.read()
        return Outcome(error=collection.hide(str(error)))


class Reporter:
    """Notes in the store how far a job is, a few times a second at most."""

    def __init__(self, settings: Settings, job: str) -> None:
        self._settings = settings
        self._store = JobStore(settings.library)
        self._job = job
        self._began = time.monotonic()
        self._last = 0.0
        self.progress = Progress()

    def note(self, done: int, expected: int | None, **fields: Any) -> None:
        """Takes the number of units done and expected."""
        now = time.monotonic()
        if done and done != expected and now - self._last < PAUSE:
            return
        self._last = now
        rate = done / max(now - self._began, 1e-3) if done else None
        eta = (expected - done) / rate if rate and expected is not None else None
        known = {
            "done": done,
            "expected": expected,
            "rate": None if rate is None else round(rate, 3),
            "eta": None if eta is None else round(eta, 1),
        } | fields
        self.progress = self.progress.model_copy(update=known)
        self._store.save_progress(self._job, self.progress)


def _index(settings: Settings, library: Library, collection: Collection, job: Job, report: Reporter) -> Outcome:
    """Adds or looks again. After a crash each video gets a process, so that a second one costs only its video."""
    with open_catalog(settings.library) as catalog:
        first, known = catalog.next_video(), catalog.list_roots()
    changes: set[str] = set()

    def announce(scan: Scan, tasks: int) -> None:
        changes.update(scan.changes)
        report.note(0, tasks)

    def progress(done: int, expected: int) -> None:
        report.note(done, expected, **_measure(settings, collection, first, changes))

    options: dict[str, Any] = {"jobs": 2 if job.attempts else 1, "progress": progress, "announce": announce}
    with guard(f"job {job.id}", ServerError, "submit it again"):
        task = (AddTask if job.kind == "add" else RescanTask).model_validate_json(job.task)
    if isinstance(task, AddTask):
        _refuse_links(settings, collection, task.paths)
        added: Added = library.add(task.paths, retry=task.retry, **options)
    else:
        if not known:
            return Outcome()
        _refuse_links(settings, collection, [path for path in known if settings.find_root(path) is not None])
        added = library.rescan(retry=task.retry, **options)
    report.note(
        added.indexed.videos,
        added.indexed.videos + len(added.indexed.failures),
        **_measure(settings, collection, first, changes),
    )
    if not added.failures:
        return Outcome()
    if len(added.failures) == 1 and len(changes) == 1:
        return Outcome(error=collection.hide(added.failures[0].reason))
    failed = len(added.failures)
    many = "1 file could not be used; it is listed with the reason"
    if failed > 1:
        many = f"{failed} files could not be used; they are listed with the reasons"
    return Outcome(error=many)


def _measure(settings: Settings, collection: Collection, first: int, changes: set[str]) -> dict[str, Any]:
    """What the library has more than before the job, and what failed."""
    with open_catalog(settings.library) as catalog:
        videos = [video for video in catalog.list_videos() if video.id >= first]
        failed = [file for file in catalog.list_files() if file.reason and file.path in changes]
    return {
        "seconds": round(sum(video.duration for video in videos), 3),
        "bytes": sum(video.bytes for video in videos),
        "failures": [
            FileFailure(name=collection.name(file.path), reason=collection.hide(file.reason))
            for file in failed[:MOST_FAILURES]
        ],
    }


def _refuse_links(settings: Settings, collection: Collection, paths: list[str]) -> None:
    """Refuses to add a folder with links that lead out of the roots, such as to the files of other people."""
    for path in paths:
        if settings.uploads in Path(path).parents:
            continue
        for video in find_videos(path) if Path(path).is_dir() else [path]:
            if settings.find_root(os.path.realpath(video)) is None:
                raise LibraryError(f"{collection.name(video)}: is a link to a file outside of --root; remove it")


def _remove(settings: Settings, library: Library, task: RemoveTask) -> Outcome:
    there = {one.file.path for one in library.list()}
    library.remove([path for path in task.paths if path in there])
    for path in map(Path, task.paths):
        if path.parent.parent == settings.uploads:
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()
    return Outcome()


def _sum_up(task: SummaryTask, collection: Collection, folder: Path, report: Reporter) -> Outcome:
    """Looks for the cuts of a video and chooses shots."""
    report.progress = Progress(unit="frames")
    answer = Grounding.from_dict(task.answer)
    summary = summarize(answer, ratio=task.ratio, seconds=task.seconds, progress=report.note)
    shown = summary.to_dict() | {"video": make_id(answer.video), "name": collection.name(answer.video)}
    text = json.dumps(shown, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "summary.json", text, force=True)
    return Outcome("summary.json")
