"""Dumps for the loader's tests: a database with everything that is hard to load, and how to dump and load it."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.loadcheck import read_facts
from resurgam.postgres.loader import LoadOptions, LoadReport, load
from resurgam.postgres.script import Script, ScriptScanner


@dataclass(frozen=True)
class BytesDump:
    """A plain dump in memory, in blocks of an awkward size."""

    data: bytes
    block: int = 5000

    @property
    def size(self) -> int:
        return len(self.data)

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        for start in range(offset, offset + length, self.block):
            yield self.data[start : min(start + self.block, offset + length)]


def scan(data: bytes, block: int = 65536, *, keep_statements: bool = True) -> Script:
    scanner = ScriptScanner(keep_statements=keep_statements)
    for start in range(0, len(data), block):
        scanner.feed(data[start : start + block])
    return scanner.finish()


def pg_dump(server: EmbeddedServer, name: str, *options: str, user: str | None = None) -> bytes:
    command = [str(server.bin / "pg_dump"), *options, server.dsn(name, user)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def normal(dump: bytes) -> list[bytes]:
    """What must be equal: without restrict keys, times and OIDs that pg_dump -v mentions."""
    return [
        line
        for line in dump.splitlines()
        if not re.match(rb"\\(un)?restrict|-- (Started|Completed) on|-- TOC entry|-- Dependencies", line)
    ]


def load_into(
    server: EmbeddedServer, name: str, data: bytes, *, user: str | None = None, connections: int = 3, **options: bool
) -> LoadReport:
    with psycopg.connect(server.dsn(name, user)) as connection:
        facts = read_facts(connection)
    return load(
        scan(data),
        BytesDump(data),
        lambda: psycopg.connect(server.dsn(name, user)),
        LoadOptions(facts, connections=connections, **options),
    )


def fill(server: EmbeddedServer, name: str, text: str, user: str | None = None) -> None:
    """Execute a script by psql, each statement a transaction."""
    options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", server.dsn(name, user)]
    command = [str(server.bin / "psql"), *options]
    answer = subprocess.run(command, input=text.encode(), capture_output=True)
    assert answer.returncode == 0, answer.stderr.decode()


def count_sessions(server: EmbeddedServer, name: str) -> int:
    """Connections to a database; those just closed are given time to end at the server."""
    query = "SELECT FROM pg_stat_activity WHERE datname = %s"
    for _ in range(100):
        with psycopg.connect(server.dsn()) as connection:
            found = len(connection.execute(query, (name,)).fetchall())
        if found == 0:
            return 0
        time.sleep(0.05)
    return found


def has_extension(server: EmbeddedServer, name: str) -> bool:
    with psycopg.connect(server.dsn()) as connection:
        query = sql.SQL("SELECT FROM pg_available_extensions WHERE name = {}").format(sql.Literal(name))
        return connection.execute(query).fetchone() is not None


NASTY = Path(__file__).with_name("nasty.sql").read_text()
# What only a superuser may dump.
FORCED = "ALTER TABLE typed FORCE ROW LEVEL SECURITY;\n"
assert FORCED in NASTY
# What only a superuser may make.
NASTY_SUPERUSER = """
CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
    IF tg_tag IN ('CREATE INDEX', 'CREATE TABLE', 'ALTER TABLE', 'REFRESH MATERIALIZED VIEW') THEN
        RAISE 'too early: %', tg_tag; END IF; END$$;
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION app.on_ddl();
ALTER EVENT TRIGGER watch DISABLE;
ALTER EVENT TRIGGER watch ENABLE ALWAYS;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE app.far_table (id int) SERVER far;
"""
