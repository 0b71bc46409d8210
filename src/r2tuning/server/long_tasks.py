"""Long tasks for a client that waits: they tell how far they are, and end when the client gives up.

Unlike jobs they are kept nowhere, so that a server of one client may run beside one that has jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ctypes import Array, c_longlong
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from r2tuning.processes import Death, Isolated
from r2tuning.server.asking import Ground, Outline
from r2tuning.server.problems import RETRY_SECONDS, Refused
from r2tuning.server.settings import Settings
from r2tuning.server.workers import Failure
from r2tuning.types import VideoInfo

PAUSE = 0.25
"""Seconds between two looks at how far a task is."""

_END = 0.1  # seconds between attempts to end a process, which may still be starting

Report = Callable[[int, "int | None"], Awaitable[None]]
"""Takes the numbers of units done and expected; the latter is None until it is known."""


@dataclass(frozen=True)
class Cut:
    """Asks for a clip.

    Attributes:
        path: The video.
        identity: Of the content that the times are about; empty for whatever the file holds.
        start: Seconds on the player's clock.
        end: Seconds on the player's clock.
        folder: Where the clip is written.
        name: Of its file; empty for one made of the video's name and the times.
        fast: Whether packets are copied, from the key frame before ``start`` on.
    """

    path: str
    identity: str
    start: float
    end: float
    folder: Path
    name: str = ""
    fast: bool = False


@dataclass(frozen=True)
class Clip:
    """A clip that was written: its file, and when it begins in the video."""

    info: VideoInfo
    start: float


@dataclass(frozen=True)
class SumUp:
    """Asks for the shots that sum up a video, by the saliency of an answer, as `Grounding.to_dict` has it."""

    answer: dict[str, Any]
    seconds: float | None = None


LongTask = Ground | Outline | Cut | SumUp
"""Questions are about files that are in no library; they are encoded first."""

LongResult = list[dict[str, Any]] | Clip
"""Answers as `r2tuning.Grounding.to_dict` has them, of a summary as `r2tuning.Summary.to_dict` has it; or a clip."""


class Bench:
    """Does long tasks one after the other, in a process of its own that starts with the first.

    Args:
        name: What it does, for messages.
        settings: Of the server.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        # Without a lock, which a process that is ended would keep.
        self._done: Array[c_longlong] = get_context("spawn").RawArray(c_longlong, 2)
        self._isolated: Isolated[LongTask, LongResult | Failure] = Isolated(partial(start_bench, settings, self._done))
        self._free = asyncio.Lock()
        self._tasks: set[asyncio.Task[LongResult | Failure | Death]] = set()
        self._turn: asyncio.Task[Any] | None = None
        """The task that the numbers are about, also when it is done."""

    async def do(self, task: LongTask, report: Report) -> LongResult:
        """The result of a task. Cancelling this ends the process, which starts anew for the next task.

        Raises:
            R2TuningError: What the task raised.
            Refused: If the process died.
        """
        doing = asyncio.create_task(self._do(task))
        self._tasks.add(doing)
        doing.add_done_callback(self._tasks.discard)
        told = 0
        try:
            while not doing.done():
                await asyncio.wait({doing}, timeout=PAUSE)
                done, expected = self._done
                if self._turn is doing and done > told:
                    told = done
                    await report(done, expected or None)
        finally:
            doing.cancel()  # ends the process by itself, since the client may be gone
        result = doing.result()
        if isinstance(result, Death):
            raise Refused(503, f"{self._name}: {result.reason}; ask again", RETRY_SECONDS)
        if isinstance(result, Failure):
            raise result.error
        return result

    async def stop(self) -> None:
        """Ends the process and what it does."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._isolated.close)

    async def _do(self, task: LongTask) -> LongResult | Failure | Death:
        async with self._free:
            self._done[:] = [0, 0]
            self._turn = asyncio.current_task()
            working = asyncio.create_task(asyncio.to_thread(self._isolated, task))
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                while not working.done():
                    self._isolated.interrupt()
                    await asyncio.wait({working}, timeout=_END)
                with suppress(Exception):  # of a process that was ended while it started
                    working.result()
                raise


def start_bench(settings: Settings, done: Array[c_longlong]) -> Callable[[LongTask], LongResult | Failure]:
    """Prepares the process; called in it."""
    from r2tuning.server.long_work import open_bench

    def note(number: int, expected: int | None) -> None:
        done[:] = [number, expected or 0]

    return open_bench(settings, note)
