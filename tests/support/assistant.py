"""An assistant: the client of the MCP SDK, and a server in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, Tool


def command(library: Path, *options: object) -> list[str]:
    return [sys.executable, "-m", "r2tuning", "mcp", str(library), *map(str, options)]


@dataclass
class Assistant:
    """Calls tools."""

    portal: BlockingPortal
    client: Client
    progress: list[tuple[float, float | None]] = field(default_factory=list)
    """Of the last call."""

    def list_tools(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in self.portal.call(self.client.list_tools).tools}

    def do(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """What a function gives in the client's loop."""
        return self.portal.call(work)

    async def ask(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        self.progress = []

        async def note(done: float, expected: float | None, _: str | None) -> None:
            self.progress.append((done, expected))

        return await self.client.call_tool(tool, arguments, progress_callback=note)

    def call(self, tool: str, /, **arguments: Any) -> Any:
        """What a tool gives."""
        result = self.portal.call(self.ask, tool, arguments)
        assert not result.is_error, result.content
        return result.structured_content

    def refused(self, tool: str, /, *parts: str, **arguments: Any) -> str:
        """Checks that a call ends with an error of one line, and returns that."""
        result = self.portal.call(self.ask, tool, arguments)
        assert result.is_error, result.structured_content
        assert result.structured_content is None
        (content,) = result.content
        text = content.text
        assert text == " ".join(text.split()), text
        assert "Traceback" not in text
        for part in parts:
            assert part in text, text
        return text


@contextmanager
def assisted(errors: TextIO, library: Path, *options: object) -> Iterator[Assistant]:
    """A server for the block; what it writes to stderr goes to a file."""
    program, *arguments = command(library, *options)
    environment = {"OMP_NUM_THREADS": "1", **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}}
    parameters = StdioServerParameters(command=program, args=arguments, env=environment)
    with start_blocking_portal() as portal:
        client = Client(stdio_client(parameters, errlog=errors))
        with portal.wrap_async_context_manager(client):
            yield Assistant(portal, client)


def find_session(number: int) -> set[int]:
    """The processes of a session, which a server that leads one and all that it starts belong to."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == number and fields[0] != "Z":
            found.add(int(place.parent.name))
    return found


def launch(library: Path, *options: object) -> subprocess.Popen[str]:
    """A server without a client, as the leader of a session."""
    return subprocess.Popen(
        command(library, *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
