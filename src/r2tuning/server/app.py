"""The app: routes, the guard in front of them, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from r2tuning import __version__
from r2tuning.server.problems import MEDIA_TYPE, Problem, add_handlers
from r2tuning.server.routes import exports, jobs, library, media, questions, system
from r2tuning.server.security import Guard
from r2tuning.server.served import Served
from r2tuning.server.settings import API

PAGE = Path(__file__).with_name("page")
"""The page's files, which everybody may get: they hold nothing of the library."""

SHARED = Path(__file__).parents[1] / "assets" / "shared"
"""What the page shares with the report."""


class PageFiles(StaticFiles):
    """Files of the page; a browser asks each time whether they have changed, as they do with an upgrade."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, or that it has not changed."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


class PageMount(Mount):
    """Everything but the addresses of the API, which answer wrong methods and names themselves."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for the page."""
        return (Match.NONE, {}) if scope["path"].startswith(f"{API}/") else super().matches(scope)


def create_app(served: Served) -> FastAPI:
    """The app that serves a library; its processes start and end with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await served.start()
        try:
            yield
        finally:
            await served.stop()

    app = FastAPI(
        title="r2tuning",
        version=__version__,
        summary="Find moments in a library of videos with a sentence.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.served = served
    add_handlers(app, served.collection.hide)
    for module in (library, questions, jobs, media, exports, system):
        app.include_router(module.router, prefix=API)
    app.include_router(system.public)
    app.mount("/shared", PageFiles(directory=SHARED), name="shared")
    app.router.routes.append(PageMount("/", PageFiles(directory=PAGE, html=True), name="page"))
    app.add_middleware(Guard, settings=served.settings)
    describe_problems(app, needs_token=bool(served.settings.token))
    return app


def describe_problems(app: FastAPI, *, needs_token: bool) -> None:
    """Says in the OpenAPI document that every address answers with a problem document if it does not do as asked."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = make()
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = Problem.model_json_schema()
        problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if needs_token:
            document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, item in document["paths"].items():
            for operation in item.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = {"description": "A problem", "content": problem}
                if needs_token and path.startswith(API):
                    operation["security"] = [{"token": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
