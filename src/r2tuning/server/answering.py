"""What the worker process with the model does: searches, and questions about one video."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from r2tuning.errors import LibraryError, R2TuningError, ServerError, VideoError
from r2tuning.features import EncodedVideo
from r2tuning.library.grounding import ground_video
from r2tuning.library.hits import Hits
from r2tuning.library.indexing import raw_path
from r2tuning.library.library import Library
from r2tuning.library.questions import find_video
from r2tuning.results import Grounding
from r2tuning.server.settings import Settings
from r2tuning.server.workers import Failure, Worker

SECONDS = 300.0
"""In which a question must be answered."""


@dataclass(frozen=True)
class Search:
    """A search in the whole library; the fields are those of `Library.search`."""

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
    """What a video shows most and newest."""

    path: str


Question = Search | Ground | Outline
Answer = Hits | list[Grounding]
Answers = Worker[Question, Answer]


def belong(question: Question) -> object:
    """What questions share that are answered in one go."""
    return replace(question, queries=()) if isinstance(question, Ground) else None


def start_answers(settings: Settings) -> Answers:
    """The worker with the model, to be started."""
    opened = partial(open_answers, settings.library, settings.model, settings.device)
    return Worker("search", opened, most_waiting=settings.most_waiting, belong=belong, seconds=SECONDS)


def open_answers(
    folder: Path, model: str | None, device: str | None
) -> Callable[[list[Question]], list[Answer | Failure]]:
    """Loads the model, if the library has one yet, and returns a function that answers questions."""
    library = Library(folder, model, device=device)
    if library.info().generation is not None:
        library.load()
    return partial(answer, library)


def answer(library: Library, questions: list[Question]) -> list[Answer | Failure]:
    """Answers questions that belong together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is in the notes of an answer
        if len(questions) > 1 and all(isinstance(each, Ground) for each in questions):
            try:
                return [*_ground_all(library, [each for each in questions if isinstance(each, Ground)])]
            except R2TuningError:  # of one of them; each gets its own answer or error
                pass
        return [_answer_one(library, each) for each in questions]


def _answer_one(library: Library, question: Question) -> Answer | Failure:
    try:
        if isinstance(question, Search):
            return _search(library, question)
        if isinstance(question, Ground):
            (found,) = _ground_all(library, [question])
            return found
        return [_outline(library, question)]
    except R2TuningError as error:
        return Failure(error)
    except ValueError as error:  # of a number out of range
        return Failure(ServerError(f"{error}; correct the request"))


def _search(library: Library, asked: Search) -> Hits:
    with tempfile.TemporaryDirectory(prefix="r2tuning-") as place:
        picture = None
        if asked.picture is not None:
            picture = Path(place) / "picture"
            picture.write_bytes(asked.picture)
        try:
            hits = library.search(
                asked.query,
                like=asked.like,
                image=picture,
                without=asked.without,
                top=asked.top,
                within=asked.within,
                since=asked.since,
                min_duration=asked.min_duration,
                threshold=asked.threshold,
                after=asked.after,
            )
        except VideoError as error:  # it names the temporary file
            raise VideoError(str(error).replace(str(picture), "image")) from None
    return replace(hits, curves=())


def _ground_all(library: Library, asked: list[Ground]) -> list[list[Grounding]]:
    """Grounds the queries of several questions about one video at once; each is computed once."""
    first, snapshot = asked[0], library.look()
    number = find_video(snapshot.videos, snapshot.files, first.path).id
    queries = list(dict.fromkeys(query for each in asked for query in each.queries))
    found = ground_video(
        snapshot,
        library.load(),
        number,
        queries,
        top_k=first.top,
        threshold=first.threshold,
        overlapping=first.overlapping,
    )
    of_query = {query: replace(each, video=first.path) for query, each in zip(queries, found, strict=True)}
    return [[of_query[query] for query in each.queries] for each in asked]


def _outline(library: Library, asked: Outline) -> Grounding:
    snapshot = library.look()
    if snapshot.generation.facts.keep != "raw":
        raise LibraryError(
            f"{asked.path}: without a query, this needs the features; ask with a query, or run r2tuning library rescan "
            "--keep raw"
        )
    number = find_video(snapshot.videos, snapshot.files, asked.path).id
    encoded = EncodedVideo.load(raw_path(library.folder, number), asked.path)
    return library.load().outline(encoded)
