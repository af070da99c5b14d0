"""Connections to the server, and the environment in which client tools reach it.

Rules: every session pins what COPY's text output depends on, because pg_dump sets only a part of it; a password is
never in an argument list or an environment variable, which /proc shows to others; whatever libpq can't do comes
out as one DatabaseError of one clear sentence.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from resurgam.errors import DatabaseError
from resurgam.settings import Database, inherited

# COPY's output depends on these; a dump and all that is compared with it must see the same.
PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
}
_PINNED_OPTIONS = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in PINNED.items())
# A role's or database's own settings must not end or forbid what only we can judge: a count of a large table, a swap.
_UNHINDERED = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "off",
}
_SESSION_OPTIONS = " ".join(f"-c {name}={value}" for name, value in _UNHINDERED.items())
# The longest name PostgreSQL keeps; longer ones are cut, and then two may be the same (NAMEDATALEN - 1).
NAME_LENGTH = 63


@dataclass(frozen=True, slots=True)
class ToolAccess:
    """What a client tool needs besides its own arguments."""

    environment: dict[str, str]
    pass_fds: tuple[int, ...]
    conninfo: str


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach one database, and others on the same server.

    Of `environment` client tools inherit what `inherited` lets pass; `connect_timeout` is in seconds.
    """

    database: Database
    connect_timeout: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def at(self, name: str) -> Server:
        """The same server, another database."""
        return replace(self, database=replace(self.database, name=name))

    def telling(self, options: str) -> Server:
        """The same database, where every connection, of client tools as well, begins with these options (PGOPTIONS)."""
        given = dict(self.database.options)
        given["options"] = " ".join(part for part in (given.get("options", ""), options) if part)
        return replace(self, database=replace(self.database, options=tuple(given.items())))

    def named(self) -> Server:
        """The same, with the database's name filled in where a service file or libpq's defaults supply it."""
        if self.database.name is not None:
            return self
        with closing(self.connect()) as connection:
            return self.at(connection.info.dbname)

    def conninfo(self, options: str = "") -> str:
        """A libpq connection string without the password; `options` as in PGOPTIONS, the pinned ones always win."""
        place = self.database
        given = dict(place.options)
        told = " ".join(part for part in (given.pop("options", ""), options, _PINNED_OPTIONS) if part)
        timeout = None if self.connect_timeout is None else max(2, round(self.connect_timeout))
        keywords: dict[str, Any] = {
            "host": place.host,
            "port": place.port,
            "dbname": place.name,
            "user": place.user,
            "connect_timeout": timeout,
            "application_name": "resurgam",
            **given,
            "options": told,
        }
        return make_conninfo("", **{key: value for key, value in keywords.items() if value is not None})

    def connect(self, *, options: str = "") -> psycopg.Connection[tuple[Any, ...]]:
        """A session in autocommit mode with the pinned settings and no time-outs, whatever the role's own settings are.

        DatabaseError if there is none to be had.
        """
        password = self.database.password
        secret: dict[str, Any] = {} if password is None else {"password": password.reveal()}
        try:
            conninfo = self.conninfo(f"{options} {_SESSION_OPTIONS}")
            connection = psycopg.connect(conninfo, autocommit=True, **secret)
        except psycopg.OperationalError as error:
            raise connection_failed(error, self.describe()) from None
        if connection.info.server_version >= 170_000:  # not known before, where the startup options would be refused
            connection.execute("SET transaction_timeout = 0")
        if connection.info.parameter_status("client_encoding") == "SQL_ASCII":
            # psycopg gives text as bytes otherwise; a server of this encoding converts nothing.
            connection.execute("SET client_encoding = 'UTF8'")
        return connection

    def describe(self) -> str:
        """`database at host:port`, for messages."""
        place = self.database
        return f"{place.name or 'the default database'} at {place.host or 'the default host'}:{place.port or 5432}"

    @contextmanager
    def tool_access(self) -> Iterator[ToolAccess]:
        """An environment for pg_dump and its kin: pinned settings, and a password that only libpq reads."""
        environment = {key: value for key, value in inherited(self.environment).items() if key not in _WITHHELD}
        environment |= {"LC_MESSAGES": "C", "PGAPPNAME": "resurgam"}
        if self.database.password is None:
            yield ToolAccess(environment, (), self.conninfo())
            return
        with _passfile(self.database.password.reveal()) as (path, fds):
            yield ToolAccess({**environment, "PGPASSFILE": path}, fds, self.conninfo())


# Able to change what a tool connects to, or how it speaks.
_WITHHELD = frozenset({
    "PGDATABASE", "PGHOST", "PGPORT", "PGUSER", "PGOPTIONS", "LC_ALL", "PGTZ", "PGDATESTYLE", "PGCLIENTENCODING",
})  # fmt: skip


@contextmanager
def _passfile(password: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A .pgpass that exists in memory alone where the system has memfd_create, so that no crash leaves it behind."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    line = f"*:*:*:*:{escaped}\n".encode()
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("pgpass")
        try:
            os.fchmod(fd, 0o600)  # libpq ignores a passfile that others may read
            os.write(fd, line)
            yield f"/proc/self/fd/{fd}", (fd,)
        finally:
            os.close(fd)
        return
    with tempfile.TemporaryDirectory(prefix="resurgam-") as folder:
        path = Path(folder, "pgpass")
        path.touch(0o600)
        path.write_bytes(line)
        yield str(path), ()


def connection_failed(error: psycopg.Error, where: str) -> DatabaseError:
    """One clear sentence for what libpq said in several."""
    text = " ".join(str(error).split())
    last = text.rsplit("FATAL: ", 1)[-1]
    for sign, message, hint in _FAILURES:
        if sign in text:
            return DatabaseError(message.format(where=where, text=last), hint)
    return DatabaseError(f"The database {where} can not be reached: {last}.", "`resurgam doctor` tests the connection.")


_FAILURES = (
    (
        "unsupported startup parameter",
        "Between us and {where} stands a connection pooler (PgBouncer), through which backup and restore do not work.",
        "Set DB_HOST and DB_PORT to the PostgreSQL server itself.",
    ),
    (
        "password authentication failed",
        "The server refused the password for {where}: {text}.",
        "Check DB_USER and DB_PASSWORD (or DB_PASSWORD_FILE).",
    ),
    (
        "no password supplied",
        "The server of {where} wants a password and none is set.",
        "Set DB_PASSWORD or DB_PASSWORD_FILE, or add a line to ~/.pgpass.",
    ),
    (
        "does not exist",
        "The server answers, but not for {where}: {text}.",
        "Check DB_NAME and DB_USER; `restore` creates a missing database, a backup needs it to be there.",
    ),
    (
        "Connection refused",
        "Nothing answers for {where}: the connection was refused.",
        "Is PostgreSQL running? Check DB_HOST and DB_PORT.",
    ),
    (
        "could not translate host name",
        "The host of {where} is unknown.",
        "Check DB_HOST; inside docker-compose it is the service's name.",
    ),
    (
        "failed to resolve host",
        "The host of {where} is unknown.",
        "Check DB_HOST; inside docker-compose it is the service's name.",
    ),
    (
        "timeout expired",
        "The server of {where} did not answer in time.",
        "Check DB_HOST, DB_PORT and the firewall; BACKUP_CONNECT_TIMEOUT is how long we wait.",
    ),
)


def refuse_pooler(connection: psycopg.Connection[tuple[Any, ...]], server: Server) -> None:
    """DatabaseError if a pooler in transaction mode stands between us and the server.

    A pooler gives its own process id at login. Then two of our connections are used at once: if the second is
    served by the process that the first one had, sessions are shared, and neither locks nor snapshots would hold.
    """
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    first = row[0] if row else None
    if first == connection.info.backend_pid:
        return
    with closing(server.connect()) as other, other.transaction():
        row = other.execute("SELECT pg_backend_pid()").fetchone()
        shared = row is not None and row[0] == first
    if shared:
        raise DatabaseError(
            f"Between us and {server.describe()} stands a connection pooler in transaction mode (PgBouncer or "
            "like it), through which backup and restore do not work.",
            "Set DB_HOST and DB_PORT to the PostgreSQL server itself.",
        )


def short_name(base: str, suffix: str) -> str:
    """`base + suffix` cut to what PostgreSQL keeps, with the suffix whole."""
    room = NAME_LENGTH - len(suffix.encode())
    return base.encode()[:room].decode(errors="ignore") + suffix
