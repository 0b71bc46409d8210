"""Who may ask: host, token, origin, size and rate of a request are checked before anything else sees it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any, TypeAlias

from h11 import LocalProtocolError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from r2tuning.server.problems import Busy, Refused, make_problem, refuse
from r2tuning.server.settings import API, Settings

Message: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

HEADER = "x-r2tuning"
"""Any value in it says that a request does not come from a form of another site."""

UPLOADS = f"{API}/uploads"
MOST_HEADERS = 2**15
"""Bytes of all headers together."""
MOST_BODY = 2**20
"""Bytes of the body of a request."""
MOST_PICTURE = 24 * 2**20
"""Bytes of the body of a search, which may hold a picture."""
SLOWEST = 30.0
"""Seconds in which the next piece of a body must arrive."""

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_CLIENTS = 10_000  # whose rates are remembered
_BURST = 4.0  # seconds' worth of requests that may come at once

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What the page may load and run. ``blob:`` is what a player calls the pieces of a preview."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def name_cookie(scope: Message) -> str:
    """Name of what the browser shows instead of the token, where it cannot send a header, as for pictures.

    Browsers share cookies among all ports of a host, so each server there needs a name of its own.

    Example:
        >>> name_cookie({"server": ("127.0.0.1", 8420)})
        'r2tuning_session_8420'
    """
    _, port = scope.get("server") or ("", None)
    return f"r2tuning_session_{port or 0}"


def make_session(token: str) -> str:
    """What the cookie holds: it follows from the token, and the token does not follow from it."""
    return hmac.new(token.encode(), b"session", hashlib.sha256).hexdigest()


def find_most(path: str, settings: Settings) -> int:
    """How many bytes the body of a request may have."""
    if path == UPLOADS:
        return settings.max_upload
    return MOST_PICTURE if path == f"{API}/search" else MOST_BODY


class Guard:
    """ASGI middleware that refuses what must not reach the app, and adds the headers that browsers obey."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._rates = Rates(settings.requests_per_second)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handles a connection."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        body = _Body(receive, find_most(scope["path"], self._settings))

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if body.gone:  # nobody listens
                return
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith(API):
                    headers.setdefault("Cache-Control", "no-store")
            try:
                await send(message)
            except LocalProtocolError:  # uvicorn has refused the rest of the request, and closes the connection
                body.gone = True

        try:
            self._check(scope)
            await self._app(scope, body.receive, send_with_headers)
        except Refused as error:
            if started:
                raise
            await refuse(error)(scope, receive, send_with_headers)
        except ClientDisconnect:
            return
        except Exception:
            if started:
                raise
            logging.getLogger(__name__).exception("%s %s failed", scope["method"], scope["path"])
            problem = make_problem(500, "the server failed; its log says why")
            await problem(scope, receive, send_with_headers)

    def _check(self, scope: Message) -> None:
        """Raises `Refused` for what must not pass."""
        headers, path, settings = Headers(scope=scope), scope["path"], self._settings
        host = headers.get("host", "").lower()
        if re.sub(r":\d*$", "", host) not in settings.hosts:
            raise Refused(421, f"host {host or 'without a name'}: is not served here; start with --allow-host NAME")
        client = scope["client"][0] if scope.get("client") else ""
        if not self._rates.allow(client):
            raise Busy("too many requests")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and path.startswith(API):
            raise Refused(403, "a page of another site may not ask; open the address of this server")
        origin = headers.get("origin")
        if origin is not None and re.sub(r"^https?://", "", origin.lower()) != host:
            raise Refused(403, f"origin {origin}: may not ask; open the address of this server")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS", "DELETE"):
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if HEADER not in headers and kind in _FORMS:
                raise Refused(415, f"content type {kind}: send application/json, or X-R2Tuning: 1")
        if scope["http_version"] not in ("1.0", "1.1", "2"):
            raise Refused(505, f"HTTP {scope['http_version']}: is not spoken here; use HTTP/1.1")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADERS:
            raise Refused(431, f"headers: have more than {MOST_HEADERS:,} bytes; send less")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > (most := find_most(path, settings)):
            raise _too_large(most if length.isdigit() else 0)
        if path.startswith(API) and settings.token and not self._knows(headers, name_cookie(scope)):
            raise Refused(401, "no valid token; send Authorization: Bearer TOKEN, which the server printed")

    def _knows(self, headers: Headers, cookie: str) -> bool:
        """Whether the client sent the token, or a cookie made from it; takes the same time for any wrong one."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self._settings.token):
            return True
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except Exception:  # it is no valid cookie, whatever the parser thinks of it
            return False
        return cookie in cookies and _same(cookies[cookie].value, make_session(self._settings.token))


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), right.encode())


def _too_large(most: int) -> Refused:
    return Refused(413, f"body: has more than {most:,} bytes, the most for this address; send less")


class _Body:
    """Lets a body be so many bytes, which must keep coming."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._got = 0
        self._whole = False
        self.gone = False
        """Whether the client went away."""

    async def receive(self) -> Message:
        """The next message of the client."""
        if self._whole:  # what comes next is that the client goes away, whenever that is
            message = await self._receive()
        else:
            try:
                message = await asyncio.wait_for(self._receive(), SLOWEST)
            except asyncio.TimeoutError:
                raise Refused(408, f"body: nothing came for {SLOWEST:g} seconds; send it again") from None
        if message["type"] == "http.disconnect":
            self.gone = True
        elif not self._whole:
            self._got += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._got > self._most:
                raise _too_large(self._most)
        return message


class Rates:
    """How often each client asked lately: so many requests a second on average, and a few seconds' worth at once.

    Example:
        >>> rates = Rates(2.0)
        >>> [rates.allow("a", now=0.0) for _ in range(9)].count(True), rates.allow("b", now=0.0)
        (8, True)
        >>> rates.allow("a", now=0.5)
        True
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, client: str, now: float | None = None) -> bool:
        """Counts a request, and says whether it is within the rate."""
        now = time.monotonic() if now is None else now
        most = max(1.0, self._per_second * _BURST)
        left, last = self._clients.pop(client, (most, now))
        left = min(most, left + (now - last) * self._per_second)
        self._clients[client] = (left - 1 if left >= 1 else left, now)
        if len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        return left >= 1
