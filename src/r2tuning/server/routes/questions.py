"""Questions: searches in the library, and moments, highlights and a summary of one video."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from fastapi import APIRouter, Request

from r2tuning.library.hits import Hits
from r2tuning.server.asking import Ground, Outline, Peaks
from r2tuning.server.schemas import (
    AnswerOut,
    AnswersOut,
    GroundIn,
    HighlightsIn,
    JobOut,
    SearchIn,
    SearchOut,
    SummaryIn,
    VideoId,
)
from r2tuning.server.served import Served, ServedNow
from r2tuning.server.showing import show_answer, show_hits, to_job, to_search
from r2tuning.server.tasks import SummaryTask

router = APIRouter(tags=["questions"])


@router.post("/search")
async def search(served: ServedNow, request: Request, asked: SearchIn) -> SearchOut:
    """Finds the moments of all videos that match a sentence, another moment or a picture, best first."""
    like = None
    if asked.like is not None:
        listed = await asyncio.to_thread(served.collection.find_ready, asked.like.video)
        like = listed.file.path, asked.like.start, asked.like.end
    queries = asked.queries or (None,)
    questions = [to_search(asked, served.collection, query, like, asked.image) for query in queries]
    pages = await asyncio.gather(*(served.ask(question, request) for question in questions))
    return SearchOut(searches=[show_hits(cast(Hits, page), served.collection) for page in pages])


@router.post("/videos/{video}/ground")
async def ground(served: ServedNow, request: Request, video: VideoId, asked: GroundIn) -> AnswersOut:
    """Finds the moments of one video for each query, with its saliency, and whether it shows the query at all."""
    listed = await asyncio.to_thread(served.collection.find_ready, video)
    question = Ground(listed.file.path, tuple(asked.queries), asked.top, asked.threshold, asked.overlapping)
    return AnswersOut(answers=[show_answer(one, served.collection) for one in await _ask(served, request, question)])


@router.post("/videos/{video}/highlights")
async def highlights(served: ServedNow, request: Request, video: VideoId, asked: HighlightsIn) -> AnswerOut:
    """The best seconds of a video: the highest peaks of its saliency, as the moments of an answer."""
    listed = await asyncio.to_thread(served.collection.find_ready, video)
    question = Peaks(listed.file.path, asked.query, asked.top, asked.seconds)
    (found,) = await _ask(served, request, question)
    return show_answer(found, served.collection)


@router.post("/videos/{video}/summary", status_code=202)
async def summarize(served: ServedNow, request: Request, video: VideoId, asked: SummaryIn) -> JobOut:
    """Sums up a video, by a job that reads it once; its result is that of `r2tuning summarize --json`."""
    listed = await asyncio.to_thread(served.collection.find_ready, video)
    (found,) = await _ask(served, request, Outline(listed.file.path, asked.query))
    task = SummaryTask(answer=found, ratio=asked.ratio, seconds=asked.seconds)
    return to_job(await served.runner.submit("summary", task, served.collection.name(listed.file.path)))


async def _ask(served: Served, request: Request, question: Ground | Outline) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", await served.ask(question, request))
