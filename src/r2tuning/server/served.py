"""Everything that a running server holds, as the routes get it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from r2tuning.library.cache import Cache
from r2tuning.server.asking import start_answers
from r2tuning.server.collection import Collection
from r2tuning.server.desk import Desk, prepare_library
from r2tuning.server.jobs import JobStore
from r2tuning.server.pictures import Order, start_pictures
from r2tuning.server.running import Runner, tidy
from r2tuning.server.settings import Settings

MOST_PICTURES = 128 * 2**20
"""Bytes of pictures and pieces of previews that are remembered."""
MOST_UPLOADS = 4
"""Videos that are uploaded at once."""
MOST_THREADS = 64
"""Threads that wait for files and processes, at most."""
LOOK = 0.05
"""Seconds between two looks whether the model is loaded."""
MOST_STREAMS = 64
"""Clients that follow jobs at once."""


@dataclass
class Served(Desk):
    """What answers the requests.

    Attributes:
        store: The jobs.
        runner: Runs them.
        closing: Set when the server is about to end.
        uploading: How many videos are being uploaded.
        streams: How many clients follow jobs.
    """

    store: JobStore
    runner: Runner
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    uploading: int = 0
    streams: int = 0
    _made: Cache[Hashable, bytes] = field(default_factory=lambda: Cache(MOST_PICTURES, len))

    async def make_bytes(self, order: Order, version: object, request: Request) -> bytes:
        """A picture or a piece of a preview, remembered until the ``version`` of its file changes."""
        key = order, version
        if (known := self._made.get(key)) is None:
            made: Any = await self.make(order, request)
            known = made
            self._made.put(key, made)
        return known

    async def start(self) -> None:
        """Starts the processes."""
        # Some threads always wait for a process; by default a machine with two cores has six.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(MOST_THREADS))
        self.answers.start()
        self.pictures.start()
        self.runner.start()

    async def wait_until_ready(self) -> None:
        """Waits until questions are answered at once, or it is known why they are not."""
        while not self.answers.ready and not self.answers.problem:
            await asyncio.sleep(LOOK)

    async def stop(self) -> None:
        """Ends the processes; jobs are queued again."""
        self.closing.set()
        await asyncio.gather(self.runner.stop(), self.answers.stop(), self.pictures.stop())


def open_served(settings: Settings) -> Served:
    """Opens a library to serve, and creates it if it is not there.

    Raises:
        LibraryError: If it is damaged, or its folder has other files.
        ServerError: If the list of jobs is damaged.
    """
    prepare_library(settings)
    for folder in (settings.uploads, settings.exports):
        folder.mkdir(exist_ok=True)
    collection, store = Collection(settings), JobStore(settings.library)
    store.requeue()
    tidy(settings, store, set(collection.read().ids))
    runner = Runner(settings, store, collection.hide)
    return Served(settings, collection, start_answers(settings), start_pictures(), store, runner)


def get_served(request: Request) -> Served:
    """What the app of a request serves."""
    served: Served = request.app.state.served
    return served


ServedNow = Annotated[Served, Depends(get_served)]
