"""Roles that a dump names and a server lacks: made, without any power, before it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from resurgam.errors import RestoreFailed
from resurgam.postgres.loadcheck import TargetFacts

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class MissingRoles:
    """`given`: named by owners and grants alone, which can be left out; `needed`: by policies and user mappings."""

    given: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()

    @property
    def all(self) -> frozenset[str]:
        return self.given | self.needed


def creation_refusals(connection: Connection, roles: Iterable[str], facts: TargetFacts) -> Iterator[str]:
    """Why these could not be made."""
    roles = sorted(roles)
    row = connection.execute("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user").fetchone()
    if roles and not (row and row[0]):
        yield (
            f"The role {facts.role} may not create roles, and these are missing: {', '.join(roles)}. Create them as a "
            "superuser, or restore with --roles skip."
        )
    reserved = [role for role in roles if role.startswith("pg_")]
    if reserved:
        yield f"Only a newer server has these roles, which nobody can create: {', '.join(reserved)}."


def create_roles(connection: Connection, roles: Iterable[str], facts: TargetFacts) -> None:
    """Make them NOLOGIN, with no attribute or membership: what an archive says of powers is not believed.

    Each gets us as a member, so that we may give it things. RestoreFailed if the server refuses one; then none is.
    """
    try:
        with connection.transaction():
            for role in sorted(roles):
                name = sql.Identifier(role)
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(name))
                if not facts.superuser:
                    connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
    except psycopg.Error as error:
        raise RestoreFailed(
            f"The missing roles could not be created ({error.diag.message_primary or error}); nothing was touched.",
            "Create them by hand, or restore with --roles skip.",
        ) from None


def drop_roles(connection: Connection, roles: Iterable[str]) -> tuple[str, ...]:
    """Take roles back after a restore that failed; answers those that something refers to by now."""
    kept = []
    for role in sorted(roles):
        try:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        except psycopg.Error:
            kept.append(role)
    return tuple(kept)
