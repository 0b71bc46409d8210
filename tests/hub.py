"""A small Hugging Face hub on this machine: real HTTP, so that downloads are tested as they happen."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"

_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")


@dataclass(frozen=True)
class Request:
    """What a client asked for; ``range`` is its Range header or None."""

    method: str
    path: str
    range: str | None


@dataclass
class Hub:
    """A running hub.

    Attributes:
        url: For ``HF_ENDPOINT``.
        files: Content by ``owner/repository/file``; may be changed while running.
        requests: All requests so far.
        cut_after: Close the next GET's connection after so many bytes of its body, once.
        status: Answer everything with this HTTP status instead.
    """

    url: str
    files: dict[str, bytes]
    requests: list[Request] = field(default_factory=list)
    cut_after: int | None = None
    status: int | None = None

    @property
    def ranges(self) -> list[str]:
        """Range headers of all GETs that had one."""
        return [request.range for request in self.requests if request.method == "GET" and request.range]


@contextmanager
def serve_hub(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """Runs a hub on a free port of this machine, in a thread, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Nothing: requests are kept in the hub."""

        def _answer(self) -> None:
            wanted = self.headers.get("Range")
            hub.requests.append(Request(self.command, self.path, wanted))
            if hub.status is not None:
                self._send(hub.status, b"", {})
                return
            match = _RESOLVE.fullmatch(self.path)
            body = hub.files.get(f"{match['repo']}/{match['file']}") if match else None
            if body is None:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            headers = {
                "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(len(body)),
                "Accept-Ranges": "bytes",
            }
            if wanted:
                first = int(wanted.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
                self._send(206, body[first:], headers)
            else:
                self._send(200, body, headers)

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.cut_after is not None:
                body, hub.cut_after = body[: hub.cut_after], None
                self.close_connection = True
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(url=f"http://127.0.0.1:{server.server_address[1]}", files=dict(files))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
