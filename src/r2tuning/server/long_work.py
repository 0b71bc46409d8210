"""What the process of long tasks does: questions about files that are in no library, clips, summaries."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from r2tuning.errors import OutputError
from r2tuning.features import EncodedVideo
from r2tuning.grounder import Grounder
from r2tuning.library.library import DEFAULT_MODEL, Library
from r2tuning.output.media.cut import cut, name_clip
from r2tuning.results import Grounding, check_identity, summarize
from r2tuning.server.answering import answer_about, attempt
from r2tuning.server.asking import Ground, Outline
from r2tuning.server.long_tasks import Clip, Cut, LongResult, LongTask, SumUp
from r2tuning.server.settings import Settings
from r2tuning.server.workers import Failure
from r2tuning.video import probe

MOST_ENCODED = 4
"""Encoded videos that are kept for the next question."""

MOST_CLIPS = 9999
"""Clips of one video and the same times, each with a number in its name."""

Note = Callable[[int, "int | None"], None]


def open_bench(settings: Settings, note: Note) -> Callable[[LongTask], LongResult | Failure]:
    """Prepares the process, and returns the function that does a task; ``note`` takes how far it is."""
    warnings.simplefilter("ignore")  # what matters is in the notes of an answer
    return LongWork(settings, note).do


class LongWork:
    """Does long tasks; the model is loaded by the first that needs it.

    Args:
        settings: Of the server.
        note: Takes the numbers of units done and expected.
    """

    def __init__(self, settings: Settings, note: Note) -> None:
        self._settings = settings
        self._note = note
        self._library = Library(settings.library, settings.model, device=settings.device, engine=settings.engine)
        self._grounder: Grounder | None = None
        self._encoded: OrderedDict[tuple[str, int, int], EncodedVideo] = OrderedDict()

    def do(self, task: LongTask) -> LongResult | Failure:
        """Does a task."""
        return attempt(partial(self._do, task))

    def _do(self, task: LongTask) -> LongResult:
        if isinstance(task, Cut):
            return write_clip(task, self._note)
        if isinstance(task, SumUp):
            answer = Grounding.from_dict(task.answer)
            return [summarize(answer, seconds=task.seconds, progress=self._note).to_dict()]
        return self._answer(task)

    def _answer(self, question: Ground | Outline) -> list[dict[str, Any]]:
        grounder = self._find_model()
        encoded = self._encode(grounder, question.path)

        def ground(asked: Ground) -> list[Grounding]:
            return grounder.ground(
                encoded,
                list(asked.queries),
                top_k=asked.top,
                threshold=asked.threshold,
                overlapping=asked.overlapping,
            )

        return [answer.to_dict() for answer in answer_about(question, ground, lambda _: grounder.outline(encoded))]

    def _find_model(self) -> Grounder:
        """The model of the library; of one that is empty, the one that it would get."""
        settings = self._settings
        if self._library.info().generation is not None:
            found = self._library.load()
        elif self._grounder is not None:
            found = self._grounder
        else:
            name = settings.model or DEFAULT_MODEL
            found = Grounder.from_pretrained(name, device=settings.device, engine=settings.engine)
        if found is not self._grounder:
            self._encoded.clear()
            self._grounder = found
        return found

    def _encode(self, grounder: Grounder, path: str) -> EncodedVideo:
        status = os.stat(path)  # noqa: PTH116  (the path is text, as everywhere here)
        key = path, status.st_size, status.st_mtime_ns
        if key not in self._encoded:
            self._encoded[key] = grounder.encode(path, progress=self._note)
        self._encoded.move_to_end(key)
        while len(self._encoded) > MOST_ENCODED:
            self._encoded.popitem(last=False)
        return self._encoded[key]


def write_clip(task: Cut, note: Note) -> Clip:
    """Writes a clip to a new file.

    Raises:
        OutputError: If there is a file of its name, or it cannot be written.
        ValueError: If the span does not end after it starts.
        VideoError: If the video cannot be read, is another one, or shows nothing in the span.
    """
    check_identity(task.path, task.identity)
    target = _choose_target(task)
    start = cut(task.path, task.start, task.end, target, not task.fast, progress=note)
    return Clip(probe(target), start)


def _choose_target(task: Cut) -> Path:
    """A file that is not there; not even as a link, which might lead out of the folder."""
    if task.name:
        if os.path.lexists(task.folder / task.name):
            raise OutputError(f"{task.name}: exists; choose another name")
        return task.folder / task.name
    for number in range(1, MOST_CLIPS + 1):
        target = task.folder / name_clip(number, 1, Path(task.path).stem, task.start, task.end)
        if not os.path.lexists(target):
            return target
    raise OutputError(f"{task.folder}: has {MOST_CLIPS:,} clips of this moment; remove some")
