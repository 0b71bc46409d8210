"""Pictures of videos, the videos themselves, and previews of those that browsers do not play."""

from __future__ import annotations

import asyncio
from pathlib import Path as FilePath
from typing import Annotated, cast

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from r2tuning.library.records import File
from r2tuning.server.files import FileAnswer, find_type
from r2tuning.server.pictures import Order, Preview, Strip
from r2tuning.server.previews import Piece, Plan
from r2tuning.server.problems import Refused
from r2tuning.server.schemas import LATEST, PreviewOut, VideoId
from r2tuning.server.served import Served, ServedNow

router = APIRouter(tags=["media"])

Height = Annotated[int, Query(ge=16, le=720, description="Pixels.")]
Time = Annotated[float, Query(ge=-LATEST, le=LATEST, allow_inf_nan=False, description="Seconds.")]

_PICTURE: dict[int | str, dict[str, object]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}
_VIDEO: dict[int | str, dict[str, object]] = {
    200: {"content": {"video/*": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "Ranges of its bytes"},
}


async def _draw(served: Served, request: Request, file: File, order: Order) -> Response:
    content = await served.make_bytes(order, (file.size, file.mtime_ns), request)
    kind = "video/mp4" if isinstance(order, Piece) else "image/jpeg"
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})


@router.get("/videos/{video}/thumbnail", response_class=Response, responses=_PICTURE)
async def thumbnail(
    served: ServedNow, request: Request, video: VideoId, time: Time = 0.0, height: Height = 180
) -> Response:
    """The picture at a time, as a JPEG."""
    file = await asyncio.to_thread(served.collection.find_there, video)
    return await _draw(served, request, file, Strip(file.path, (time,), height))


@router.get("/videos/{video}/strip", response_class=Response, responses=_PICTURE)
async def strip(
    served: ServedNow,
    request: Request,
    video: VideoId,
    start: Time,
    end: Time,
    frames: Annotated[int, Query(ge=1, le=32)] = 8,
    height: Height = 90,
) -> Response:
    """Pictures from a stretch of a video, evenly spaced, side by side in one JPEG of equal parts."""
    if not start < end:
        raise Refused(422, f"end: {end:g} is not after start, {start:g}; correct one")
    file = await asyncio.to_thread(served.collection.find_there, video)
    times = tuple(start + (end - start) * (number + 0.5) / frames for number in range(frames))
    return await _draw(served, request, file, Strip(file.path, times, height))


@router.get("/videos/{video}/media", response_class=Response, responses=_VIDEO)
async def media(served: ServedNow, video: VideoId) -> Response:
    """The file itself, or ranges of its bytes."""
    file = await asyncio.to_thread(served.collection.find_there, video)
    return FileAnswer(
        file.path,
        media_type=find_type(file.path),
        filename=FilePath(file.path).name,
        content_disposition_type="inline",
    )


@router.get("/videos/{video}/preview")
async def preview(served: ServedNow, request: Request, video: VideoId) -> PreviewOut:
    """How a browser can play the video."""
    file = await asyncio.to_thread(served.collection.find_there, video)
    plan = cast(Plan, await served.make(Preview(file.path), request))
    return PreviewOut(
        mode=plan.mode,
        mime=plan.mime,
        reason=plan.reason,
        start=plan.start,
        duration=plan.duration,
        pieces=list(plan.pieces),
    )


@router.get("/videos/{video}/preview/{number}", response_class=Response, responses=_VIDEO)
async def preview_piece(
    served: ServedNow, request: Request, video: VideoId, number: Annotated[int, Path(ge=0, le=10**6)]
) -> Response:
    """A piece of a preview, as MP4."""
    file = await asyncio.to_thread(served.collection.find_there, video)
    return await _draw(served, request, file, Piece(file.path, number))
