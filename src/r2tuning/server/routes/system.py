"""The server itself: whether it runs and is ready, its models, and sessions of browsers."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from r2tuning.checkpoints.published import DEMO, DEMO_FPS, PUBLISHED, demo_size
from r2tuning.server.schemas import HealthOut, ModelOut, ModelsOut, ReadyOut
from r2tuning.server.security import make_session, name_cookie
from r2tuning.server.served import ServedNow

router = APIRouter(tags=["system"])
public = APIRouter(tags=["system"])
"""What everybody may ask."""


@public.get("/health")
async def health() -> HealthOut:
    """Says that the server runs."""
    return HealthOut()


@public.get("/ready", responses={503: {"model": ReadyOut}})
async def ready(served: ServedNow) -> Response:
    """Says whether the model is loaded, with 503 if it is not."""
    state = ReadyOut(ready=served.answers.ready, waiting=served.answers.waiting, problem=served.answers.problem)
    state = state.model_copy(update={"problem": served.collection.hide(state.problem)})
    return JSONResponse(state.model_dump(), 200 if state.ready else 503)


@router.post("/session", status_code=204)
async def open_session(served: ServedNow, request: Request) -> Response:
    """Sets a cookie that stands for the token, for pictures and videos, which send no header."""
    response = Response(status_code=204)
    if served.settings.token:
        response.set_cookie(
            name_cookie(request.scope),
            make_session(served.settings.token),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
    return response


@router.get("/models")
def list_models(served: ServedNow) -> ModelsOut:
    """The named models."""
    made = served.collection.read().generation
    current = "" if made is None else made.facts.model
    models = [
        ModelOut(name=DEMO, task="moments", fps=DEMO_FPS, bytes=demo_size(), cached=True, current=current == DEMO)
    ]
    for entry in PUBLISHED:
        models.append(  # noqa: PERF401  (as above)
            ModelOut(
                name=entry.name,
                task="moments" if entry.family == "grounding" else "saliency",
                fps=entry.fps,
                bytes=entry.approximate_size,
                cached=entry.is_cached,
                current=current == entry.name,
            )
        )
    if current and not any(model.current for model in models):
        assert made is not None
        models.append(
            ModelOut(name=Path(current).name, task="moments", fps=made.facts.fps, bytes=0, cached=True, current=True)
        )
    return ModelsOut(models=models)
