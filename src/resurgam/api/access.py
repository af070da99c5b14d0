"""Who calls, and what a route asks of them.

A route names the least role it needs, and `Access` makes the dependencies of it: the caller is known, the caller may,
and, where something is changed, the audit log has it before anything is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from resurgam.api.auth import Caller
from resurgam.api.call import call_of, caller_of
from resurgam.catalog.roles import Role, covers
from resurgam.errors import ForbiddenError

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="A token made by `resurgam token create`, or a JWT of the application that the settings name.",
)


class Authenticates(Protocol):
    """Finds out who calls."""

    async def authenticate(self, authorization: str | None, address: str) -> Caller:
        """The caller by the Authorization header. AuthError if it is missing or does not count."""


Identify = Callable[..., Any]


def by_token(authenticator: Callable[[], Authenticates]) -> Identify:
    """The caller by our own tokens, or the configured JWTs."""

    # Only for the OpenAPI document: the header is judged by the authenticator alone.
    declared = Security(_BEARER)

    async def identified(request: Request, _: Any = declared) -> None:
        shown = request.headers.get("authorization")
        call_of(request).caller = await authenticator().authenticate(shown, address_of(request))

    return identified


def by_host(admin: Callable[..., Any]) -> Identify:
    """The caller by the host application's own dependency: whoever passes it is an admin."""

    given = Depends(admin)

    async def identified(request: Request, user: Any = given) -> None:
        call_of(request).caller = Caller(_name_of(user), "admin")

    return identified


def permitted(identified: Identify, role: Role) -> Callable[..., Any]:
    """A dependency that lets those pass who have that role. ForbiddenError for others."""

    async def permits(request: Request, _: None = Depends(identified)) -> None:
        require_role(caller_of(request), role)

    return permits


def require_role(caller: Caller, role: Role) -> None:
    """ForbiddenError unless the caller has at least that role."""
    if not covers(caller.role, role):
        has = f"the role {caller.role}" if caller.role else "no role"
        raise ForbiddenError(
            f"This needs the role {role}, and {caller.name} has {has}. Nothing was done.",
            f"Use a token made by `resurgam token create --role {role}`.",
        )


def address_of(request: Request) -> str:
    """The client's address, "" where there is none (a Unix socket)."""
    return request.client.host if request.client else ""


def _name_of(user: object) -> str:
    """What a host application's user is called: a username, the subject of a token, or the text it gives of itself."""
    if isinstance(user, dict):
        found = next((user[key] for key in ("username", "sub", "email", "name", "id") if user.get(key)), None)
    else:
        found = next((value for key in ("username", "sub", "email") if (value := getattr(user, key, None))), None)
    if found is None and (user is None or isinstance(user, dict)):
        return "host"
    return f"host:{user if found is None else found}"
