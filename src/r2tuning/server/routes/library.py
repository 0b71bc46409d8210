"""The library and its videos: list, add by path or by upload, look again, remove."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Query, Request

from r2tuning.errors import OutputError, VideoError
from r2tuning.files import file_name, flush_folder, name_temporary
from r2tuning.server.desk import check_space
from r2tuning.server.pictures import Probe
from r2tuning.server.problems import Busy, Refused
from r2tuning.server.schemas import AddIn, JobOut, LibraryOut, VideoId, VideoOut, VideosOut
from r2tuning.server.served import MOST_UPLOADS, Served, ServedNow
from r2tuning.server.showing import to_job, to_video
from r2tuning.server.tasks import AddTask, RemoveTask, RescanTask
from r2tuning.types import VIDEO_SUFFIXES

router = APIRouter(tags=["library"])

_BLOCK = 4 * 2**20  # bytes that are collected before they are written
_LONGEST_NAME = 255


@router.get("/library")
def show_library(served: ServedNow) -> LibraryOut:
    """What the library holds, and what may be done with it."""
    contents, settings = served.collection.read(), served.settings
    made = None if contents.generation is None else contents.generation.facts
    listed = list(contents.files.values())
    videos = {one.video.id: one.video for one in listed if one.video is not None}
    return LibraryOut(
        name=settings.library.name,
        changes=contents.changes,
        files=len(listed),
        videos=len(videos),
        seconds=round(sum(video.duration for video in videos.values()), 3),
        missing=sum(one.state == "missing" for one in listed),
        failed=sum(one.state == "failed" for one in listed),
        bytes=sum(video.bytes for video in videos.values()),
        model=None if made is None else Path(made.model).name,
        keep=None if made is None else made.keep,
        roots=[root.name for root in settings.roots],
        max_upload=settings.max_upload,
        ready=served.answers.ready,
    )


@router.get("/videos")
def list_videos(
    served: ServedNow,
    after: Annotated[str, Query(max_length=16, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    name: Annotated[str, Query(max_length=200, description="Only files whose name has this text.")] = "",
) -> VideosOut:
    """The files of the library, by name, in pages."""
    contents = served.collection.read()
    wanted = name.casefold()
    ids = [
        number
        for number, one in contents.files.items()
        if not wanted or wanted in served.collection.name(one.file.path).casefold()
    ]
    begin = 0
    if after:
        if after not in ids:
            raise Refused(409, f"after {after}: the library has changed since that page; begin with the first")
        begin = ids.index(after) + 1
    page = ids[begin : begin + limit]
    more = begin + limit < len(ids)
    shown = [to_video(number, contents.files[number], contents, served.collection) for number in page]
    return VideosOut(total=len(ids), next=page[-1] if more else "", videos=shown)


@router.get("/videos/{video}")
def show_video(served: ServedNow, video: VideoId) -> VideoOut:
    """A file of the library."""
    return to_video(video, served.collection.find(video), served.collection.read(), served.collection)


@router.post("/videos", status_code=202)
async def add_videos(served: ServedNow, asked: AddIn) -> JobOut:
    """Adds a file or a folder below a root of the server, by a job. What is there and has not changed is skipped."""
    path = await asyncio.to_thread(served.collection.resolve, asked.path)
    return to_job(await served.runner.submit("add", AddTask(paths=[path]), served.collection.name(path)))


@router.delete("/videos/{video}", status_code=202)
async def remove_video(served: ServedNow, video: VideoId) -> JobOut:
    """Takes a file out of the library, by a job. The file itself stays, unless it was uploaded.

    A file of a folder that was added stays out, too, until it is added by its own path.
    """
    found = await asyncio.to_thread(served.collection.find, video)
    path = found.file.path
    return to_job(await served.runner.submit("remove", RemoveTask(paths=[path]), served.collection.name(path)))


@router.post("/rescan", status_code=202)
async def rescan(served: ServedNow) -> JobOut:
    """Looks again at everything that was added, by a job: what is new, changed, moved or gone."""
    return to_job(await served.runner.submit("rescan", RescanTask()))


@router.post(
    "/uploads",
    status_code=202,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The file itself.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(
    served: ServedNow,
    request: Request,
    name: Annotated[
        str, Query(min_length=1, max_length=_LONGEST_NAME, description="Name of the file.", examples=["trip.mp4"])
    ],
) -> JobOut:
    """Uploads a video and adds it, by a job. It is kept only if it is one."""
    suffix = Path(name).suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise Refused(415, f"{name}: does not end like a video; give it the ending of its format, such as .mp4")
    if served.uploading >= MOST_UPLOADS:
        raise Busy(f"{MOST_UPLOADS} videos are being uploaded already")
    served.uploading += 1
    try:
        path = await _receive(served, request, name)
    finally:
        served.uploading -= 1
    return to_job(await served.runner.submit("add", AddTask(paths=[str(path)]), name))


async def _receive(served: Served, request: Request, name: str) -> Path:
    """Writes a body to a file, which gets its place once it is complete and turns out to be a video."""
    uploads = served.settings.uploads
    temporary = await asyncio.to_thread(name_temporary, uploads)
    try:
        await asyncio.to_thread(check_space, uploads, int(request.headers.get("content-length", 0)))
        with temporary.open("xb") as file:
            waiting, size = bytearray(), 0
            async for block in request.stream():
                waiting += block
                if len(waiting) >= _BLOCK:
                    size += len(waiting)
                    await asyncio.to_thread(_write, file, bytes(waiting), uploads)
                    waiting.clear()
            await asyncio.to_thread(_write, file, bytes(waiting), uploads, last=True)
            if not size + len(waiting):
                raise Refused(422, f"{name}: is empty; send the file as the body")
        try:
            await served.pictures.ask(Probe(str(temporary)), request)
        except VideoError as error:
            raise VideoError(str(error).replace(str(temporary), name)) from None
        return await asyncio.to_thread(_keep, temporary, uploads, name)
    except OSError as error:
        raise OutputError(f"{name}: cannot be written ({error.strerror}); free space on the server") from error
    finally:
        await asyncio.to_thread(temporary.unlink, missing_ok=True)


def _write(file: BinaryIO, block: bytes, folder: Path, *, last: bool = False) -> None:
    check_space(folder, len(block))
    file.write(block)
    if last:
        file.flush()
        os.fsync(file.fileno())


def _keep(temporary: Path, uploads: Path, name: str) -> Path:
    """Moves an upload to its place: a folder that nobody can guess, so that no name meets another."""
    folder = uploads / secrets.token_hex(8)
    folder.mkdir()
    path = folder / file_name(name, "")
    temporary.replace(path)
    flush_folder(folder)
    flush_folder(uploads)
    return path
