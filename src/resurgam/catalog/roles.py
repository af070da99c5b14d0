"""The three roles, each of which may do what those before it may."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


def covers(role: Role | None, needed: Role) -> bool:
    """Whether a caller of that role may do what needs the other; without a role nothing is allowed."""
    return role is not None and ROLES.index(role) >= ROLES.index(needed)
