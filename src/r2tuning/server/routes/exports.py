"""Moments to take away, in every format."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from r2tuning.server.exports import RENDERED, ExportMoment, ExportTask, ExportVideo
from r2tuning.server.files import make_download
from r2tuning.server.pictures import Written
from r2tuning.server.problems import Refused
from r2tuning.server.schemas import ExportIn, JobOut
from r2tuning.server.served import Served, ServedNow
from r2tuning.server.showing import to_job

router = APIRouter(tags=["exports"])


@router.post(
    "/export",
    response_class=Response,
    responses={
        200: {"description": "The file", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
        202: {"description": "A job, whose result is the file", "model": JobOut},
    },
)
async def export(served: ServedNow, request: Request, asked: ExportIn) -> Response:
    """Writes moments in a format: at once if it is text, else by a job, since frames must be decoded.

    A format that is about one video gets a file for each of several, in an archive.
    """
    task = await asyncio.to_thread(_plan, served, asked)
    if task.format in RENDERED:
        videos = [video.name for video in task.videos]
        subject = videos[0] if len(videos) == 1 else f"{len(videos)} videos"
        job = to_job(await served.runner.submit("export", task, subject))
        return JSONResponse(job.model_dump(mode="json"), 202)
    made = cast(Written, await served.make(task, request))
    return make_download(made.name, made.content)


def _plan(served: Served, asked: ExportIn) -> ExportTask:
    """The request with what the library knows of the videos."""
    numbers = {video: place for place, video in enumerate(dict.fromkeys(moment.video for moment in asked.moments))}
    videos = []
    for video in numbers:
        listed = served.collection.find_ready(video)
        if listed.video is None:
            raise Refused(409, f"video {video}: is not encoded; rescan the library")
        videos.append(
            ExportVideo(
                path=listed.file.path,
                name=served.collection.name(listed.file.path),
                duration=listed.video.duration,
                start=listed.video.start,
                sampling=listed.video.sampling,
                truncated=listed.video.truncated,
                identity=listed.video.identity,
            )
        )
    if asked.format != "custom" and any(moment.start is None for moment in asked.moments):
        raise Refused(422, f"format {asked.format}: takes moments with times; only custom takes others")
    made = served.collection.read().generation
    return ExportTask(
        format=asked.format,
        videos=videos,
        moments=[
            ExportMoment(
                video=numbers[moment.video],
                query=moment.query,
                start=moment.start,
                end=moment.end,
                score=moment.score,
            )
            for moment in asked.moments
        ],
        model="" if made is None else Path(made.facts.model).name,  # it may be a folder of the server
        pad=asked.pad,
        timecode=asked.timecode,
        fast=asked.fast,
    )
