"""Answers questions about a library, both for clients over HTTP and for an assistant."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from r2tuning.errors import LibraryError
from r2tuning.library.cache import Cache
from r2tuning.library.catalog import CATALOG_FILE, open_catalog, prepare_folder
from r2tuning.processes import hold
from r2tuning.server.asking import Answer, Answers, Question
from r2tuning.server.collection import Collection
from r2tuning.server.pictures import Made, Order, Pictures
from r2tuning.server.problems import Refused
from r2tuning.server.settings import Settings

MOST_ANSWERS = 256
"""Answers that are remembered."""

SPARE = 10**9
"""Bytes that clients leave free on the disk."""


@dataclass
class Desk:
    """Answers from the library as it is now.

    Attributes:
        settings: What is served.
        collection: The library, to read.
        answers: The worker with the model.
        pictures: The worker that reads videos.
    """

    settings: Settings
    collection: Collection
    answers: Answers
    pictures: Pictures
    _answered: Cache[Hashable, Answer] = field(default_factory=lambda: Cache(MOST_ANSWERS), kw_only=True)

    async def ask(self, question: Question, request: Request | None = None) -> Answer:
        """The answer of the library as it is now, remembered until it changes."""
        changes = await asyncio.to_thread(self.collection.count_changes)
        key = changes, question
        if (known := self._answered.get(key)) is not None:
            return known
        found = await self.answers.ask(question, request)
        self._answered.put(key, found)
        return found

    async def make(self, order: Order, request: Request | None = None) -> Made:
        """What the worker for pictures makes."""
        return await self.pictures.ask(order, request)


def prepare_library(settings: Settings) -> None:
    """Makes the library if it is not there.

    Raises:
        LibraryError: If its folder has other files, or cannot be written.
    """
    if not (settings.library / CATALOG_FILE).exists():
        prepare_folder(settings.library)
        with hold(settings.library, LibraryError), open_catalog(settings.library, create=True):
            pass


def check_space(folder: Path, size: int = 0) -> None:
    """Checks that a client may write so many bytes.

    Raises:
        Refused: If the disk would be full.
    """
    if shutil.disk_usage(folder).free - size < SPARE:
        raise Refused(507, "the server's disk is full; free space there, or ask for a smaller file")
