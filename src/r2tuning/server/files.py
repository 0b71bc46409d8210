"""Files as responses: parts of them by byte ranges, and problem documents for ranges that are wrong."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from r2tuning.server.problems import make_problem

_BINARY = "application/octet-stream"
# What Python's table lacks, or names in a way that browsers do not play.
_TYPES = {
    ".mkv": "video/x-matroska",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".ts": "video/mp2t",
    ".mts": "video/mp2t",
    ".m2ts": "video/mp2t",
    ".avi": "video/x-msvideo",
}


def find_type(path: str) -> str:
    """The media type of a video, by its ending; never one that a browser would run.

    Example:
        >>> find_type("a.MP4"), find_type("a.mkv"), find_type("a.html")
        ('video/mp4', 'video/x-matroska', 'application/octet-stream')
    """
    suffix = Path(path).suffix.lower()
    found = _TYPES.get(suffix) or mimetypes.guess_type(f"video{suffix}")[0] or _BINARY
    return found if found.startswith("video/") else _BINARY


class FileAnswer(FileResponse):
    """A file, or ranges of its bytes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the file; what the client asked wrongly becomes a problem document."""
        wrong: Response | None = None

        async def watch(message: Message) -> None:
            nonlocal wrong
            if message["type"] == "http.response.start" and message["status"] >= 400:
                length = Headers(raw=message["headers"]).get("content-range")
                asked = Headers(scope=scope).get("range", "")
                headers = {} if length is None else {"Content-Range": length}
                wrong = make_problem(message["status"], f"range {asked}: is not in the file; correct it", headers)
            if wrong is None:
                await send(message)

        await super().__call__(scope, receive, watch)
        if wrong is not None:
            await wrong(scope, receive, send)


def make_download(name: str, content: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """Bytes to be saved as a file."""
    kind = mimetypes.guess_type(name)[0] or _BINARY
    disposition = f"attachment; filename*=utf-8''{quote(name)}"
    return Response(content, 200, {"Content-Disposition": disposition, **(headers or {})}, kind)
