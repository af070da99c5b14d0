"""The database as a source: its dump, its roles, and in the metadata what no dump holds.

Success is what was checked: pg_dump's exit status, its end marker, and that the dump holds the data of every table
that the snapshot shows, counted row by row as it streamed by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Protocol

from resurgam.archive.entry import Entry, Kind
from resurgam.clock import Clock
from resurgam.counting import count_text
from resurgam.errors import ClientToolError, DamagedError, HostileError
from resurgam.postgres.clients import ClientTools
from resurgam.postgres.connection import Server
from resurgam.postgres.dump import Dump, dump_globals
from resurgam.postgres.fingerprint import Fingerprint, read_matviews
from resurgam.postgres.outline import outline_of
from resurgam.postgres.properties import Properties, read_properties
from resurgam.postgres.script import CopyBlock, Script, ScriptScanner
from resurgam.postgres.snapshot import Snapshot
from resurgam.postgres.taking import Taker

# How long all materialized views together may be read: of the dump's time this share, and these seconds in any case.
_SHARE, _LEAST_SECONDS = 0.05, 1.0


class DumpSink(Protocol):
    """What a dump needs of the archive's writer. `restrict_key`: see `Dump`; "" for a random one."""

    @property
    def restrict_key(self) -> str: ...
    def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None: ...
    def add_late(self, entry: Entry, blocks: Iterable[bytes]) -> Entry: ...


@dataclass(frozen=True, slots=True)
class TableRows:
    """A table of the dump and how many rows it holds."""

    schema: str
    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """What was captured of the database; `size` is the dump's, in bytes."""

    name: str
    file: str
    size: int
    globals_file: str
    tables: tuple[TableRows, ...]
    properties: Properties
    server_version: int
    client_version: str
    snapshot_at: datetime
    seconds: float
    warnings: tuple[str, ...]
    lc_monetary: str
    outline: list[list[int]]
    fingerprint: Fingerprint

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "globals_file": self.globals_file,
            "tables": [[table.schema, table.name, table.rows] for table in self.tables],
            "properties": self.properties.to_json(),
            "server_version": self.server_version,
            "client_version": self.client_version,
            "snapshot_at": self.snapshot_at.isoformat(),
            "seconds": round(self.seconds, 3),
            "lc_monetary": self.lc_monetary,
            "outline": self.outline,
            "fingerprint": self.fingerprint.to_json(),
        }


def capture_database(
    server: Server,
    tools: ClientTools,
    snapshot: Snapshot,
    sink: DumpSink,
    timestamp: str,
    *,
    clock: Clock,
    timeout: float | None = None,
    on_bytes: Callable[[int], None] = lambda count: None,
    on_phase: Callable[[str], None] | None = None,
) -> DatabaseReport:
    """Stream the dump and the globals into the archive. Raises SourceError if any of it is not whole.

    TablesContended if the snapshot must be taken anew; nothing has gone into the archive then.
    """
    started = clock.monotonic()
    properties = read_properties(snapshot.connection)
    row = snapshot.connection.execute("SELECT current_database(), current_setting('lc_monetary')").fetchone()
    name, lc_monetary = row if row is not None else ("", "")
    now = int(clock.now().timestamp()) * 1_000_000_000
    encoding = snapshot.connection.info.parameter_status("server_encoding")
    dump = Dump(
        server,
        tools,
        snapshot.id,
        encoding,
        clock=clock,
        timeout=timeout,
        on_phase=on_phase,
        restrict_key=sink.restrict_key,
    )
    taker = Taker()
    scanner = ScriptScanner(keep_statements=False, observer=taker)
    with closing(dump.blocks()) as blocks:
        first = next(blocks, b"")  # pg_dump has all its locks before it writes
        entry = sink.add_late(
            Entry(f"database_{timestamp}.sql".encode(), Kind.FILE, 0o600, mtime_ns=now),
            _scanned(chain((first,), blocks), scanner, on_bytes),
        )
    script = _finished(scanner)
    _check_tables(script, snapshot)
    # They have no place in the dump. What may take longer than the dump allows for is left out.
    matviews = read_matviews(snapshot.connection, max(_LEAST_SECONDS, _SHARE * (clock.monotonic() - started)))
    roles = dump_globals(server, tools)
    globals_file = f"globals_{timestamp}.sql"
    sink.add(Entry(globals_file.encode(), Kind.FILE, 0o600, mtime_ns=now, size=len(roles)), [roles])
    return DatabaseReport(
        name=name,
        file=entry.path.decode(),
        size=entry.size,
        globals_file=globals_file,
        tables=tuple(TableRows(schema or "", table, rows) for (schema, table), rows in script.rows.items()),
        properties=properties,
        server_version=snapshot.server_version,
        client_version=tools.version,
        snapshot_at=snapshot.taken_at,
        seconds=clock.monotonic() - started,
        warnings=(*dump.warnings, *_not_in_the_dump(snapshot, tools)),
        lc_monetary=lc_monetary,
        outline=outline_of(script),
        fingerprint=taker.fingerprint(script, matviews),
    )


def _scanned(blocks: Iterable[bytes], scanner: ScriptScanner, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    for block in blocks:
        scanner.feed(block)
        on_bytes(len(block))
        yield block


def _not_in_the_dump(snapshot: Snapshot, tools: ClientTools) -> Iterator[str]:
    """From 15 on nobody but the owner may create in the schema public, so a later pg_dump takes that for granted.

    Of an older server where it was revoked, it then writes no REVOKE, and a restore there gives the right back.
    """
    if snapshot.server_version >= 150_000 or tools.major < 15:
        return
    row = snapshot.connection.execute(
        "SELECT has_schema_privilege('public', oid, 'CREATE') FROM pg_namespace WHERE nspname = 'public'"
    ).fetchone()
    if row is not None and not row[0]:
        major = snapshot.server_version // 10_000
        yield (
            f"pg_dump {tools.version} does not save that CREATE on the schema public is revoked from PUBLIC on this "
            f"server of version {major}: install postgresql-client-{major}, or run the REVOKE after a restore."
        )


def _finished(scanner: ScriptScanner) -> Script:
    try:
        script = scanner.finish()
    except (DamagedError, HostileError) as error:
        raise ClientToolError(f"pg_dump's output is not whole: {error.message}", "Nothing was published.") from error
    if not script.complete:
        raise ClientToolError(f"pg_dump's output is not whole: {script.missing}.", "Nothing was published.")
    return script


def _check_tables(script: Script, snapshot: Snapshot) -> None:
    """Each table has COPY data of its own, or, as a partition, a COPY of its rows into the root of its tree.

    pg_dump loads through the root where the hash of a value may differ after a restore, as an enum's does.
    """
    through = Counter((item.table.schema, item.table.name) for item in script.items if isinstance(item, CopyBlock))
    absent = []
    for table in snapshot.tables:
        if not table.has_rows or (table.schema, table.name) in script.rows:
            continue
        root = (table.root_schema, table.root_name or "")
        if through[root] == 0:
            absent.append(f"{table.schema}.{table.name}")
        through[root] -= 1
    if absent:
        raise ClientToolError(
            f"The dump lacks the data of {count_text(len(absent), 'table')} that the snapshot shows: "
            f"{', '.join(absent[:10])}.",
            "Nothing was published. Check for event triggers or extensions that hide tables from pg_dump.",
        )
