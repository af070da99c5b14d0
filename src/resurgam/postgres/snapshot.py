"""One exported snapshot, with every table locked before it is taken.

`pg_dump --snapshot` of a snapshot taken earlier silently dumps a table empty that was truncated or rewritten in
between (observed: exit 0, end marker, no rows). So the tables are locked first, and a table that the snapshot shows
and no lock holds means starting again (docs/ordering.md, sentence 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from resurgam.errors import BusyError, DatabaseError
from resurgam.postgres.connection import Server, refuse_pooler

Connection = psycopg.Connection[tuple[Any, ...]]
_ATTEMPTS = 20
_LOCKS_A_STATEMENT = 500

# What pg_dump writes: user tables, and of an extension's own only those that it declares as configuration.
_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relkind = 'r' AND NOT is_member AND EXISTS (
    SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    root_schema.nspname, root.relname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class root ON c.relispartition AND root.oid = pg_catalog.pg_partition_root(c.oid)
LEFT JOIN pg_catalog.pg_namespace root_schema ON root_schema.oid = root.relnamespace
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d
                   WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
) AS membership(is_member)
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND (NOT is_member OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
ORDER BY c.oid
"""
# Time-outs that would end an idle holder or a waiting lock; unknown ones are ignored, since versions differ.
_NO_TIMEOUTS = """
SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'statement_timeout',
               'transaction_timeout', 'lock_timeout')
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the snapshot; `has_rows` says that its data must stand in the dump.

    The root is the top of the partition tree that it belongs to, None for other tables.
    """

    oid: int
    schema: str
    name: str
    has_rows: bool
    root_schema: str | None = None
    root_name: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An exported snapshot, valid while its holder lives; `taken_at` is the server's clock."""

    id: str
    tables: tuple[Table, ...]
    taken_at: datetime
    server_version: int
    connection: Connection


@contextmanager
def application_lock(server: Server, key: int) -> Iterator[Connection]:
    """Hold the application's advisory lock, and the direct session that a snapshot needs.

    BusyError if another session has it. The lock ends with the session, however that ends.
    """
    with closing(server.connect()) as connection:
        refuse_pooler(connection, server)
        connection.execute(_NO_TIMEOUTS)
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
        if row is None or not row[0]:
            raise BusyError(
                f"Another backup or restore of {server.describe()} is running; this one was not started.",
                "Wait until it has ended.",
            )
        yield connection


@contextmanager
def exported_snapshot(holder: Connection, server: Server, lock_timeout: float | None) -> Iterator[Snapshot]:
    """Lock every table, export a snapshot, keep both until the block ends.

    `holder` is the session of `application_lock`; `lock_timeout` is in seconds, None waits as long as it takes.
    DatabaseError if a table may not be read, or the tables change faster than they can be locked.
    """
    if lock_timeout is not None:
        holder.execute("SELECT set_config('lock_timeout', %s, false)", (f"{round(lock_timeout * 1000)}ms",))
    for _ in range(_ATTEMPTS):
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            snapshot = _locked_snapshot(holder, server)
            if snapshot is not None:
                yield snapshot
                return
        finally:
            with suppress(psycopg.Error):  # a lost connection has rolled back, and must not hide why we are here
                holder.execute("ROLLBACK")
    raise DatabaseError(
        f"The tables of {server.describe()} were created and dropped faster than they could be locked.",
        "Take the backup when no migration is running.",
    )


def _locked_snapshot(holder: Connection, server: Server) -> Snapshot | None:
    with closing(server.connect()) as lister:
        listed = _list_tables(lister)
    try:
        for start in range(0, len(listed), _LOCKS_A_STATEMENT):
            names = [sql.Identifier(t.schema, t.name) for t in listed[start : start + _LOCKS_A_STATEMENT]]
            tables = sql.SQL(", ").join(sql.SQL("ONLY ") + name for name in names)
            holder.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(tables))
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.WrongObjectType):
        return None  # dropped or replaced since it was listed
    except psycopg.errors.DeadlockDetected:
        return None  # a migration holds one table and wants another that we hold: it goes first
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(
            f"The role may not read everything in {server.describe()}: {error.diag.message_primary}.",
            "Back up as the tables' owner, or GRANT pg_read_all_data to the role.",
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise DatabaseError(
            "A table stayed locked by somebody else for longer than BACKUP_LOCK_TIMEOUT.",
            "See pg_stat_activity for what holds it (a migration, VACUUM FULL), and try again.",
        ) from None
    row = holder.execute("SELECT pg_export_snapshot(), clock_timestamp()").fetchone()
    if row is None:
        return None
    shown = _list_tables(holder)
    if {table.oid for table in shown} - {table.oid for table in listed}:
        return None
    return Snapshot(row[0], shown, row[1], holder.info.server_version, holder)


def _list_tables(connection: Connection) -> tuple[Table, ...]:
    return tuple(Table(*row) for row in connection.execute(_TABLES))
