"""What tells that the service lives: /, /healthz, /readyz, open to anyone and the same everywhere; and /metrics."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from resurgam.api.call import runtime_of
from resurgam.api.errors import Answer
from resurgam.api.metrics import CONTENT_TYPE, render
from resurgam.api.routing import Operation, Routes
from resurgam.api.runtime import slowly
from resurgam.api.schemas import Alive, Ready, Root
from resurgam.errors import ResurgamError


async def root() -> Answer:
    """The service lives."""
    return Answer({"service": "resurgam", "status": "running"})


async def healthz() -> Answer:
    """The process answers; it is to be restarted only if it does not."""
    return Answer({"status": "ok"})


async def readyz(request: Request) -> Answer:
    """Whether requests can be answered as they should: 503 with reasons if not."""
    runtime = runtime_of(request)
    try:
        await runtime.ready()
    except ResurgamError:
        return _ready(("The service could not start.",))
    return _ready(await slowly(runtime.unready))


def metrics(request: Request) -> Response:
    """Health and history as Prometheus reads them."""
    return Response(render(runtime_of(request).service.health()), media_type=CONTENT_TYPE)


def add_system(routes: Routes) -> None:
    """The service's own routes, which a host application does not get: it has its own."""
    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
    unready: dict[int | str, dict[str, Any]] = {503: {"model": Ready, "description": "Not ready, and why"}}
    routes.add("GET", "/", root, Operation("getRoot", "system", None, Root))
    routes.add("GET", "/healthz", healthz, Operation("getHealthz", "system", None, Alive))
    routes.add("GET", "/readyz", readyz, Operation("getReadyz", "system", None, Ready, responses=unready))
    routes.add("GET", "/metrics", metrics, Operation("getMetrics", "system", "viewer", None, responses=text))


def _ready(reasons: tuple[str, ...]) -> Answer:
    body = {"status": "not ready" if reasons else "ready", "reasons": list(reasons)}
    return Answer(body, 503 if reasons else 200)
