"""The tools over the Model Context Protocol, on stdin and stdout."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import BaseModel, ValidationError

from r2tuning import __version__
from r2tuning.errors import R2TuningError, show_on_one_line
from r2tuning.server.long_tasks import Report
from r2tuning.server.problems import Refused, describe_invalid
from r2tuning.server.schemas import Asked
from r2tuning.server.tool_schemas import (
    ClipOut,
    CutClipIn,
    DescribeVideoIn,
    DescribeVideoOut,
    FindMomentsIn,
    FindMomentsOut,
    SearchLibraryIn,
    SearchLibraryOut,
)
from r2tuning.server.tools import Tools, describe_error

INSTRUCTIONS = (
    "Finds moments in the user's own videos, which stay on this machine. Search the library with a sentence, or look "
    "into one video; then cut out what was found. Times are seconds on the player's clock."
)

Do = Callable[[Any, Report], Awaitable[BaseModel]]


@dataclass(frozen=True)
class Offer:
    """A tool as it is offered: its title, what it takes and gives, and whether it writes files."""

    title: str
    takes: type[Asked]
    gives: type[BaseModel]
    do: Do
    writes: bool = False

    def describe(self) -> Tool:
        """The tool as the protocol has it."""
        return Tool(
            name=self.do.__name__,
            title=self.title,
            description="\n".join(line.strip() for line in (self.do.__doc__ or "").strip().splitlines()),
            input_schema=self.takes.model_json_schema(),
            output_schema=self.gives.model_json_schema(mode="serialization"),
            annotations=ToolAnnotations(
                read_only_hint=not self.writes,
                destructive_hint=False,
                idempotent_hint=not self.writes,
                open_world_hint=False,
            ),
        )


def list_offers(tools: Tools) -> dict[str, Offer]:
    """The tools by name."""
    offers = (
        Offer("Search the library", SearchLibraryIn, SearchLibraryOut, tools.search_library),
        Offer("Find moments in a video", FindMomentsIn, FindMomentsOut, tools.find_moments),
        Offer("Describe a video", DescribeVideoIn, DescribeVideoOut, tools.describe_video),
        Offer("Cut a clip", CutClipIn, ClipOut, tools.cut_clip, writes=True),
    )
    return {offer.do.__name__: offer for offer in offers}


def make_server(tools: Tools) -> Server[Any]:
    """A server of the protocol that offers the tools."""
    offers = list_offers(tools)

    async def on_list(_: ServerRequestContext[Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[offer.describe() for offer in offers.values()])

    async def on_call(context: ServerRequestContext[Any], asked: CallToolRequestParams) -> CallToolResult:
        offer = offers.get(asked.name)
        if offer is None:
            known = ", ".join(offers)
            raise MCPError(INVALID_PARAMS, show_on_one_line(f"{asked.name}: is no tool; there are {known}", 300))

        before = told = 0

        async def report(done: int, expected: int | None) -> None:
            nonlocal before, told
            if before + done <= told:  # another step has begun, but what is told must grow
                before = told
            told = before + done
            await context.session.report_progress(told, None if expected is None else before + expected)

        given = await attempt(offer, asked.arguments or {}, report)
        if isinstance(given, str):
            shown = show_on_one_line(tools.hide(given), 1000)
            return CallToolResult(content=[TextContent(text=shown)], is_error=True)
        text = TextContent(text=given.model_dump_json())
        return CallToolResult(content=[text], structured_content=given.model_dump(mode="json"))

    return Server(
        "r2tuning",
        version=__version__,
        title="r2tuning",
        instructions=INSTRUCTIONS,
        on_list_tools=on_list,
        on_call_tool=on_call,
    )


async def attempt(offer: Offer, arguments: dict[str, Any], report: Report) -> BaseModel | str:
    """What a tool gives, or why it cannot."""
    try:
        return await offer.do(offer.takes.model_validate(arguments), report)
    except ValidationError as error:
        return describe_invalid(list(error.errors()))
    except (R2TuningError, Refused) as error:
        return describe_error(error)
    except Exception:
        logging.getLogger(__name__).exception("%s failed", offer.do.__name__)
        return "the server failed; its log says why"


def serve_stdio(tools: Tools) -> None:
    """Answers the client at stdin until it goes away, or a signal ends the process.

    Raises:
        BrokenPipeError: If the client does not read any more.
    """
    asyncio.run(_serve(tools))


async def _serve(tools: Tools) -> None:
    server = make_server(tools)
    leaving: set[asyncio.Task[None]] = set()
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        with suppress(NotImplementedError):  # Windows
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(number, lambda n: leaving.add(asyncio.create_task(_leave(tools, n))), number)
    try:
        async with stdio_server() as (messages, answers):
            await server.run(messages, answers, server.create_initialization_options())
    except Exception as error:
        if not _is_broken_pipe(error):
            raise
        raise BrokenPipeError from None
    finally:
        await tools.stop()


def _is_broken_pipe(error: BaseException) -> bool:
    """Whether an error, or each of a group of errors, says that nobody reads stdout any more."""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return all(map(_is_broken_pipe, inner)) if inner else isinstance(error, BrokenPipeError)


async def _leave(tools: Tools, number: int) -> None:
    """Ends the process by a signal. A thread waits for the client's next line and cannot be ended otherwise."""
    await tools.stop()
    if number == signal.SIGINT:
        sys.stderr.write("stopped\n")
    sys.stderr.flush()
    os._exit(128 + number)
