"""Jobs: list, follow, cancel, try again, and get what they made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response, StreamingResponse

from r2tuning.server.files import FileAnswer
from r2tuning.server.jobs import Job, State
from r2tuning.server.problems import Busy, Refused
from r2tuning.server.schemas import JobOut, JobsOut
from r2tuning.server.served import MOST_STREAMS, Served, ServedNow
from r2tuning.server.showing import to_job

router = APIRouter(tags=["jobs"])

PAUSE = 0.5
"""Seconds between two looks at a job that is followed."""

_SILENCE = 15.0  # seconds after which a comment shows that the connection lives

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["0f3c2a9b81d4e657"])]


def _require(job: Job | None, number: str) -> Job:
    if job is None:
        raise Refused(404, f"job {number}: is not known (any more); GET /api/v1/jobs lists all")
    return job


@router.get("/jobs")
def list_jobs(
    served: ServedNow,
    state: Annotated[list[State] | None, Query(max_length=5)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JobsOut:
    """Jobs, newest first."""
    return JobsOut(jobs=[to_job(job) for job in served.store.list_jobs(state or (), limit)])


@router.get("/jobs/{job}")
def show_job(served: ServedNow, job: JobId) -> JobOut:
    """A job, to be asked for again as long as it goes on."""
    return to_job(_require(served.store.find(job), job))


@router.post("/jobs/{job}/cancel")
async def cancel_job(served: ServedNow, job: JobId) -> JobOut:
    """Cancels a job. What it has done stays; one that has ended stays as it is."""
    return to_job(_require(await served.runner.cancel(job), job))


@router.post("/jobs/{job}/retry")
async def retry_job(served: ServedNow, job: JobId) -> JobOut:
    """Starts a job again that failed or was cancelled; files that failed are tried again."""
    found = _require(await asyncio.to_thread(served.store.find, job), job)
    if found.state not in ("failed", "cancelled"):
        raise Refused(409, f"job {job}: is {found.state}; only failed and cancelled jobs can be tried again")
    return to_job(_require(await served.runner.retry(job), job))


@router.get("/jobs/{job}/result", response_class=Response)
async def get_result(served: ServedNow, job: JobId) -> Response:
    """The file that a job made; it is there for a day."""
    found = _require(await asyncio.to_thread(served.store.find, job), job)
    path = served.settings.exports / found.id / found.result
    if not found.result or not await asyncio.to_thread(path.is_file):
        raise Refused(404, f"job {job}: has no file (any more); it is {found.state}")
    return FileAnswer(path, filename=found.result, content_disposition_type="attachment")


@router.get(
    "/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def follow_job(served: ServedNow, job: JobId) -> StreamingResponse:
    """Follows a job: server-sent events `job` with what `GET /jobs/{job}` gives, when it changes; the last is `end`."""
    _require(await asyncio.to_thread(served.store.find, job), job)
    if served.streams >= MOST_STREAMS:
        raise Busy(f"{MOST_STREAMS} clients follow jobs already")
    return StreamingResponse(_follow(served, job), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _follow(served: Served, number: str) -> AsyncIterator[str]:
    served.streams += 1
    try:
        shown, silent = "", 0.0
        while not served.closing.is_set():
            job = await asyncio.to_thread(served.store.find, number)
            if job is None:
                return
            text = to_job(job).model_dump_json()
            if job.over:
                yield f"event: end\ndata: {text}\n\n"
                return
            silent += PAUSE
            if text != shown:
                yield f"event: job\ndata: {text}\n\n"
                shown, silent = text, 0.0
            elif silent >= _SILENCE:
                yield ":\n\n"
                silent = 0.0
            await _sleep(served)
    finally:
        served.streams -= 1


async def _sleep(served: Served) -> None:
    try:
        await asyncio.wait_for(served.closing.wait(), PAUSE)
    except asyncio.TimeoutError:
        return
