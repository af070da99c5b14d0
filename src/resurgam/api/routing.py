"""How every route is made: its role, its place in the audit log, its errors, its entry in the OpenAPI document.

The routes' class answers errors itself rather than by the application's handlers, so that they read the same within a
host application.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from resurgam.api.access import Identify, permitted
from resurgam.api.audited import Outcomes, accepted
from resurgam.api.call import begin_call, call_of
from resurgam.api.errors import Answer, Refusal, error_answer, internal, refusal_of
from resurgam.api.requests import body_of, body_schema
from resurgam.api.runtime import Runtime
from resurgam.api.schemas import Error
from resurgam.catalog.roles import Role
from resurgam.errors import ResurgamError

_ERRORS = {
    401: "No credential, or none that counts",
    403: "The caller's role may not do this",
    404: "There is no such backup or job",
    409: "Another run is at work; nothing was done",
    416: "The range lies outside the file",
    422: "The request, or the backup it names, is not sound; nothing was done",
    500: "It failed; the message says what is untouched",
    503: "Not possible at present: disabled, or the service can't work",
}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """What is told of a route beside its path and its function. `action`: its name in the audit log, "" for none."""

    id: str
    tag: str
    role: Role | None
    model: Any
    errors: Sequence[int] = ()
    action: str = ""
    body: type[BaseModel] | None = None
    extra: dict[str, Any] | None = None
    responses: Mapping[int | str, dict[str, Any]] | None = None


class Routes:
    """Makes the routes of one router."""

    def __init__(self, runtime: Runtime, identified: Identify, *, guest: bool) -> None:
        """`guest`: within a host application, whose own errors are its own to answer."""
        self._runtime, self._identified = runtime, identified
        self._actions: dict[str, str] = {}
        self.router = APIRouter(route_class=_route_class(runtime, self._actions, guest=guest))

    def add(self, method: str, path: str, endpoint: Callable[..., Any], operation: Operation) -> None:
        """Add one; the endpoint's docstring is its description."""
        dependencies = []
        extra: dict[str, Any] = dict(operation.extra or {})
        if operation.role is None:
            extra["security"] = []
        else:
            dependencies.append(Depends(permitted(self._identified, operation.role)))
            extra["x-resurgam-role"] = operation.role
        if operation.body is not None:
            dependencies.append(Depends(body_of(operation.body)))
            extra["requestBody"] = body_schema(operation.body)
        if operation.action:
            self._actions[operation.id] = operation.action
            dependencies.append(Depends(accepted(self._runtime, operation.action)))
        codes = {*operation.errors, *((401, 403, 500, 503) if operation.role else ())}
        errors: dict[int | str, dict[str, Any]] = {
            code: {"model": Error, "description": _ERRORS[code]} for code in sorted(codes)
        }
        # HEAD is answered as GET, without the body: probes and download managers ask so. The document has GET alone.
        for asked in (method, "HEAD") if method == "GET" else (method,):
            self.router.add_api_route(
                path,
                endpoint,
                methods=[asked],
                include_in_schema=asked == method,
                operation_id=operation.id,
                tags=[operation.tag],
                response_model=operation.model,
                # Without a model it is no JSON, and `responses` say what it is.
                response_class=Answer if operation.model is not None else Response,
                responses={**errors, **(operation.responses or {})},
                dependencies=dependencies,
                openapi_extra=extra,
            )


def _route_class(runtime: Runtime, actions: dict[str, str], *, guest: bool) -> type[APIRoute]:
    outcomes = Outcomes(runtime, runtime.service.clock)

    class BackupRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()
            action = actions.get(self.operation_id or "", "")

            async def guarded(request: Request) -> Response:
                begin_call(request, runtime)
                code = ""
                error: Exception | None = None
                try:
                    response = await _answered(request, handle, runtime, guest=guest)
                except Refusal as refusal:
                    code, response = refusal.code, error_answer(refusal)
                except _OfTheHost as host:  # it answers, and the audit log has it
                    code, error, response = host.code, host.raised, Response(status_code=host.status)
                if action and runtime.started:
                    await outcomes.note(request, action, response.status_code, code)
                if error is not None:
                    raise error
                response.headers.setdefault("Cache-Control", "no-store")
                return response

            return guarded

    return BackupRoute


async def _answered(request: Request, handle: Handler, runtime: Runtime, *, guest: bool) -> Response:
    """The handler's answer. Refusal, or _OfTheHost, for whatever else comes out of it."""
    try:
        await _ready(runtime, request)
        return await handle(request)
    except (ResurgamError, RequestValidationError) as error:
        raise refusal_of(error) from error
    except Refusal:
        raise
    except HTTPException as raised:
        raise _OfTheHost(raised) from raised
    except Exception as raised:
        if guest and call_of(request).caller is None:
            raise _OfTheHost(raised) from raised
        _log_bug(runtime, request, raised)
        raise internal() from raised


class _OfTheHost(Exception):
    """A host's own refusal. Which status it gives to an exception that is no HTTPException, only its handler knows."""

    def __init__(self, raised: Exception) -> None:
        super().__init__()
        self.raised = raised
        self.status, self.code = 403, type(raised).__name__
        if isinstance(raised, HTTPException):
            self.status, self.code = raised.status_code, f"http_{raised.status_code}"


async def _ready(runtime: Runtime, request: Request) -> None:
    if runtime.started or request.url.path in ("/", "/healthz", "/readyz"):
        return
    try:
        await runtime.ready()
    except ResurgamError as error:
        raise Refusal(503, error.code, error.message, error.hint) from error


def _log_bug(runtime: Runtime, request: Request, raised: Exception) -> None:
    # The route's own path: what the client wrote in its place may be anything.
    route = getattr(request.scope.get("route"), "path", "")
    runtime.log.error(f"{request.method} {route}: internal error: {type(raised).__name__}: {raised}")
    for part in traceback.format_exception(raised):
        for line in part.splitlines():
            runtime.log.info(f"  {line}")
