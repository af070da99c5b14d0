"""Subscriptions of a database that is to go: the server drops none that has any (logical replication).

They are dropped here without a word to the publisher: the slot there may be another database's by now (the live one's
that was restored from the same dump, for one), and a slot that stays can still be dropped; the other way round changes
would be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from resurgam.postgres.connection import Server

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """`slot` is its replication slot at the publisher, None if it has none."""

    name: str
    enabled: bool
    slot: str | None


def subscriptions_in(connection: Connection, database: str) -> tuple[Subscription, ...]:
    """The subscriptions of a database, asked of any database of its server."""
    rows = connection.execute(
        "SELECT subname::text, subenabled, subslotname::text FROM pg_subscription s"
        " JOIN pg_database d ON d.oid = s.subdbid WHERE datname = %s ORDER BY subname",
        (database,),
    )
    return tuple(Subscription(*row) for row in rows)


def drop_subscriptions(server: Server, found: Iterable[Subscription]) -> None:
    """Drop them in the database that `server` names; raises psycopg.Error, and what connecting raises."""
    with closing(server.connect()) as session:
        for one in found:
            name = sql.Identifier(one.name)
            session.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
            session.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(name))
            session.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))
