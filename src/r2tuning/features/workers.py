"""Processes that encode videos side by side, each with a CLIP of its own."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

import torch

from r2tuning.backbones import ClipBackbone
from r2tuning.errors import FeatureError, R2TuningError
from r2tuning.features.store import FeatureStore
from r2tuning.features.tasks import Failure, VideoTask, encode_task
from r2tuning.types import Engine, Sampling
from r2tuning.video.parallel import count_cores

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
