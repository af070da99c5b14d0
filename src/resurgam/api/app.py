"""Our own application: the routes with our own authentication, and the service's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from resurgam import __version__
from resurgam.api.access import by_token
from resurgam.api.errors import http_answer
from resurgam.api.router import backup_routes
from resurgam.api.runtime import Runtime
from resurgam.api.system import add_system
from resurgam.service import Service

_DESCRIPTION = (
    "Backups that prove they can be restored. Every call but `/`, `/healthz`, `/readyz` and `/openapi.json` needs a "
    "token as `Authorization: Bearer TOKEN`: a viewer's for reading, an operator's to back up and verify too, an "
    "admin's for everything. Whatever goes wrong has one body: `code`, `message`, `hint`."
)


def create_app(service: Service, environ: Mapping[str, str]) -> FastAPI:
    """The application. `environ` is what its jobs' processes take the settings from."""
    return app_of(Runtime(service, environ))


def app_of(runtime: Runtime) -> FastAPI:
    """The application on a runtime that its maker may stop earlier than the lifespan does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with runtime.running(strict=True):
            yield

    app = FastAPI(
        title="Resurgam",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    routes = backup_routes(runtime, by_token(lambda: runtime.authenticator), guest=False)
    add_system(routes)
    app.include_router(routes.router)
    app.add_exception_handler(HTTPException, _answer_http)
    return app


async def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return http_answer(error)
