"""Processes: a parallel map that survives the death of a worker, a clean end, one writer per folder or shard."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from r2tuning.errors import R2TuningError

GRACE = 10.0
"""Seconds that a worker has to clean up once it must stop; a step in native code may have to end first."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Death:
    """Stands for the result of a task whose process died."""

    reason: str


@dataclass(frozen=True)
class _Message:
    """What a worker sends when it is ready for a task; ``result`` is that of the task before."""

    result: Any = None
    warnings: tuple[Warning | str, ...] = ()
    error: R2TuningError | None = None


def map_in_processes(
    make_worker: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], jobs: int
) -> Generator[tuple[Task, Result | Death], None, None]:
    """Does tasks in several processes, one task per process at a time.

    A process that dies, of a full memory or a fault in native code, costs only its task: another takes its place. In
    the processes Ctrl-C is ignored, so that the caller decides, and SIGTERM unwinds the stack, so that temporary files
    are removed. Warnings are issued again in the caller's process.

    Args:
        make_worker: Called once in each process, where it may load what the tasks need; returns the function that does
            a task. It, the tasks and the results are pickled.
        tasks: None of them None.
        jobs: Most processes at a time; 1 is the caller's process, where nothing is pickled and no death survived.

    Yields:
        Task and result, or its `Death`, in the order they end. Closing the generator stops the processes.
    """
    if jobs == 1:
        work = make_worker()
        yield from ((task, work(task)) for task in tasks)
        return
    waiting = deque(tasks)
    workers: list[_Worker[Task]] = []
    try:
        workers += [_Worker(make_worker) for _ in range(min(jobs, len(tasks)))]
        while busy := {worker.connection: worker for worker in workers if not worker.connection.closed}:
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]  # wait returns what it was given
                task, message = worker.task, worker.receive()
                if message.error is not None:
                    raise message.error
                if waiting and not worker.alive:
                    workers.append(_Worker(make_worker))
                elif waiting:
                    worker.give(waiting.popleft())
                else:
                    worker.connection.close()
                for warning in message.warnings:
                    warnings.warn(warning, stacklevel=2)
                if task is not None:
                    yield task, message.result
    finally:
        for worker in workers:
            if not worker.connection.closed:  # otherwise it leaves by itself
                worker.process.terminate()
        for worker in workers:
            worker.end()


class Machines(Protocol):
    """Where tasks are done instead of on this machine, such as `r2tuning.cluster.Cluster`."""

    @property
    def device(self) -> str:
        """What a worker runs on there."""
        ...

    def map(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task]
    ) -> Generator[tuple[Task, Result | Death], None, None]:
        """Does tasks there as `map_in_processes` does here."""
        ...


class Isolated(Generic[Task, Result]):
    """Does tasks one by one in a process of its own; when that dies, the next task gets a new one.

    It is a `map_in_processes` whose tasks are not known beforehand. `close` it at the end.

    Args:
        make_worker: See `map_in_processes`.
        has_children: Whether the process starts others. It then must be closed, or this one would wait for it.
    """

    def __init__(self, make_worker: Callable[[], Callable[[Task], Result]], *, has_children: bool = False) -> None:
        self._make_worker = make_worker
        self._has_children = has_children
        self._worker: _Worker[Task] | None = None

    def start(self) -> None:
        """Starts the process, if there is none, and waits until it is ready."""
        if self._worker is None or not self._worker.alive:
            self._worker = _Worker(self._make_worker, daemon=not self._has_children)
            self._receive()

    def interrupt(self) -> None:
        """Ends the process by SIGTERM while another thread waits for a result, which is then a `Death`."""
        if (worker := self._worker) is not None:
            worker.process.terminate()

    def __call__(self, task: Task) -> Result | Death:
        """The task's result, or the `Death` of the process while doing it."""
        self.start()
        assert self._worker is not None
        self._worker.give(task)
        result: Result | Death = self._receive()
        return result

    def close(self) -> None:
        """Ends the process."""
        if self._worker is not None:
            self._worker.process.terminate()
            self._worker.end()
            self._worker = None

    def _receive(self) -> Any:
        assert self._worker is not None
        message = self._worker.receive()
        if message.error is not None:
            self.close()
            raise message.error
        for warning in message.warnings:
            warnings.warn(warning, stacklevel=3)
        return message.result


class _Worker(Generic[Task]):
    """A worker process and its task, as the process that started it sees it."""

    def __init__(self, make_worker: Callable[[], Callable[[Task], Any]], *, daemon: bool = True) -> None:
        context = get_context("spawn")  # a fork of a process with threads, such as PyTorch's, may hang
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make_worker), daemon=daemon)
        self.task: Task | None = None
        self.alive, self._closing = True, threading.Lock()
        with _ignored_interrupts():
            self.process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(BrokenPipeError):  # it died after its last message; `receive` will notice
            self.connection.send(task)

    def receive(self) -> _Message:
        try:
            message: _Message = self.connection.recv()
            return message
        except (EOFError, ConnectionResetError):
            self.process.join()
            self._close()
            self.alive = False
            death = Death(f"the process ended with code {self.process.exitcode}")
            if self.task is None:
                raise R2TuningError(f"no worker process could start: {death.reason}; use fewer --jobs") from None
            return _Message(death)

    def end(self) -> None:
        self.process.join(GRACE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self._close()

    def _close(self) -> None:
        with self._closing:  # one thread may wait for a result while another ends the process
            self.connection.close()


def _serve(connection: Connection, make_worker: Callable[[], Callable[[Task], Any]]) -> None:
    """Runs in a worker: does the tasks it is sent until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that started us decides
    unwind_on_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work = make_worker()
        _send(connection, _Message())
        for task in _receive_all(connection):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                result = work(task)
            _send(connection, _Message(result, tuple(warning.message for warning in caught)))
    except R2TuningError as error:
        _send(connection, _Message(error=error))
    finally:  # the process is leaving by itself: an exception among its last steps would be a traceback on the screen
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _receive_all(connection: Connection) -> Iterator[Any]:
    try:
        while True:
            yield connection.recv()
    except (EOFError, ConnectionResetError):  # no more tasks, or nobody left to do them for
        return


def _send(connection: Connection, message: _Message) -> None:
    with suppress(BrokenPipeError):  # nobody is left to listen; then receiving ends the work
        connection.send(message)


def unwind_on_signals() -> None:
    """Lets SIGTERM and SIGHUP end this process as an exception does, so that temporary files are removed."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows lacks the second
        if (number := getattr(signal, name, None)) and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, _exit)


def _exit(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # the way out is not left by a second one
    sys.exit(128 + number)


def _end_with_parent() -> None:
    """Ends this process if the one that started it has died, which could not stop it then."""
    parent = parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Processes started in the block ignore Ctrl-C from the beginning: while importing, it would print a traceback."""
    if threading.current_thread() is not threading.main_thread():  # signals are set in the main thread only
        mask = getattr(signal, "pthread_sigmask", lambda *_: None)  # inherited from this thread; Windows has none
        before = mask(getattr(signal, "SIG_BLOCK", 0), {signal.SIGINT})
        try:
            yield
        finally:
            mask(getattr(signal, "SIG_SETMASK", 0), before)
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class Shard:
    """One of ``count`` shares of named work; ``number`` is from 1 to ``count``.

    Every name is in exactly one share, on every machine, whatever else there is to do.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads ``i/n``; anything else is a ValueError.

        Example:
            >>> Shard.parse("2/8")
            Shard(number=2, count=8)
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if not found:
            raise ValueError(f"{text}: write i/n, such as 2/8 for the second of eight shares")
        number, count = map(int, found.groups())
        if not 1 <= number <= count:
            raise ValueError(f"{text}: shares of n are numbered 1/n to n/n")
        return cls(number, count)

    def takes(self, name: str) -> bool:
        """Whether the share has a name.

        Example:
            >>> [name for name in ("a", "b", "c", "d") if Shard(1, 2).takes(name)]
            ['a', 'b', 'c']
        """
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


_held: set[Path] = set()
"""Locks of this process; the system does not keep a process from taking its own twice."""


@contextmanager
def hold(folder: Path, error: type[R2TuningError], shard: Shard | None = None) -> Iterator[None]:
    """Lets only one process at a time write to an existing folder; a second one gets an error that names the first.

    Processes with different shards may write at the same time. They must then write different files, or the same ones
    atomically. The system drops the lock with the process, however that ends. File systems and systems without such
    locks (Windows) have none.
    """
    with ExitStack() as locks:
        if shard is not None:
            locks.enter_context(_take(folder, f".lock-{shard.number}-of-{shard.count}", error, what=f"shard {shard} "))
        locks.enter_context(_take(folder, ".lock", error, shared=shard is not None))
        yield


@contextmanager
def _take(
    folder: Path, name: str, error: type[R2TuningError], *, shared: bool = False, what: str = ""
) -> Iterator[None]:
    place = folder.resolve() / name
    try:
        file = f"process {os.getpid()}, which is this one" if place in _held else _lock(place, shared=shared)
    except OSError as refusal:
        raise error(f"{folder}: cannot be written ({refusal.strerror}); choose another folder") from refusal
    if isinstance(file, str):
        ways_out = "wait for it, stop it, or choose another folder"
        raise error(f"{folder}: {what}is being written by {file}; {ways_out}")
    if file is None:
        yield
        return
    _held.add(place)
    try:
        os.ftruncate(file, 0)
        here = f"process {os.getpid()} on {socket.gethostname()}"
        os.write(file, f"processes with --shard (the last to begin was {here})".encode() if shared else here.encode())
        yield
    finally:
        _held.discard(place)
        with suppress(OSError):
            if not shared or _is_last(file):
                place.unlink()
        os.close(file)


def _is_last(file: int) -> bool:
    """Whether nobody else holds a shared lock, which nobody can then until the file is closed."""
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lock(place: Path, *, shared: bool) -> int | str | None:
    """An open and locked file; or who has locked it; or None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            # Unlike those of flock, these locks are not shared with children, which may outlive a killed process.
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
            if place.exists() and os.path.samestat(os.fstat(file), place.stat()):
                return file
        except OSError as refusal:
            taken = refusal.errno in (errno.EACCES, errno.EAGAIN)
            holder = os.read(file, 100).decode(errors="replace") or "an unknown process"
            os.close(file)
            return holder if taken else None
        os.close(file)  # its last holder removed it meanwhile
