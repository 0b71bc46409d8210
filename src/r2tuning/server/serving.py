"""Runs the app until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from r2tuning.errors import ServerError
from r2tuning.server.app import create_app
from r2tuning.server.served import Served
from r2tuning.server.settings import Settings, bracket

GRACE = 5
"""Seconds that requests have to end once the server must stop."""

MOST_CONNECTIONS = 1000


class _Server(uvicorn.Server):
    """Says when it is ready, and tells streams that it is about to end, which would otherwise go on for ever."""

    def __init__(self, config: uvicorn.Config, served: Served, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._served = served
        self._announce = announce
        self._announcing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announcing = asyncio.create_task(self._await_ready())

    async def _await_ready(self) -> None:
        await self._served.wait_until_ready()
        self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._served.closing.set()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """Takes the port before anything is loaded; port 0 takes any free one.

    Raises:
        ServerError: If the address is not of this machine, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        advice = "choose another --port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "check --host"
        raise ServerError(f"{bracket(host)}:{port}: cannot be listened on ({error.strerror}); {advice}") from error
    return listener


def show_address(settings: Settings, port: int) -> str:
    """The address that a browser on this machine opens; what follows ``#`` is never sent over the network.

    Example:
        >>> from pathlib import Path
        >>> show_address(Settings(Path("library"), host="0.0.0.0", token="secret"), 8420)
        'http://127.0.0.1:8420/#token=secret'
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, bracket(settings.host))
    return f"http://{host}:{port}/" + (f"#token={settings.token}" if settings.token else "")


def serve(served: Served, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Answers requests until a signal ends it; then the signal is raised again.

    ``announce`` is called once the model is loaded, or cannot be.
    """
    config = uvicorn.Config(
        create_app(served),
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=32 * 1024,
        ws="none",
        proxy_headers=True,  # of a proxy on this machine only
        forwarded_allow_ips="127.0.0.1",
        lifespan="on",
    )
    _Server(config, served, announce).run(sockets=[listener])
