"""Hostile requests: each is refused in one problem document, and nothing is written or told."""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.server import API, Client, Reply, Server

from r2tuning import Library
from r2tuning.server import security

ID = "0123456789abcdef"

TRAVERSALS = (
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "..%252f..%252fetc%252fpasswd",
    "..%c0%af..%c0%afetc/passwd",
    "....//....//etc/passwd",
    "..\\..\\windows\\win.ini",
    "..%5c..%5cwindows%5cwin.ini",
    "%00",
    f"{ID}%00.mp4",
    f"{ID}/../../../etc/passwd",
    f"{ID}%2f..%2f..",
    "/etc/passwd",
    "//etc/passwd",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data",
    "%0d%0aSet-Cookie:%20a=b",
    "<script>alert(1)</script>",
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "'; DROP TABLE jobs; --",
    "%27%20OR%201=1",
    "{{7*7}}",
    "${jndi:ldap://evil}",
    "\u202egpj.exe",
    "a" * 5000,
    "0123456789ABCDEF",
    "-1",
    "0" * 16 + "\n",
    "%F0%9F%92%A9",
    "%ff%fe",
)

ADDRESSES = (
    ("GET", "/videos/{}"),
    ("DELETE", "/videos/{}"),
    ("GET", "/videos/{}/media"),
    ("GET", "/videos/{}/thumbnail"),
    ("GET", "/videos/{}/strip?start=0&end=1"),
    ("GET", "/videos/{}/preview"),
    ("GET", f"/videos/{ID}/preview/{{}}"),
    ("POST", "/videos/{}/ground"),
    ("POST", "/videos/{}/highlights"),
    ("POST", "/videos/{}/summary"),
    ("GET", "/jobs/{}"),
    ("GET", "/jobs/{}/result"),
    ("GET", "/jobs/{}/events"),
    ("POST", "/jobs/{}/cancel"),
    ("GET", "/{}"),
)

LEAKS = ("root:", "Traceback", 'File "', "/home/", "site-packages", "sqlite", "[fonts]")


@pytest.fixture(scope="module")
def secrets(base: Path) -> tuple[str, ...]:
    """What no answer may hold: where the server's files are."""
    return (str(base), *LEAKS)


@pytest.fixture(scope="module", autouse=True)
def untouched(base: Path, client: Client) -> Iterator[None]:
    """Nothing that is hostile leaves a file, or stops the server."""

    def look() -> set[str]:
        return {str(path) for path in base.rglob("*") if "sqlite" not in path.name and path.name != ".lock"}

    before = look()
    yield
    assert look() == before
    assert client.get("/library").status == 200


def refused(reply: Reply, secrets: tuple[str, ...], *statuses: int) -> None:
    """A problem document, of one of some statuses, that tells nothing."""
    reply.refused(reply.status)
    assert reply.status in (statuses or (400, 403, 404, 405, 409, 413, 414, 415, 422)), reply
    text = reply.content.decode() + str(reply.headers)
    for secret in secrets:
        assert secret not in text


def raw(path: str) -> str:
    """What can be sent as the path of a request: what cannot is written as bytes of UTF-8."""
    return quote(path, safe="/%\\<>'{}:;=?&$-.()*+,!~@[]|^`\"")


@pytest.mark.parametrize("text", TRAVERSALS, ids=range(len(TRAVERSALS)))
def test_ids_reach_nothing_else(client: Client, secrets: tuple[str, ...], text: str) -> None:
    for method, address in ADDRESSES:
        body = b'{"queries": ["a"]}' if method == "POST" else None
        reply = client.send(method, API + raw(address.format(text)), body, Content_Type="application/json")
        refused(reply, secrets)


@pytest.mark.parametrize("text", TRAVERSALS, ids=range(len(TRAVERSALS)))
def test_paths_and_names_reach_nothing_else(client: Client, secrets: tuple[str, ...], text: str) -> None:
    refused(client.post("/videos", {"path": text}), secrets)
    refused(client.upload(text, b"no video"), secrets)
    for path in (
        f"/videos?after={quote(text)}",
        f"/videos?limit={quote(text)}",
        f"/jobs?state={quote(text)}",
        f"/videos/{ID}/thumbnail?time={quote(text)}",
        f"/videos/{ID}/strip?start={quote(text)}&end=1",
    ):
        refused(client.get(path), secrets)
    for asked in ({"video": text, "start": 0, "end": 1}, {"video": ID, "start": text, "end": 1}):
        refused(client.post("/search", {"like": asked}), secrets)
        refused(client.post("/export", {"format": "srt", "moments": [asked]}), secrets)
    refused(client.post("/export", {"format": text, "moments": [{"video": ID, "start": 0, "end": 1}]}), secrets)


@pytest.mark.parametrize(
    "query",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "'; DROP TABLE files; --",
        "=HYPERLINK(1)",
        "\u202e\u0000\x1b[31m",
        "a\r\nSet-Cookie: b=c",
        "\U0001f4a9" * 200,
        "\ud800",
        "{{7*7}} ${7*7}",
    ],
)
def test_queries_are_only_text(client: Client, ids: dict[str, str], query: str) -> None:
    """They come back as JSON, which no browser takes for a page."""
    reply = client.post("/search", {"queries": [query]})
    assert reply.status in (200, 422)
    assert reply.kind in ("application/json", "application/problem+json")
    assert "set-cookie" not in reply.headers
    if reply.status == 200:
        assert reply.json["searches"][0]["query"] == query
    reply = client.post("/search", {"queries": ["a"], "within": query})
    assert reply.status in (200, 422)
    moment = {"video": next(iter(ids.values())), "query": query, "start": 0, "end": 1}
    reply = client.post("/export", {"format": "csv", "moments": [moment]})
    assert reply.status in (200, 422)
    if reply.status == 200:
        assert reply.headers["content-disposition"] == "attachment; filename*=utf-8''moments.csv"
        assert ",=HYPERLINK" not in reply.content.decode()


BODIES: dict[str, Any] = {
    "nothing": b"",
    "no JSON": b"{",
    "a number": b"1",
    "a list": b"[]",
    "null": b"null",
    "not UTF-8": b'{"queries": ["\xff\xfe"]}',
    "nested": b'{"queries": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a long number": b'{"queries": ["a"], "top": ' + b"9" * 100_000 + b"}",
    "NaN": b'{"queries": ["a"], "threshold": NaN}',
    "infinity": b'{"queries": ["a"], "min_duration": Infinity}',
    "a huge date": b'{"queries": ["a"], "since": 1e300}',
    "an old date": b'{"queries": ["a"], "since": "-292277022657-01-27T08:29:52Z"}',
    "many queries": json.dumps({"queries": ["a"] * 21}).encode(),
    "a long query": json.dumps({"queries": ["a" * 1001]}).encode(),
    "another type": b'{"queries": "a"}',
    "twice": b'{"queries": ["a"], "queries": 1}',
    "a large body": b'{"queries": ["' + b"a" * 2**20 + b'"]}',
    "a bomb": json.dumps({"image": "iVBORw0KGgo" + "A" * 10_000}).encode(),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_checked(client: Client, secrets: tuple[str, ...], name: str) -> None:
    body = BODIES[name]
    refused(client.send("POST", f"{API}/search", body, Content_Type="application/json"), secrets)
    refused(client.send("POST", f"{API}/export", body, Content_Type="application/json"), secrets)
    refused(client.send("POST", f"{API}/videos", body, Content_Type="application/json"), secrets)


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=999999999-",
        "bytes=99999999999999999999999-",
        "lines=0-1",
        "bytes=0-0," * 5000,
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 3000, 2)),
        "bytes=0-1,abc",
        "bytes=--5",
        "bytes=0x0-0x5",
    ],
)
def test_wrong_ranges_are_refused_or_ignored(
    client: Client, secrets: tuple[str, ...], ids: dict[str, str], shapes: dict[Path, Any], asked: str
) -> None:
    """Either a problem, or not more bytes than the file has."""
    name, video = next(iter(ids.items()))
    (path,) = [path for path in shapes if path.name == Path(name).name]
    begin = time.monotonic()
    reply = client.get(f"/videos/{video}/media", Range=asked)
    assert time.monotonic() - begin < 30
    if reply.status >= 400:
        refused(reply, secrets, 400, 416, 431)
    else:
        assert len(reply.content) <= path.stat().st_size + 200 * 1000


def test_ranges_are_the_bytes_of_the_file(client: Client, ids: dict[str, str], shapes: dict[Path, Any]) -> None:
    name, video = next(iter(ids.items()))
    (path,) = [path for path in shapes if path.name == Path(name).name]
    content = path.read_bytes()
    for asked, begin, end in (("0-", 0, None), ("10-19", 10, 20), ("-7", -7, None), (f"{len(content) - 1}-", -1, None)):
        reply = client.get(f"/videos/{video}/media", Range=f"bytes={asked}")
        assert (reply.status, reply.kind) == (206, "video/mp4")
        assert reply.content == content[begin:end]
    reply = client.get(f"/videos/{video}/media")
    assert (reply.status, reply.content, reply.headers["accept-ranges"]) == (200, content, "bytes")
    reply = client.get(f"/videos/{video}/media", Range=f"bytes={len(content)}-")
    reply.refused(416, "is not in the file")
    assert reply.headers["content-range"] == f"bytes */{len(content)}"


def send_raw(server: Server, request: bytes) -> bytes:
    """What the server answers to bytes that no client would send."""
    with socket.create_connection(("127.0.0.1", server.client.port), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while block := connection.recv(65536):
                answer += block
        except ConnectionResetError:
            pass
        return answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET http://evil.example/health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 1000,
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=range(16),
)
def test_what_is_no_request_is_refused(server: Server, secrets: tuple[str, ...], request_bytes: bytes) -> None:
    answer = send_raw(server, request_bytes)
    if answer:
        status = int(answer.split()[1])
        assert 400 <= status < 600
        assert status not in (500, 502)
        for secret in secrets:
            assert secret.encode() not in answer


def test_a_slow_upload_ends_and_leaves_nothing(filled: Library, server: Server) -> None:
    """Several clients that send nothing more do not keep others from asking; when they go, their files go."""
    uploads = filled.folder / "uploads"
    head = (
        b"POST /api/v1/uploads?name=a.mp4 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-secret-token\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n"
    )
    slow = [socket.create_connection(("127.0.0.1", server.client.port)) for _ in range(4)]
    for connection in slow:
        connection.sendall(head + b"\0\0\0\x20ftyp")
    end = time.monotonic() + 60
    while len(os.listdir(uploads)) < 4:  # noqa: PTH208
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.client.get("/library").status == 200
    server.client.upload("b.mp4", b"x").refused(429, "4 videos are being uploaded")
    for connection in slow:
        connection.close()
    while os.listdir(uploads):  # noqa: PTH208
        assert time.monotonic() < end
        time.sleep(0.05)
    assert security.SLOWEST < 60
