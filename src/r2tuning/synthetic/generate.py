"""Makes a folder of videos with their annotations, side by side in several processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from r2tuning.datasets.annotations import Annotation
from r2tuning.errors import OutputError
from r2tuning.output.files import write_atomically
from r2tuning.synthetic.annotate import describe, describe_absent, to_line
from r2tuning.synthetic.encode import is_written, write_video
from r2tuning.synthetic.preview import MOST_VIDEOS, draw_preview
from r2tuning.synthetic.script import Split
from r2tuning.synthetic.staging import make_video

MOST_PER_SEED = 1_000_000
"""Videos that one seed can have; the next seed's are others."""


@dataclass(frozen=True)
class Synthesis:
    """What a folder has got.

    Attributes:
        annotations: File of the queries, in QVHighlights' format.
        absent: File of queries that are true of no moment, in the same format.
        preview: The contact sheet.
        videos: Number of videos made.
        kept: Number of videos that were there.
        queries: Number of queries with moments.
        absent_queries: Number of queries without.
    """

    annotations: Path
    absent: Path
    preview: Path
    videos: int
    kept: int
    queries: int
    absent_queries: int


@dataclass(frozen=True)
class _Made:
    """A video that is there, and what is known of it."""

    queries: list[Annotation]
    absent: list[Annotation]
    kept: bool


def synthesize(
    folder: str | Path,
    videos: int,
    *,
    seed: int = 0,
    split: Split = "train",
    jobs: int = 1,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Synthesis:
    """Makes the first videos of a seed and split, with ``{split}.jsonl``, ``{split}_absent.jsonl`` and a contact sheet.

    Videos that are there are kept, so an interrupted run goes on where it stopped, and a larger number adds to what is
    there. Annotations are written when all videos are.

    Args:
        folder: Where to; it is created, and may hold other splits.
        videos: How many, from 1 to a million.
        seed: Of the first video, at least 0; two seeds or two splits share no video.
        split: Only ``test`` holds the combinations of colour, shape and action that training lacks.
        jobs: Processes.
        force: Whether to make all videos anew, and to replace annotations of other videos.
        progress: Called with the number of videos done and expected.

    Raises:
        ValueError: If a number is out of range.
        OutputError: If something cannot be written, or the folder has annotations of other videos.
    """
    if not 1 <= videos <= MOST_PER_SEED or seed < 0 or jobs < 1:
        raise ValueError(
            f"videos ({videos}) must be 1 to {MOST_PER_SEED}, seed ({seed}) 0 or more, jobs ({jobs}) 1 or more"
        )
    folder = Path(folder)
    result = folder / f"{split}.jsonl", folder / f"{split}_absent.jsonl", folder / f"{split}_preview.png"
    seeds = range(seed * MOST_PER_SEED, seed * MOST_PER_SEED + videos)
    if not force:
        _check_annotations(result[0], {f"{split}-{number:07d}" for number in seeds})
    try:
        (folder / "videos").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder / 'videos'} cannot be created ({error.strerror}): choose another folder") from None
    tasks = [_Task(number, split, folder / "videos", force) for number in seeds]
    made: dict[_Task, _Made] = {}
    progress(0, videos)
    with closing(_run(tasks, jobs)) as results:
        for task, one in results:
            made[task] = one
            progress(len(made), videos)
    ordered = [made[task] for task in tasks]
    queries = [query for one in ordered for query in one.queries]
    absent = [query for one in ordered for query in one.absent]
    write_atomically(result[1], "".join(map(to_line, absent)), force=True)
    # The scripts are made again: they are larger than what they are made of.
    asked = [task for task in tasks if made[task].queries]
    shown = [(make_video(task.seed, split), _choose_shown(made[task].queries)) for task in asked[:MOST_VIDEOS]]
    write_atomically(result[2], draw_preview(shown), force=True)
    write_atomically(result[0], "".join(map(to_line, queries)), force=True)
    kept = sum(one.kept for one in ordered)
    return Synthesis(*result, videos - kept, kept, len(queries), len(absent))


@dataclass(frozen=True)
class _Task:
    seed: int
    split: Split
    folder: Path
    force: bool


def _run(tasks: list[_Task], jobs: int) -> Generator[tuple[_Task, _Made], None, None]:
    """What becomes of the tasks, in the order they end; closing it gives up those not begun."""
    if jobs == 1:
        yield from ((task, _make(task)) for task in tasks)
        return
    # Not forked: the caller may have threads, such as PyTorch's, that a forked process could wait for in vain.
    workers = ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"), initializer=_leave_interrupts)
    try:
        futures = {workers.submit(_make, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise OutputError(
            "a process that made videos was ended, perhaps for want of memory; use fewer --jobs"
        ) from None
    finally:
        workers.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C reaches all processes; the one that started us decides, and the video being written is finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make(task: _Task) -> _Made:
    script = make_video(task.seed, task.split)
    path = task.folder / f"{script.vid}.mp4"
    kept = not task.force and is_written(script, path)
    if not kept:
        write_video(script, path)
    return _Made(describe(script), describe_absent(script), kept)


def _choose_shown(queries: list[Annotation]) -> Annotation:
    """The query that says most: it shows best what the world is about."""
    return max(queries, key=lambda query: len(query.query.split()))


def _check_annotations(path: Path, vids: set[str]) -> None:
    """Refuses to replace annotations of videos that this run does not make."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        others = {json.loads(line)["vid"] for line in lines} - vids
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(
            f"{path} is no annotation file to add to; choose another folder, or replace it with --force"
        ) from None
    if others:
        raise OutputError(
            f"{path} has {len(others)} other videos, such as {min(others)}; choose another folder, "
            "or replace it with --force"
        )
