"""What a plan tells of the server that a restore goes to: sessions, sizes, room, extensions, publications.

Only questions; nothing is touched. What can't be seen from here is None or empty, and the plan says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from resurgam.errors import DatabaseError
from resurgam.postgres.connection import Server
from resurgam.postgres.properties import Properties

Connection = psycopg.Connection[tuple[Any, ...]]
# A text dump is about as large as its tables, more with indexes; less where values compress well in the table.
_SURELY_NEEDED = 0.3
_PERHAPS_NEEDED = 2.0


@dataclass(frozen=True, slots=True)
class SessionGroup:
    """Sessions that a restore ends: whose, of which program, from where, how many."""

    user: str
    application: str
    address: str
    count: int


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension of the dump: installed in the live database, and available on the server; None: it is not."""

    name: str
    live: str | None
    available: str | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`database_bytes`: the live database's size; `data_free`: bytes free where the new one will lie."""

    server_version: str
    database_bytes: int | None
    data_free: int | None
    sessions: tuple[SessionGroup, ...]
    extensions: tuple[Extension, ...]
    publications: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        shown = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in shown.items()}


def read_surroundings(
    connection: Connection, live: Server, oid: int | None, extensions: tuple[str, ...], tablespace: str
) -> Surroundings:
    """Ask by `connection`, which is to another database of the server, and by a short visit to the `live` one.

    `oid` is the live database's, None if there is none.
    """
    installed, publications = ({}, ()) if oid is None else _visit(live)
    versions = connection.execute("SELECT name, default_version FROM pg_available_extensions")
    available: dict[str, str] = dict(versions.fetchall())
    return Surroundings(
        server_version=str(connection.info.parameter_status("server_version") or ""),
        database_bytes=None if oid is None else _size(connection, oid),
        data_free=_free(connection, tablespace),
        sessions=() if oid is None else _sessions(connection, oid),
        extensions=tuple(Extension(name, installed.get(name), available.get(name)) for name in extensions),
        publications=publications,
    )


def surrounding_problems(connection: Connection, found: Surroundings, live: str, dump_bytes: int) -> Iterator[str]:
    """What refuses the restore: a standby, a scheduler bound to the database, a disk that is surely too small."""
    row = connection.execute(
        "SELECT pg_is_in_recovery(), current_setting('cron.database_name', true), current_setting('server_version')"
    ).fetchone()
    standby, cron, _ = row if row is not None else (False, None, "")
    if standby:
        yield "This server is a standby, which takes no changes: restore on its primary."
    if cron == live:
        yield (
            f"pg_cron's worker is bound to {live} (cron.database_name): take pg_cron out of shared_preload_libraries, "
            "or move its database, for the restore."
        )
    if found.data_free is not None and found.data_free < dump_bytes * _SURELY_NEEDED:
        yield (
            f"The server's disk has {found.data_free:,} bytes free, too few for a second database beside the live one "
            f"(the dump has {dump_bytes:,}): make room first."
        )


def surrounding_warnings(
    found: Surroundings, live: str, dump_bytes: int, backed_up: str | None, properties: Properties | None
) -> Iterator[str]:
    """What does not refuse it and should be known. `backed_up` is the version of the server of the backup."""
    if found.data_free is None:
        beside = "" if found.database_bytes is None else f", beside {live} with {found.database_bytes:,}"
        yield (
            f"How much is free on the server's disk can't be seen from here: a new database of a dump of "
            f"{dump_bytes:,} bytes is made there{beside}."
        )
    elif dump_bytes * _SURELY_NEEDED <= found.data_free < dump_bytes * _PERHAPS_NEEDED:
        yield (
            f"The server's disk has {found.data_free:,} bytes free, which may be too few for a dump of {dump_bytes:,} "
            "bytes; if so, loading fails and the live database stays as it is."
        )
    if _major(backed_up) > _major(found.server_version):
        yield (
            f"The backup is from PostgreSQL {backed_up}, this server is {found.server_version}, which is older: what "
            "it does not know fails while loading, and the live database then stays as it is."
        )
    for extension in found.extensions:
        if extension.live and extension.available and extension.live != extension.available:
            yield (
                f"The extension {extension.name} is {extension.live} in {live} and will be {extension.available}, "
                "which is what this server installs now."
            )
    if found.publications:
        yield (
            f"{live} has publications ({', '.join(found.publications[:5])}): those of the backup replace them, and "
            "subscribers must be set up anew."
        )
    if properties is not None and properties.connection_limit == 0:
        yield f"The backup says that nobody but superusers may connect to {live}, and so it will be."


def _major(version: str | None) -> int:
    digits = "".join(char if char.isdigit() else " " for char in version or "").split()
    return int(digits[0]) if digits else 0


def _visit(live: Server) -> tuple[dict[str, str], tuple[str, ...]]:
    """Extensions and publications stand in the live database itself, which may let nobody in."""
    try:
        with closing(live.connect()) as session:
            installed = dict(session.execute("SELECT extname, extversion FROM pg_extension").fetchall())
            publications = session.execute("SELECT pubname FROM pg_publication ORDER BY 1").fetchall()
            return installed, tuple(str(name) for (name,) in publications)
    except (DatabaseError, psycopg.Error):
        return {}, ()


def _size(connection: Connection, oid: int) -> int | None:
    try:
        row = connection.execute("SELECT pg_database_size(%s::oid)", (oid,)).fetchone()
    except psycopg.Error:  # without CONNECT on it; or files that vanish meanwhile
        return None
    return None if row is None else int(row[0])


def _sessions(connection: Connection, oid: int) -> tuple[SessionGroup, ...]:
    rows = connection.execute(
        """
        SELECT coalesce(usename, '?'), coalesce(application_name, ''), coalesce(host(client_addr), 'this machine'),
               count(*)
        FROM pg_stat_activity
        -- The server hides the type of a session that is not ours. Our own let go before the swap.
        WHERE datid = %s AND coalesce(backend_type, 'client backend') = 'client backend'
          AND application_name IS DISTINCT FROM 'resurgam'
        GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3
        """,
        (oid,),
    )
    return tuple(SessionGroup(*row) for row in rows.fetchall())


def _free(connection: Connection, tablespace: str) -> int | None:
    """Bytes free in the data directory or tablespace, if it is surely on this machine and may be looked at.

    Surely: the server and we see the same postmaster.pid. A path alone may exist here and there (containers).
    """
    try:
        row = connection.execute(
            """
            SELECT current_setting('data_directory'), (pg_stat_file('postmaster.pid')).modification,
                   (SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = %s)
            """,
            (tablespace,),
        ).fetchone()
    except psycopg.Error:  # only a superuser, or a role that may monitor, is told
        return None
    if row is None or row[1] is None:
        return None
    folder, modified, location = row
    try:
        seen = Path(folder, "postmaster.pid").stat().st_mtime
        if int(seen) != int(modified.timestamp()):
            return None
        found = os.statvfs(location or folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
