"""A real server in a process of its own, and a client that sends whatever a test wants."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

API = "/api/v1"
PATIENCE = 120.0
"""Seconds after which a test fails rather than waits."""


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    def check(self, status: int) -> Any:
        """The JSON of an answer that must have a status."""
        assert self.status == status, (self.status, self.content[:500])
        return self.json if self.content else None

    def refused(self, status: int, *parts: str) -> None:
        """Checks that this is a problem document, in one line, with some texts."""
        assert (self.status, self.kind) == (status, "application/problem+json"), (self.status, self.content[:500])
        problem = self.json
        assert problem.keys() == {"type", "title", "status", "detail"}
        assert problem["status"] == status
        assert problem["detail"] == " ".join(problem["detail"].split())
        for part in parts:
            assert part in problem["detail"]


@dataclass
class Client:
    """Asks a server."""

    host: str
    port: int
    token: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, **headers: str | None) -> Reply:
        """Sends a request as it is; headers are named with underscores, and None leaves one out."""
        every: dict[str, str | None] = {"Authorization": f"Bearer {self.token}" if self.token else None}
        every |= self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        # From many addresses, so that no test asks too often.
        source = f"127.0.{random.randrange(256)}.{random.randrange(1, 255)}"
        connection = HTTPConnection(self.host, self.port, timeout=PATIENCE, source_address=(source, 0))
        try:
            connection.putrequest(method, path, skip_host="Host" in every, skip_accept_encoding=True)
            for name, value in every.items():
                if value is not None:
                    connection.putheader(name, value)
            if isinstance(body, bytes) and "Content-Length" not in every:
                connection.putheader("Content-Length", str(len(body)))
            elif body is not None and not isinstance(body, bytes):
                connection.putheader("Transfer-Encoding", "chunked")
            with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read everything
                connection.endheaders(body, encode_chunked=not isinstance(body, bytes))
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str | None) -> Reply:
        return self.send("GET", API + path, **headers)

    def post(self, path: str, body: object = None, **headers: str | None) -> Reply:
        content = b"" if body is None else json.dumps(body).encode()
        return self.send("POST", API + path, content, **({"Content_Type": "application/json"} | headers))

    def upload(self, name: str, content: bytes) -> Reply:
        path = f"{API}/uploads?name={quote(name)}"
        return self.send("POST", path, content, Content_Type="application/octet-stream")

    def follow(self, job: str) -> Iterator[tuple[str, Any]]:
        """The events of a job."""
        connection = HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request("GET", f"{API}/jobs/{job}/events", headers=headers)
            answer = connection.getresponse()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield from _read_events(answer)
        finally:
            connection.close()

    def wait(self, job: str) -> Any:
        """A job when it is over."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = self.get(f"/jobs/{job}").check(200)
            if found["state"] in ("done", "failed", "cancelled"):
                return found
            time.sleep(0.1)
        raise AssertionError(f"job {job} goes on: {found}")

    def do(self, path: str, body: object = None) -> Any:
        """Submits a job, and waits until it is done."""
        job = self.wait(self.post(path, body).check(202)["id"])
        assert (job["state"], job["error"]) == ("done", "")
        return job

    def wait_until_ready(self) -> None:
        end = time.monotonic() + PATIENCE
        while self.send("GET", "/ready").status != 200:
            assert time.monotonic() < end
            time.sleep(0.1)


def _read_events(answer: HTTPResponse) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in answer:
        if line.startswith(b"event: "):
            name = line.decode().removeprefix("event: ").strip()
        elif line.startswith(b"data: "):
            yield name, json.loads(line.removeprefix(b"data: "))


@dataclass
class Server:
    """A server that runs, and who asks it."""

    process: subprocess.Popen[str]
    client: Client
    address: str

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Ends it by a signal; returns its exit code and what it wrote to stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


def launch(library: Path, *options: object) -> Server:
    """Starts a server for a library on a free port."""
    command = [sys.executable, "-m", "r2tuning", "serve", str(library), "--port", "0", *map(str, options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    address = line.rpartition(": ")[2].strip()
    parts = urlsplit(address)
    assert parts.port is not None
    client = Client("127.0.0.1", parts.port, parts.fragment.removeprefix("token="))
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(ConnectionRefusedError):
            if client.send("GET", "/health").status == 200:
                return Server(process, client, address)
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def running(library: Path, *options: object) -> Iterator[Server]:
    """A server that is ended after the block; it must not have written a traceback."""
    server = launch(library, *options)
    try:
        yield server
    except BaseException:
        server.process.kill()
        print(server.process.communicate()[1], file=sys.stderr)
        raise
    if server.process.poll() is None:
        code, errors = server.stop()
        assert code == 128 + signal.SIGTERM, errors
        assert "Traceback" not in errors, errors
