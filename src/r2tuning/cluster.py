"""A parallel map over the machines of a Ray cluster, with the isolation and the errors of `processes`.

It uses Ray's actors and not Ray Data, which retries an actor's task without end when its node dies, gives out results
by block, and needs seconds to plan. Here a task is one video, and its tries are counted.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from r2tuning.errors import R2TuningError, show_on_one_line
from r2tuning.processes import Death, Isolated

ATTEMPTS = 3
"""How often a task is given out whose actor or node dies; a process that dies under its actor has one attempt."""

PATIENCE = 900.0
"""Seconds to wait for the first process; a cluster that grows starts machines meanwhile."""

PATIENCE_AT_THE_DOOR = 10.0
"""Seconds in which the head of a cluster must accept a connection."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and the share of it to use.

    Attributes:
        address: Of its head, such as ``10.0.0.1:6379``; ``auto`` for the cluster that this machine belongs to.
        jobs: Most processes at a time, each with one CPU; None for all CPUs that the cluster has now. A larger number
            makes a cluster grow that can.
        gpus: Share of a GPU that each process takes; 0 for none.
    """

    address: str
    jobs: int | None = None
    gpus: float = 0.0

    @property
    def device(self) -> str:
        """What the processes run on; Ray shows each of them only its own GPU."""
        return "cuda" if self.gpus else "cpu"

    def map(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task]
    ) -> Generator[tuple[Task, Result | Death], None, None]:
        """Does tasks on the cluster, as `r2tuning.processes.map_in_processes` does on this machine.

        Each actor does its tasks in a child process, so that a task which kills that costs only itself and is not
        tried again. A task whose actor or node dies goes to another one, up to `ATTEMPTS` times. No task is sent before
        an actor is free for it. Processes see the machines' files: paths must mean the same everywhere.

        Args:
            make_worker: Called once in each process; returns the function that does a task. It, the tasks and the
                results are pickled.
            tasks: None of them None.

        Yields:
            Task and result, or its `Death`, in the order they end. Closing the generator stops the processes.

        Raises:
            R2TuningError: If Ray is not installed, the cluster cannot be reached, or no process can start there.
        """
        if not tasks:
            return
        with _connect(self.address):
            crew = _Crew(make_worker, self.gpus, min(len(tasks), self.jobs or _count_places(self.gpus)))
            try:
                yield from crew.work(tasks)
            finally:
                crew.dismiss()


class _Actor(Generic[Task, Result]):
    """Lives in a process of the cluster; it does nothing itself, so that no task can kill it."""

    def __init__(self, make_worker: Callable[[], Callable[[Task], Result]], folder: str) -> None:
        with suppress(OSError):  # only paths that do not begin at the root need it
            os.chdir(folder)
        self._isolated = Isolated(make_worker)

    def start(self) -> _Answer:
        return self._answer(self._isolated.start)

    def work(self, task: Task) -> _Answer:
        return self._answer(lambda: self._isolated(task))

    def _answer(self, step: Callable[[], Any]) -> _Answer:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                return _Answer(step(), tuple(warning.message for warning in caught))
            except R2TuningError as error:
                return _Answer(error=error)


@dataclass(frozen=True)
class _Answer:
    result: Any = None
    warnings: tuple[Warning | str, ...] = ()
    error: R2TuningError | None = None


@dataclass(frozen=True)
class _Try(Generic[Task]):
    task: Task
    number: int = 1


class _Crew(Generic[Task]):
    """The actors, and what each is doing."""

    def __init__(self, make_worker: Callable[[], Callable[[Task], Any]], gpus: float, size: int) -> None:
        import ray

        # Ray must repeat nothing by itself: a video that kills machines would go through all of them.
        self._actor: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0)(_Actor)
        self._shared = ray.put(make_worker)
        self._size = size
        self._busy: dict[Any, tuple[Any, _Try[Task] | None]] = {}  # by the answer it owes: an actor, and its task
        self._failed_starts = 0

    def work(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
        """Gives out the tasks; yields each with its result."""
        import ray

        waiting = deque(_Try(task) for task in tasks)
        for _ in range(self._size):
            self._hire()
        left = len(tasks)
        while left:
            ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=PATIENCE)
            if not ready:
                self._check_progress()
                continue
            actor, attempt = self._busy.pop(ready[0])
            answer = self._receive(ready[0], actor, attempt)
            if answer is None and attempt is not None and attempt.number < ATTEMPTS:
                waiting.appendleft(_Try(attempt.task, attempt.number + 1))
                attempt = None
            if answer is None:
                self._hire()
                answer = _Answer(Death(f"the machine or its actor was lost {ATTEMPTS} times"))
            elif waiting:
                following = waiting.popleft()
                self._busy[actor.work.remote(following.task)] = actor, following
            else:
                ray.kill(actor)
            for warning in answer.warnings:
                warnings.warn(warning, stacklevel=2)
            if attempt is not None:
                left -= 1
                yield attempt.task, answer.result

    def dismiss(self) -> None:
        """Ends the actors; their children notice, and remove their temporary files."""
        import ray

        for actor, _ in self._busy.values():
            with suppress(Exception):  # the cluster may be gone
                ray.kill(actor)

    def _hire(self) -> None:
        actor = self._actor.remote(self._shared, os.getcwd())  # noqa: PTH109
        self._busy[actor.start.remote()] = actor, None

    def _receive(self, owed: Any, actor: Any, attempt: _Try[Task] | None) -> _Answer | None:
        """An actor's answer; None if it is lost."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            answer: _Answer = ray.get(owed)
        except RayTaskError as error:  # not of ours: r2tuning is missing there, or of another version
            raise R2TuningError(
                f"the cluster cannot run r2tuning ({_last_line(error)}); install the same there"
            ) from error
        except RayError as error:
            with suppress(Exception):  # it may only be out of reach
                ray.kill(actor)
            self._failed_starts += attempt is None
            if self._failed_starts > 2 * self._size:
                raise R2TuningError(f"no process can start on the cluster: {_last_line(error)}") from error
            return None
        if answer.error is not None:
            raise answer.error
        self._failed_starts = 0
        return answer

    def _check_progress(self) -> None:
        if all(attempt is None for _, attempt in self._busy.values()):
            raise R2TuningError(
                f"the cluster has had no room for a process for {PATIENCE:.0f} seconds; see ray status, or take a "
                f"smaller share of a GPU"
            )


def _count_places(gpus: float) -> int:
    """How many processes the cluster has room for now, at least one: it may grow."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    places = (min(int(node.get("CPU", 0)), int(node.get("GPU", 0) / gpus) if gpus else 2**31) for node in resources)
    return max(1, sum(places))


@contextmanager
def _connect(address: str) -> Iterator[None]:
    """Joins a cluster; a process that has joined one already stays there."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        _knock(address)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise R2TuningError(
            f"{address}: no Ray cluster of this version can be reached ({_last_line(error)}); start one with ray start "
            f"--head, and give the address that it prints"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Connects to the head, or raises an OSError; Ray itself tries for many minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), PATIENCE_AT_THE_DOOR).close()


def _last_line(error: Exception) -> str:
    return show_on_one_line(str(error).strip().rpartition("\n")[2], 120)
