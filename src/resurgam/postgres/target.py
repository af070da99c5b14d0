"""What stands in the way of replacing a database: questions to the server, answered all together, touching nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from resurgam.postgres.properties import Properties

Connection = psycopg.Connection[tuple[Any, ...]]
_PROVIDERS_SINCE = {"icu": 15, "builtin": 17}


def creation_problems(connection: Connection, properties: Properties | None, *, live_side: str = "") -> Iterator[str]:
    """Why our role could not create a database like the recorded one on this server; in the stead of which live one."""
    row = connection.execute(
        "SELECT rolsuper OR rolcreatedb, rolname FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if row is None or not row[0]:
        role = row[1] if row else "the role"
        instead = "; or restore with --in-place (API: in_place true)" if live_side == "replaced" else ""
        yield (
            f"The role {role} may not create databases, and a restore loads into a new one beside the live one: "
            f"as a superuser, run ALTER ROLE {role} CREATEDB{instead}."
        )
    if properties is None:
        return
    if properties.tablespace != "pg_default" and not _exists(
        connection, "SELECT 1 FROM pg_tablespace WHERE spcname = %s", properties.tablespace
    ):
        yield f"The tablespace {properties.tablespace} does not exist on this server: create it first."
    if not _exists(connection, "SELECT 1 WHERE pg_char_to_encoding(%s) >= 0", properties.encoding):
        yield f"This server does not know the encoding {properties.encoding}."
    first = _PROVIDERS_SINCE.get(properties.provider, 0)
    if connection.info.server_version // 10_000 < first:
        yield (
            f"The backup's database has its locale from the provider {properties.provider}, which servers know from "
            f"PostgreSQL {first} on: restore to such a server."
        )
    yield from _locale_problems(connection, properties)


def _locale_problems(connection: Connection, properties: Properties) -> Iterator[str]:
    """A locale that the server's machine does not have; asked by a collation that is never committed."""
    for locale in sorted({properties.collate, properties.ctype} - {"C", "POSIX", "C.UTF-8", "C.utf8"}):
        probe = sql.SQL("CREATE COLLATION pg_temp.resurgam_probe (LOCALE = {})").format(locale)
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(probe)
        except psycopg.Error as error:
            if "could not create locale" in str(error):  # anything else says more about the probe than the locale
                yield f"The server's machine does not have the locale {locale!r}: install it there (locale-gen)."


def replacement_problems(connection: Connection, live: str) -> Iterator[str]:
    """Why the live database can't be renamed away. `connection` is to another database of the server."""
    row = connection.execute(
        """
        SELECT d.oid, pg_get_userbyid(datdba), pg_has_role(datdba, 'MEMBER'), datistemplate
        FROM pg_database d WHERE datname = %s
        """,
        (live,),
    ).fetchone()
    if row is None:
        return
    oid, owner, ours, template = row
    if not ours:
        yield f"The database {live} belongs to {owner}, and only its owner may replace it: restore as {owner}."
    if template:
        yield f"The database {live} is marked as a template: ALTER DATABASE … IS_TEMPLATE false first."
    prepared = _names(connection, "SELECT gid FROM pg_prepared_xacts WHERE database = %s", live)
    if prepared:
        yield (
            f"The database {live} has {len(prepared)} prepared transactions ({', '.join(prepared[:5])}): "
            "COMMIT PREPARED or ROLLBACK PREPARED them first."
        )
    slots = _names(connection, "SELECT slot_name FROM pg_replication_slots WHERE database = %s", live)
    if slots:
        yield f"Logical replication slots hang on {live} ({', '.join(slots[:5])}): drop them first."
    subscriptions = _names(connection, "SELECT subname FROM pg_subscription WHERE subdbid = %s", oid)
    if subscriptions:
        yield (
            f"The database {live} has subscriptions ({', '.join(subscriptions[:5])}): drop them first (their slots at "
            "the publisher go too, unless ALTER SUBSCRIPTION … SET (slot_name = NONE) comes before)."
        )
    workers = _names(
        connection,
        """
        SELECT DISTINCT backend_type FROM pg_stat_activity WHERE datid = %s AND backend_type NOT IN
          ('client backend', 'autovacuum worker', 'parallel worker', 'walsender')  -- NULL where it is hidden from us
        """,
        oid,
    )
    if workers:
        yield f"Background workers are bound to {live} ({', '.join(workers)}): stop their extension first."
    sessions = _names(
        connection,
        """
        SELECT DISTINCT a.usename FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid, pg_roles me
        -- The server hides the type of a session that is not ours.
        WHERE a.datid = %s AND coalesce(a.backend_type, 'client backend') = 'client backend'
          AND me.rolname = current_user AND NOT me.rolsuper
          AND (r.rolsuper OR NOT (pg_has_role(r.oid, 'MEMBER') OR pg_has_role('pg_signal_backend', 'MEMBER')))
        """,
        oid,
    )
    if sessions:
        yield f"Sessions of {', '.join(sessions)} use {live}, and our role may not end them: close them first."


def _exists(connection: Connection, query: str, value: str) -> bool:
    return connection.execute(query, (value,)).fetchone() is not None


def _names(connection: Connection, query: str, value: object) -> list[str]:
    return [str(row[0]) for row in connection.execute(query, (value,))]
