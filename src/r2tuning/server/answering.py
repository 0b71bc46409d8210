"""What the worker process with the model does: searches, and questions about one video."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from r2tuning.errors import LibraryError, R2TuningError, RequestError, VideoError
from r2tuning.features import EncodedVideo
from r2tuning.library.grounding import ground_video
from r2tuning.library.hits import Hits
from r2tuning.library.indexing import raw_path
from r2tuning.library.library import Library
from r2tuning.library.questions import find_video
from r2tuning.results import Grounding
from r2tuning.server.asking import Answer, Ground, Outline, Peaks, Question, Search
from r2tuning.server.workers import Failure

Result = TypeVar("Result")


def open_answers(
    folder: Path, model: str | None, device: str | None
) -> Callable[[list[Question]], list[Answer | Failure]]:
    """Loads the model, if the library has one yet, and returns a function that answers questions.

    A first search is made here, so that that of a user is as fast as any: it reads the vectors and warms the caches.
    """
    library = Library(folder, model, device=device)
    if library.info().generation is not None:
        library.load()
        with suppress(R2TuningError):  # such as damaged vectors, which the questions tell of
            answer(library, [Search("somebody does something", top=1)])
    return partial(answer, library)


def answer(library: Library, questions: list[Question]) -> list[Answer | Failure]:
    """Answers questions that belong together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is in the notes of an answer
        if len(questions) > 1 and all(isinstance(each, Ground) for each in questions):
            try:
                answers = _ground_all(library, [each for each in questions if isinstance(each, Ground)])
                return [_to_dicts(each) for each in answers]
            except R2TuningError:  # of one of them; each gets its own answer or error
                pass
        found = {each: _answer_one(library, each) for each in dict.fromkeys(questions)}
        return [found[each] for each in questions]


def _answer_one(library: Library, question: Question) -> Answer | Failure:
    return attempt(partial(_find_answer, library, question))


def _find_answer(library: Library, question: Question) -> Answer:
    if isinstance(question, Search):
        return _search(library, question)
    found = answer_about(question, lambda asked: _ground_all(library, [asked])[0], partial(_outline, library))
    return _to_dicts(found)


def attempt(make: Callable[[], Result]) -> Result | Failure:
    """What a function returns, or a `Failure` that stands for its error."""
    try:
        return make()
    except R2TuningError as error:
        return Failure(error)
    except ValueError as error:  # of a number out of range
        return Failure(RequestError(f"{error}; correct the request"))


def answer_about(
    question: Ground | Outline,
    ground: Callable[[Ground], list[Grounding]],
    outline: Callable[[Outline], Grounding],
) -> list[Grounding]:
    """Answers a question about one video.

    Args:
        question: What is asked.
        ground: Grounds queries in the video.
        outline: Scores what the video shows most and newest.
    """
    if isinstance(question, Ground):
        return ground(question)
    if question.query is None:
        answer = outline(question)
    else:
        (answer,) = ground(Ground(question.path, (question.query,)))
    if isinstance(question, Peaks):
        answer = replace(answer, moments=answer.highlights(question.top, question.seconds))
    return [answer]


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
    """What a video shows most and newest."""
    snapshot = library.look()
    if snapshot.generation.facts.keep != "raw":
        raise LibraryError(
            f"{asked.path}: without a query, this needs the features; ask with a query, or run r2tuning library rescan "
            "--keep raw"
        )
    number = find_video(snapshot.videos, snapshot.files, asked.path).id
    encoded = EncodedVideo.load(raw_path(library.folder, number), asked.path)
    return library.load().outline(encoded)


def _to_dicts(answers: list[Grounding]) -> list[dict[str, Any]]:
    """The answers as JSON has them: the server itself needs none of what makes them."""
    return [answer.to_dict() for answer in answers]
