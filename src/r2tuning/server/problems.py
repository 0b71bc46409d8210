"""Errors as problem documents (RFC 9457), with the texts of the command line."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from http.client import responses
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteException
from starlette.responses import JSONResponse, Response

from r2tuning.errors import (
    BackboneError,
    BusyError,
    CheckpointError,
    DataError,
    DownloadError,
    FeatureError,
    LibraryError,
    MissingError,
    OutputError,
    QueryError,
    R2TuningError,
    RequestError,
    VideoError,
    show_on_one_line,
)
from r2tuning.server.settings import API

MEDIA_TYPE = "application/problem+json"

RETRY_SECONDS = 2
"""After which a client that was refused may ask again."""

_STATUS: Mapping[type[R2TuningError], int] = {
    QueryError: 422,
    VideoError: 422,
    DataError: 422,
    OutputError: 422,
    LibraryError: 409,
    FeatureError: 409,
    CheckpointError: 500,
    BackboneError: 500,
    DownloadError: 502,
    RequestError: 422,
    MissingError: 404,
    BusyError: 429,
}


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    type: str = Field("about:blank", description="Always about:blank: the status says what kind of problem it is.")
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(
        description="One line: the thing, the wrong value, what to do.", examples=["video 12: not found"]
    )


class Refused(HTTPException):
    """Ends a request with a problem document.

    Args:
        status: Of HTTP.
        detail: One line: the thing, the wrong value, what to do next.
        retry_after: Seconds after which the client may ask again.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(status, detail, None if retry_after is None else {"Retry-After": str(retry_after)})


class Busy(Refused):
    """Too many wait already."""

    def __init__(self, what: str) -> None:
        super().__init__(429, f"{what}; ask again in {RETRY_SECONDS} seconds", RETRY_SECONDS)


def find_status(error: R2TuningError) -> int:
    """The status of HTTP for an error."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def make_problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a problem document."""
    title = responses.get(status, "Problem")
    problem = Problem(type="about:blank", title=title, status=status, detail=show_on_one_line(detail, 1000))
    return JSONResponse(problem.model_dump(), status, dict(headers or {}), MEDIA_TYPE)


def refuse(error: HTTPException) -> Response:
    """The response that an exception of HTTP asks for."""
    return make_problem(error.status_code, str(error.detail), error.headers)


def describe_invalid(errors: list[Any]) -> str:
    """The first wrong field of a request, in one line.

    Example:
        >>> describe_invalid([{"loc": ("body", "top"), "msg": "Input should be less than 10", "input": 11}])
        'body.top: Input should be less than 10, not 11; correct the request'
    """
    first = errors[0]
    place = ".".join(map(str, first.get("loc", ()))) or "request"
    value = first.get("input")
    given = f", not {value!r}" if isinstance(value, (str, int, float, bool)) else ""
    return show_on_one_line(f"{place}: {first.get('msg', 'is wrong')}{given}; correct the request", 300)


def add_handlers(app: FastAPI, hide: Callable[[str], str]) -> None:
    """Makes every error of an app a problem document; ``hide`` takes paths of the server out of texts."""

    async def on_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, R2TuningError)
        status = find_status(error)
        return make_problem(status, hide(str(error)), {"Retry-After": str(RETRY_SECONDS)} if status == 429 else None)

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return make_problem(422, describe_invalid(list(error.errors())))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteException)
        if error.detail == "Not Found":
            return make_problem(404, f"no such address; GET {API}/openapi.json lists all")
        if error.detail == "Method Not Allowed":
            methods = ", ".join(find_methods(app, request.url.path)) or "GET, HEAD"  # the latter of the page's files
            return make_problem(405, f"this address takes {methods}", {"Allow": methods})
        return make_problem(error.status_code, hide(str(error.detail)), error.headers)

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        R2TuningError: on_error,
        RequestValidationError: on_invalid,
        StarletteException: on_http,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def find_methods(app: FastAPI, path: str) -> list[str]:
    """The methods that an address of the API takes."""
    templates = app.openapi()["paths"]
    return sorted(
        method.upper()
        for template, item in templates.items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        for method in item
    )
