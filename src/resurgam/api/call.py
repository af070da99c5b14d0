"""What is known of a request on its way through the routes; apart from `request.state`, which is a host's as well."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from pydantic import BaseModel

from resurgam.api.auth import Caller
from resurgam.api.runtime import Runtime

_KEY = "resurgam.call"


@dataclass(slots=True)
class Call:
    """One request: who calls (None until that is known), the body that was read, the job that was started."""

    runtime: Runtime
    caller: Caller | None = None
    body: BaseModel | None = None
    job_id: int | None = None


def begin_call(request: Request, runtime: Runtime) -> Call:
    """The route's first act."""
    call = request.scope[_KEY] = Call(runtime)
    return call


def call_of(request: Request) -> Call:
    """What is known of a request to one of our routes."""
    call = request.scope[_KEY]
    assert isinstance(call, Call)
    return call


def runtime_of(request: Request) -> Runtime:
    """The runtime of the router that the route is in."""
    return call_of(request).runtime


def caller_of(request: Request) -> Caller:
    """The caller, of a route that has let somebody pass."""
    caller = call_of(request).caller
    assert caller is not None
    return caller
