"""Extracts the features of many videos and queries into a store."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from r2tuning.backbones import ClipBackbone
from r2tuning.errors import FeatureError, QueryWarning, R2TuningError, VideoError
from r2tuning.features.encode import Progress, encode_video
from r2tuning.features.store import FeatureStore
from r2tuning.types import Engine, Sampling
from r2tuning.video.planned.groups import count_cores

VIDEO_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
)
"""Endings that files of videos have, in lower case."""


class VideoFolder:
    """The videos in a folder and the folders in it.

    Args:
        folder: Where the videos are.

    Raises:
        VideoError: If there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise VideoError(f"{folder}: no such folder; give the folder of the videos")
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._folder.rglob("*")):
            if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                self._by_stem[path.stem].append(path)

    def find(self, name: str) -> Path:
        """The file of a video.

        Args:
            name: The file's name without its ending, in whatever folder; or its path in this folder.

        Raises:
            VideoError: If there is none, or more than one.
        """
        if "\0" not in name and (self._folder / name).is_file():
            return self._folder / name
        found = self._by_stem.get(name, [])
        if not found:
            raise VideoError(f"{self._folder}: has no video called {name}; put {name}.mp4 or the like there")
        if len(found) > 1:
            files = " and ".join(str(path.relative_to(self._folder)) for path in found[:2])
            raise VideoError(f"{self._folder}: has several videos called {name} ({files}); keep one")
        return found[0]


@dataclass(frozen=True)
class VideoTask:
    """A video to be encoded.

    Attributes:
        name: Of its features.
        path: The file.
        fps: Frames per second to sample.
    """

    name: str
    path: Path
    fps: float


@dataclass(frozen=True)
class QueryTask:
    """A sentence to be encoded.

    Attributes:
        name: Of its features.
        text: The sentence.
    """

    name: str
    text: str


@dataclass(frozen=True)
class Failure:
    """A video that got no features.

    Attributes:
        name: Of its features.
        reason: One line.
    """

    name: str
    reason: str


def encode_task(
    task: VideoTask, store: FeatureStore, backbone: ClipBackbone, sampling: Sampling, threads: int | None = None
) -> Failure | None:
    """Encodes one video into a store, decoding with that many threads, or with one for each core.

    Returns:
        Why the file cannot be read as video, if so.

    Raises:
        FeatureError: If the features cannot be written, as then those of the next video cannot either.
    """
    try:
        encoded = encode_video(task.path, backbone, task.fps, sampling=sampling, threads=threads)
    except VideoError as error:
        return Failure(task.name, str(error))
    store.save_video(task.name, encoded)
    return None


GRACE = 10.0
"""Seconds that a worker has to clean up when it is told to stop; a batch of frames may have to end first."""


@dataclass(frozen=True)
class _Encoder:
    """What a worker needs to encode videos; the CLIP is loaded where it runs."""

    store: FeatureStore
    backbone: str
    layers: int
    device: torch.device
    dtype: torch.dtype
    engine: Engine
    sampling: Sampling
    threads: int


@dataclass(frozen=True)
class _Message:
    """What a worker sends when it is ready for a video: how the one before went, if there was one."""

    failure: Failure | None = None
    warnings: tuple[Warning | str, ...] = ()
    error: R2TuningError | None = None


def encode_in_workers(
    tasks: Sequence[VideoTask], store: FeatureStore, backbone: ClipBackbone, sampling: Sampling, jobs: int
) -> Generator[Failure | None, None, None]:
    """Encodes videos into a store in several processes.

    A process that dies, for want of memory or of a fault in a codec, costs the video it had; another takes its place.

    Args:
        tasks: The videos.
        store: Where their features go.
        backbone: By its name, layers, device, precision and engine, every process loads the same.
        sampling: How frames are picked.
        jobs: Most processes at a time.

    Yields:
        For each video, in the order they end, why it has no features, or None. Closing the generator stops the
        processes.

    Raises:
        FeatureError: If features cannot be written, or a process cannot start.
        BackboneError: If a process cannot load the backbone.
    """
    jobs = min(jobs, len(tasks))
    encoder = _Encoder(
        store=store,
        backbone=backbone.name,
        layers=backbone.layers,
        device=backbone.device,
        dtype=backbone.dtype,
        engine=backbone.engine,
        sampling=sampling,
        threads=max(1, count_cores() // max(1, jobs)),
    )
    waiting = deque(tasks)
    workers: list[_Worker] = []
    try:
        workers += [_Worker(encoder) for _ in range(jobs)]
        while busy := {worker.connection: worker for worker in workers if not worker.connection.closed}:
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]  # wait returns what it was given
                task, message = worker.task, worker.receive()
                if message.error is not None:
                    raise message.error
                if waiting and not worker.alive:
                    worker = _Worker(encoder)
                    workers.append(worker)
                elif waiting:
                    worker.give(waiting.popleft())
                else:
                    worker.connection.close()
                for warning in message.warnings:
                    warnings.warn(warning, stacklevel=2)
                if task is not None:
                    yield message.failure
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.end()


class _Worker:
    """A worker process, as the process that started it sees it.

    Attributes:
        task: The video it has.
        alive: Whether it can be given another.
    """

    def __init__(self, encoder: _Encoder) -> None:
        context = get_context("spawn")  # a fork of a process with threads, such as PyTorch's, may hang
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, encoder), daemon=True)
        self.task: VideoTask | None = None
        self.alive = True
        with _ignored_interrupts():
            self.process.start()
        theirs.close()

    def give(self, task: VideoTask) -> None:
        self.task = task
        with suppress(BrokenPipeError):  # it died after its last message; receiving from it tells
            self.connection.send(task)

    def receive(self) -> _Message:
        try:
            message: _Message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            self.connection.close()
            self.alive = False
            ended = f"the process ended with code {self.process.exitcode}"
            if self.task is None:
                raise FeatureError(f"no worker process could start: {ended}; use fewer --jobs") from None
            reason = f"{self.task.path}: {ended} while encoding it; if memory was short, use fewer --jobs"
            return _Message(Failure(self.task.name, reason))
        return message

    def end(self) -> None:
        self.process.join(GRACE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.connection.close()


def _serve(connection: Connection, encoder: _Encoder) -> None:
    """Runs in a worker: encodes what it is sent until there is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that started us decides
    signal.signal(signal.SIGTERM, _leave)
    torch.set_num_threads(encoder.threads)
    try:
        backbone = ClipBackbone.load(
            encoder.backbone,
            layers=encoder.layers,
            device=encoder.device,
            dtype=encoder.dtype,
            engine=encoder.engine,
        )
        _send(connection, _Message())
        for task in _receive_all(connection):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                failure = encode_task(task, encoder.store, backbone, encoder.sampling, encoder.threads)
            _send(connection, _Message(failure, tuple(warning.message for warning in caught)))
    except R2TuningError as error:
        _send(connection, _Message(error=error))
    finally:  # the process is leaving by itself: an exception among its last steps would be a traceback on the screen
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _receive_all(connection: Connection) -> Iterator[VideoTask]:
    try:
        while True:
            yield connection.recv()
    except (EOFError, ConnectionResetError):  # there is no more to do, or nobody left to do it for
        return


def _send(connection: Connection, message: _Message) -> None:
    with suppress(BrokenPipeError):  # nobody is left to listen; then receiving ends the work
        connection.send(message)


def _leave(number: int, _: object) -> None:
    """Ends the process as an exception does, so that temporary files go."""
    sys.exit(128 + number)


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Processes started in the block ignore Ctrl-C from the beginning: while importing, it would print a traceback."""
    if threading.current_thread() is not threading.main_thread():  # signals are set in the main thread only
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


QUERY_BATCH = 64
"""Sentences that go through the text tower at once."""


@dataclass(frozen=True)
class Extraction:
    """How an extraction went.

    Attributes:
        extracted: Number of items encoded.
        skipped: Number of items that were up to date.
        failures: The others.
    """

    extracted: int
    skipped: int
    failures: tuple[Failure, ...] = ()


def extract_videos(
    tasks: Sequence[VideoTask],
    store: FeatureStore,
    backbone: ClipBackbone,
    *,
    sampling: Sampling = "exact",
    jobs: int = 1,
    progress: Progress | None = None,
) -> Extraction:
    """Encodes videos into a store. A video that cannot be read does not stop the others.

    Interrupted, it leaves only complete features, and called again goes on from there.

    Args:
        tasks: Videos, each name once.
        store: Made by `FeatureStore.create` for the backbone.
        backbone: The frozen CLIP.
        sampling: How frames are picked.
        jobs: Processes to work in; 1 is this one. Others load the backbone again by its name.
        progress: Told after every video of those that are not up to date.

    Raises:
        FeatureError: If features cannot be written, or the processes cannot work.
    """
    due = [task for task in tasks if not store.is_current(task.name, task.path, task.fps, sampling)]
    failures = []
    if jobs == 1:
        results = _encode_here(due, store, backbone, sampling)
    else:
        results = encode_in_workers(due, store, backbone, sampling, jobs)
    with closing(results):  # an interruption must reach the workers at once
        for done, failure in enumerate(results, start=1):
            if failure is not None:
                failures.append(failure)
            if progress is not None:
                progress(done, len(due))
    return Extraction(len(due) - len(failures), len(tasks) - len(due), tuple(failures))


def extract_queries(
    tasks: Sequence[QueryTask], store: FeatureStore, backbone: ClipBackbone, *, progress: Progress | None = None
) -> Extraction:
    """Encodes queries into a store, in batches; a result does not depend on its batch.

    Args:
        tasks: Queries, each name once.
        store: Made by `FeatureStore.create` for the backbone.
        backbone: The frozen CLIP.
        progress: Told after every batch of those that are not up to date.

    Raises:
        QueryError: If a sentence is empty.
        FeatureError: If features cannot be written.
    """
    due = [task for task in tasks if not store.has_text(task.name, task.text)]
    truncated = 0
    for first in range(0, len(due), QUERY_BATCH):
        batch = due[first : first + QUERY_BATCH]
        encoded = backbone.encode_queries([task.text for task in batch])
        for task, query in zip(batch, encoded, strict=True):
            store.save_query(task.name, query, backbone)
            truncated += query.truncated
        if progress is not None:
            progress(first + len(batch), len(due))
    if truncated:
        warnings.warn(
            f"{truncated} queries were cut to the {backbone.max_query_tokens} tokens that {backbone.name} takes",
            QueryWarning,
            stacklevel=2,
        )
    return Extraction(len(due), len(tasks) - len(due))


def _encode_here(
    tasks: Sequence[VideoTask], store: FeatureStore, backbone: ClipBackbone, sampling: Sampling
) -> Generator[Failure | None, None, None]:
    for task in tasks:
        yield encode_task(task, store, backbone, sampling)
