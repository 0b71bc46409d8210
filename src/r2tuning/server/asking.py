"""Questions for the worker process with the model, which alone imports what answers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from r2tuning.library.hits import Hits
from r2tuning.server.settings import Settings
from r2tuning.server.workers import Failure, Worker

SECONDS = 300.0
"""In which a question must be answered."""


@dataclass(frozen=True)
class Search:
    """A search in the whole library; the fields are those of `r2tuning.Library.search`."""

    query: str | None = None
    like: tuple[str, float, float] | None = None
    picture: bytes | None = None
    without: tuple[str, ...] = ()
    top: int = 20
    within: str | None = None
    since: float | None = None
    min_duration: float | None = None
    threshold: float | None = None
    after: str = ""


@dataclass(frozen=True)
class Ground:
    """Questions about one video; those of several clients are batched where only the queries differ."""

    path: str
    queries: tuple[str, ...]
    top: int | None = None
    threshold: float | None = None
    overlapping: bool = False


@dataclass(frozen=True)
class Outline:
    """Asks for the saliency of a video for a query; without one, for what it shows most and newest."""

    path: str
    query: str | None = None


@dataclass(frozen=True)
class Peaks(Outline):
    """Asks for the highest peaks of the saliency of a video, too."""

    top: int = 5
    seconds: float | None = None


Question = Search | Ground | Outline
Answer = Hits | list[dict[str, Any]]
"""Answers about one video are as `r2tuning.Grounding.to_dict` has them."""

Answers = Worker[Question, Answer]


def belong(question: Question) -> object:
    """What questions share that are answered in one go: the same question, or other queries about the same video."""
    return replace(question, queries=()) if isinstance(question, Ground) else question


def find_slow(question: Question) -> object:
    """What of a question is slow only the first time: sentences, for which the library remembers what it saw."""
    return (question.query, question.without) if isinstance(question, Search) and question.query is not None else None


def start_answers(settings: Settings) -> Answers:
    """The worker with the model, to be started."""
    opened = partial(open_worker, settings.library, settings.model, settings.device)
    return Worker("search", opened, most_waiting=settings.most_waiting, belong=belong, slow=find_slow, seconds=SECONDS)


def open_worker(
    folder: Path, model: str | None, device: str | None
) -> Callable[[list[Question]], list[Answer | Failure]]:
    """Prepares the process; called in it."""
    from r2tuning.server.answering import open_answers

    return open_answers(folder, model, device)
