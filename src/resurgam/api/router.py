"""The routes as one router, for our own application and for a host's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter

from resurgam.api.access import Identify, by_host
from resurgam.api.archives import add_archives
from resurgam.api.backups import add_collection, add_named
from resurgam.api.jobs import add_jobs
from resurgam.api.routing import Routes
from resurgam.api.runtime import Runtime
from resurgam.api.undo import add_undo
from resurgam.service import Service


def create_backup_router(admin: Callable[..., Any], *, environ: Mapping[str, str] | None = None) -> APIRouter:
    """The backup routes for a FastAPI application: `app.include_router(create_backup_router(...))`.

    `admin` is a dependency of that application that lets its admins pass and raises its own HTTPException for others;
    what it returns becomes the actor in the audit log (its `username`, `["sub"]`, or text). The settings come from
    `environ`, by default the process's. SettingsError names everything that is wrong with them.

    Jobs and schedule start and stop with the application, or start with the first request where its lifespan is not
    the router's too.
    """
    environment = dict(os.environ if environ is None else environ)
    runtime = Runtime(Service.from_environment(environment), environment, tokens=False)
    router = backup_routes(runtime, by_host(admin), guest=True).router
    router.lifespan_context = _lifespan(runtime)
    return router


def backup_routes(runtime: Runtime, identified: Identify, *, guest: bool) -> Routes:
    """Everything below /api."""
    routes = Routes(runtime, identified, guest=guest)
    add_collection(routes)
    add_undo(routes)
    add_jobs(routes)
    add_archives(routes)
    add_named(routes)
    return routes


def _lifespan(runtime: Runtime) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with runtime.running(strict=False):
            yield

    return lifespan
