"""The front of a process that answers: a bounded queue, quick tasks before slow ones, a new process after a crash."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from starlette.requests import Request

from r2tuning.errors import R2TuningError
from r2tuning.library.remembered import Cache
from r2tuning.processes import Death, Isolated
from r2tuning.server.problems import RETRY_SECONDS, Busy, Refused

_LOG = logging.getLogger(__name__)

MOST_BEFORE = 20
"""Quick tasks that are done before a slow one that came earlier."""

MOST_KNOWN = 1000
"""Sentences and the like of which a worker knows that they are quick now."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """Stands for the result of a task that raised an error of ours."""

    error: R2TuningError


@dataclass(frozen=True)
class _Waiting(Generic[Task]):
    """A task, and who waits for its result."""

    task: Task
    future: asyncio.Future[Any]


class Worker(Generic[Task, Result]):
    """Does tasks in a process of its own; those that belong together are done in one go.

    Quick ones are done before slow ones, `MOST_BEFORE` of them at most; otherwise they are done in the order they come.

    Args:
        name: What it does, for messages.
        make_work: Called in the process; returns a function that takes tasks and returns a result or `Failure` each.
        most_waiting: Tasks that may wait; a further one is refused as `Busy`.
        belong: A key that tasks share which are done in one go; None for tasks by themselves.
        slow: What is slow about a task only the first time, such as a sentence; None if it is quick already.
        seconds: In which a task must be done; then the process is ended.
    """

    def __init__(
        self,
        name: str,
        make_work: Callable[[], Callable[[list[Task]], list[Result | Failure]]],
        *,
        most_waiting: int,
        belong: Callable[[Task], object] = lambda _: None,
        slow: Callable[[Task], Hashable] = lambda _: None,
        seconds: float = 300.0,
    ) -> None:
        self._name = name
        self._isolated: Isolated[list[Task], list[Result | Failure]] = Isolated(make_work)
        self._most_waiting = most_waiting
        self._belong = belong
        self._slow = slow
        self._known: Cache[Hashable, bool] = Cache(MOST_KNOWN)
        self._before = 0
        self._seconds = seconds
        self._waiting: deque[_Waiting[Task]] = deque()
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.ready = False
        """Whether the process has started and has not failed since."""
        self.problem = ""
        """Why it could not start, if it could not."""

    def start(self) -> None:
        """Starts the process in the background."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends the process, and refuses the requests that still wait."""
        if self._running is not None:
            self._isolated.interrupt()
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        while self._waiting:
            _fail(self._waiting.popleft(), Refused(503, "the server is shutting down; ask again later", 10))
        await asyncio.to_thread(self._isolated.close)

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiting)

    async def ask(self, task: Task, request: Request | None = None) -> Result:
        """The result of a task; who goes away meanwhile is not waited for.

        Args:
            task: What to do.
            request: Of the client who asks.

        Raises:
            R2TuningError: What the task raised.
            Refused: If too many wait, or the process died.
        """
        if len(self._waiting) >= self._most_waiting:
            raise Busy(f"{self._name}: {self._most_waiting} questions wait already")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(task, future))
        self._wake.set()
        result = await future if request is None else await _wait_for_client(future, request)
        if isinstance(result, Failure):
            raise result.error
        return result  # type: ignore[no-any-return]

    async def _run(self) -> None:
        await self._start()
        while True:
            batch = self._take()
            if not batch:
                self._wake.clear()
                await self._wake.wait()
                continue
            if not self.ready and not await self._start():
                for each in batch:
                    _fail(each, Refused(503, self.problem, RETRY_SECONDS))
                continue
            await self._do(batch)

    async def _start(self) -> bool:
        try:
            await asyncio.to_thread(self._isolated.start)
            self.ready, self.problem = True, ""
        except R2TuningError as error:
            self.problem = str(error)
            _LOG.error(f"{self._name}: {error}")
        return self.ready

    def _take(self) -> list[_Waiting[Task]]:
        """The next task whose client still waits, with all that belong to it."""
        self._waiting = deque(each for each in self._waiting if not each.future.done())
        if not self._waiting:
            return []
        first = self._choose()
        self._waiting.remove(first)
        key = self._belong(first.task)
        same = [each for each in self._waiting if key is not None and self._belong(each.task) == key]
        for each in same:
            self._waiting.remove(each)
        return [first, *same]

    def _choose(self) -> _Waiting[Task]:
        """The first quick task, unless so many were done before the one that came first that it is its turn."""
        first = self._waiting[0]
        quick = next((each for each in self._waiting if self._is_quick(each.task)), first)
        self._before = 0 if quick is first or self._before == MOST_BEFORE else self._before + 1
        return quick if self._before else first

    def _is_quick(self, task: Task) -> bool:
        slow = self._slow(task)
        return slow is None or self._known.get(slow) is not None

    async def _do(self, batch: list[_Waiting[Task]]) -> None:
        doing = asyncio.create_task(asyncio.to_thread(self._isolated, [each.task for each in batch]))
        try:
            done, _ = await asyncio.wait({doing}, timeout=self._seconds)
            late = not done
            if late:
                self._isolated.interrupt()
            results = await doing
        except R2TuningError as error:
            self.ready = False
            results = Death(str(error))
            late = False
        if isinstance(results, Death):
            self.ready = False
            what = f"took more than {self._seconds:g} seconds" if late else results.reason
            _LOG.error(f"{self._name}: {what}; a new process starts")
            for each in batch:
                _fail(each, Refused(503, f"{self._name}: {what}; ask again", RETRY_SECONDS))
            await self._start()
            return
        for each, result in zip(batch, results, strict=True):
            if not self._is_quick(each.task):
                self._known.put(self._slow(each.task), True)
            if not each.future.done():
                each.future.set_result(result)


def _fail(waiting: _Waiting[Any], error: Exception) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)


async def _wait_for_client(future: asyncio.Future[Any], request: Request) -> Any:
    """The future's result; cancels it if the client goes away first."""
    gone = asyncio.create_task(_watch(request))
    try:
        await asyncio.wait({future, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise Refused(499, "the client went away")
        return future.result()
    finally:
        gone.cancel()
        if not future.done():
            future.cancel()


async def _watch(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
