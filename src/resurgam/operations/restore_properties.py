"""Which properties the new database gets: those that the backup recorded, that its dump tells, or the live one's.

Asks the server, and touches nothing. An older or foreign backup recorded none: then its dump may tell them (`pg_dump
--create`), and what it does not say is as CREATE DATABASE makes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg

from resurgam.postgres.own_database import told_properties
from resurgam.postgres.properties import Properties, read_properties
from resurgam.postgres.script import Script
from resurgam.postgres.statements import codec

Connection = psycopg.Connection[tuple[Any, ...]]


def planned_properties(
    connection: Connection, script: Script, recorded: Any, live: str, *, exists: bool, in_place: bool
) -> tuple[Properties | None, tuple[str, ...]]:
    """The properties (None: the server's defaults), and sentences on what the dump says and is not carried out.

    `recorded` is the metadata's, None if it has none; `exists`: whether the database `live` does. DamagedError if the
    metadata is malformed.
    """
    about_it = script.about_it
    count = f"{len(about_it)} statement{'s' * (len(about_it) != 1)} about the dump's own database"
    if recorded is not None:
        properties = Properties.from_json(recorded)
        return properties, (f"{count} will be skipped: the backup recorded its properties.",) if about_it else ()
    present = read_properties(connection, live) if exists else None
    if not about_it:
        return present, ()
    told = told_properties(
        (item.text for item in about_it), _as_made(connection, present), present, codec(script.encoding)
    )
    if in_place:
        return told.properties, (f"{count} will be skipped: in place, a database keeps its properties.",)
    return told.properties, tuple(f"Skipped, as it says nothing that we can carry over: {one}" for one in told.left_out)


def _as_made(connection: Connection, present: Properties | None) -> Properties:
    """What CREATE DATABASE gives that says nothing more; the owner is the present one's, as the swap keeps it."""
    row = connection.execute("SELECT current_user::text").fetchone()
    assert row is not None
    return replace(
        read_properties(connection, "template0"),
        owner=str(row[0]) if present is None else present.owner,
        connection_limit=-1,
        allows_connections=True,
        is_template=False,
        comment=None,
        grants=None,
        settings=(),
        labels=(),
    )
