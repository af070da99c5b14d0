"""The database half of a restore: planned, loaded into a new database beside the live one, counted.

Nothing here changes the live database; `postgres/swap.py` does, last of all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import sql

from resurgam.archive.foreign import ForeignArchive
from resurgam.archive.opening import Archive, IndexedArchive
from resurgam.counting import count_text
from resurgam.durable import write_all
from resurgam.errors import DamagedError, DatabaseError, RestoreFailed, StorageError, VerifyFailed
from resurgam.operations.progress import Progress
from resurgam.operations.restore_properties import planned_properties
from resurgam.operations.verify import dump_name
from resurgam.postgres.connection import NAME_LENGTH, Server, short_name
from resurgam.postgres.flush import flush
from resurgam.postgres.in_place import examine
from resurgam.postgres.loadcheck import (
    TargetFacts,
    check_script,
    extensions_of,
    named_roles,
    read_facts,
    subscriptions_of,
    with_roles,
)
from resurgam.postgres.loader import DumpReader, LoadOptions, load
from resurgam.postgres.outline import parse_outline, scan_by_outline
from resurgam.postgres.properties import Properties, apply_properties, create_database
from resurgam.postgres.roles import MissingRoles, create_roles, creation_refusals
from resurgam.postgres.script import Observer, Script, TableName
from resurgam.postgres.subscriptions import drop_subscriptions, subscriptions_in
from resurgam.postgres.surroundings import (
    Surroundings,
    read_surroundings,
    surrounding_problems,
    surrounding_warnings,
)
from resurgam.postgres.swap import database_oid, maintenance_server
from resurgam.postgres.target import creation_problems, replacement_problems

_READ = 4 << 20
_TRIES = 200
_TRY_SECONDS = 0.05
Journal = Callable[[str, dict[str, Any]], None]
Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class StreamDump:
    """The dump inside a backup with an index, readable anywhere without unpacking it."""

    archive: IndexedArchive
    start: int
    size: int

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        return self.archive.read(self.start + offset, length)


@dataclass(frozen=True, slots=True)
class FileDump:
    """A dump that was unpacked from a foreign archive, into a file that has no name and so outlives nobody."""

    fd: int
    size: int

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        while length > 0 and (block := os.pread(self.fd, min(length, _READ), offset)):
            length -= len(block)
            offset += len(block)
            yield block


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """What will be loaded and swapped. `live` may not exist yet; `fresh` and `previous` do not.

    `missing_roles` are those that the dump names and the server lacks; `create_roles` will be made before loading.
    `in_place`: nothing is swapped, the content of `live` is replaced within one transaction.
    """

    live: str
    fresh: str
    previous: str
    script: Script
    dump: DumpReader
    properties: Properties | None
    facts: TargetFacts
    server: Server
    maintenance: Server
    replaces: bool
    missing_roles: frozenset[str] = frozenset()
    create_roles: tuple[str, ...] = ()
    surroundings: Surroundings | None = None
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class LoadedDatabase:
    """What was loaded: rows a table, and sentences on what the server did not take, with its lines in the dump."""

    rows: dict[TableName, int]
    warnings: tuple[str, ...]
    skipped_lines: frozenset[int] = frozenset()


@contextmanager
def open_dump(archive: Archive, metadata: dict[str, Any], scratch: Path) -> Iterator[DumpReader]:
    """The backup's dump; one in a foreign archive is unpacked first, beside the backups in `scratch`.

    StorageError if there is no room for that.
    """
    wanted = dump_name(metadata, archive.name).encode("utf-8", "surrogateescape")
    if not isinstance(archive, ForeignArchive):
        found = archive.find(wanted)
        if found is None:
            raise _no_dump(archive.name, wanted)
        yield StreamDump(archive, found.offset, found.entry.size)
        return
    with tempfile.TemporaryFile(dir=scratch, buffering=0) as file:
        size = None
        # To the stream's end, where gzip's checksum and tar's end blocks are.
        for entry, blocks in archive.contents(lambda entry: entry.path == wanted):
            free = shutil.disk_usage(scratch).free
            if entry.size > free:
                raise StorageError(
                    f"The dump has {entry.size:,} bytes and must be unpacked in {scratch}, where {free:,} are free."
                )
            for block in blocks:
                write_all(file.fileno(), block)
            size = entry.size
        if size is None:
            raise _no_dump(archive.name, wanted)
        yield FileDump(file.fileno(), size)


def _no_dump(name: str, wanted: bytes) -> DamagedError:
    return DamagedError(f"The backup {name} holds no {wanted.decode('utf-8', 'backslashreplace')}.")


def scan_dump(
    dump: DumpReader, metadata: dict[str, Any], progress: Progress, observer: Observer | None = None
) -> Script:
    """Read the dump to its end marker, without the large tables' data where an outline says where they are.

    `observer` sees what is read pass.
    VerifyFailed if it is not whole, or not the one that was backed up.
    """
    outline = metadata["database"].get("outline") if isinstance(dump, StreamDump) else None
    blocks = () if outline is None else parse_outline(outline, dump.size)
    progress.phase("Reading the dump", dump.size - sum(block.length for block in blocks))
    script = scan_by_outline(dump, blocks, progress.advance, observer)
    if not script.complete:
        raise VerifyFailed(f"The dump is not complete: {script.missing}; nothing was touched.", "Use another backup.")
    tables = metadata["database"].get("tables")
    if tables is not None and tables != [[schema or "", table, rows] for (schema, table), rows in script.rows.items()]:
        raise VerifyFailed(
            "The dump's tables and rows are not those that were backed up; nothing was touched.", "Use another backup."
        )
    return script


def plan_database(
    server: Server,
    script: Script,
    dump: DumpReader,
    metadata: dict[str, Any],
    restore_id: str,
    *,
    roles: Literal["fail", "create", "skip"] = "fail",
    live_side: Literal["replaced", "new", "kept", "in place"] = "replaced",
) -> tuple[DatabasePlan, tuple[str, ...], tuple[str, ...]]:
    """The plan, the problems that refuse it, and warnings. Asks the server and touches nothing.

    `roles`: what to do with those that the dump names and the server lacks. `live_side`: the database is swapped in
    for the live one; is to get a name that must be free; is only loaded, and nothing is swapped; or is loaded in place.
    """
    server = server.named()
    maintenance = maintenance_server(server)
    with closing(maintenance.connect()) as connection:
        live = str(server.database.name)
        oid = database_oid(connection, live)
        recorded, in_place = metadata["database"].get("properties"), live_side == "in place"
        properties, left_out = planned_properties(
            connection, script, recorded, live, exists=oid is not None, in_place=in_place
        )
        facts = read_facts(connection)
        in_the_way: tuple[str, ...] = ()
        if in_place:
            encoding = "" if properties is None else properties.encoding
            in_the_way, facts = examine(server, script, facts, encoding, exists=oid is not None)
        missing = _missing_roles(script, facts, properties if roles == "create" else None)
        if roles == "skip":
            facts = replace(facts, left_out=missing.given)
        create = sorted(missing.all) if roles == "create" else []
        checked = with_roles(facts, create)
        problems, warnings = check_script(script, checked)
        space = "pg_default" if properties is None else properties.tablespace
        around = read_surroundings(connection, server, oid, extensions_of(script), space)
        plan = DatabasePlan(
            live=live,
            fresh=short_name(live, f"_restore_{restore_id}"),
            previous=short_name(live, f"_previous_{restore_id}"),
            script=script,
            dump=dump,
            properties=properties,
            facts=facts,
            server=server,
            maintenance=maintenance,
            replaces=oid is not None,
            missing_roles=missing.all,
            create_roles=tuple(create),
            surroundings=around,
            in_place=in_place,
        )
        problems = (
            *(in_the_way if plan.in_place else creation_problems(connection, properties, live_side=live_side)),
            *_live_problems(connection, live, live_side, exists=oid is not None),
            *surrounding_problems(connection, around, live, script.size),
            *creation_refusals(connection, create, facts),
            *problems,
        )
        told = surrounding_warnings(around, live, script.size, script.dumped_from, properties)
    return plan, problems, (*left_out, *warnings, *told, *_told_of(script, create))


def _live_problems(connection: Connection, live: str, live_side: str, *, exists: bool) -> Iterator[str]:
    if live_side in ("replaced", "in place"):
        yield from replacement_problems(connection, live)
    elif live_side == "new":
        if not live or "\0" in live or len(live.encode("utf-8", "surrogateescape")) > NAME_LENGTH:
            yield f"A database's name has 1 to {NAME_LENGTH} bytes, and no NUL."
        elif exists:
            yield f"There is a database {live} already, and only the live one is ever replaced: use another name."


def _missing_roles(script: Script, facts: TargetFacts, properties: Properties | None) -> MissingRoles:
    """Roles that the dump names (and the database's properties, if given) and the server lacks."""
    given, needed = named_roles(script)
    if properties is not None:
        given |= {properties.owner, *(grant.grantee for grant in properties.grants or ())} - {""}
    return MissingRoles(given - facts.roles, needed - facts.roles)


def _told_of(script: Script, create: Sequence[str]) -> Iterator[str]:
    if create:
        yield (
            f"These roles will be created, without login, password or membership: {', '.join(create)}. The backup's "
            "globals_*.sql says what they were."
        )
    if count := subscriptions_of(script):
        held = count_text(count, "subscription")
        yield f"The backup holds {held}, to come back disabled: enable them when all is well."


def load_database(plan: DatabasePlan, connections: int, journal: Journal, progress: Progress) -> LoadedDatabase:
    """Create missing roles and the new database, load it, count its rows, give it the recorded properties.

    A failure is raised as it is; the half-loaded database is the journal's to drop (recovery.py).
    """
    journal("database_created", {"fresh": plan.fresh})
    facts = plan.facts
    with closing(plan.maintenance.connect()) as session:
        if plan.create_roles:
            create_roles(session, plan.create_roles, facts)
            facts = read_facts(session)
        create_database(session, plan.fresh, plan.properties)
    return fill_database(plan, facts, connections, progress)


def fill_database(plan: DatabasePlan, facts: TargetFacts, connections: int, progress: Progress) -> LoadedDatabase:
    """Load the new, empty database `plan.fresh`, count its rows, give it the recorded properties."""
    progress.phase("Loading the database", plan.script.size)
    beside = plan.server.at(plan.fresh)
    done = 0

    def advance(total: int) -> None:
        nonlocal done
        progress.advance(total - done)
        done = total

    # Where the connections use all cores already, workers beside them cost up to 12 % (two cores, two connections).
    spare = (os.cpu_count() or 1) > connections
    options = LoadOptions(facts, connections=connections, parallel_workers=None if spare else 0)
    quiet = without_event_triggers(plan.facts)
    report = load(plan.script, plan.dump, lambda: beside.connect(options=quiet), options, advance)
    progress.phase("Counting the rows")
    _check_rows(beside, plan.script.rows, connections, quiet)
    # From within: what catalogs of the whole server hold, such as its comment, is kept in the database's own encoding.
    with closing(beside.connect(options=quiet)) as session:
        refused = apply_properties(session, plan.fresh, plan.properties) if plan.properties else ()
        flush(session)
    skipped = frozenset(statement.line for statement in report.skipped_statements)
    return LoadedDatabase(report.rows, (*report.warnings, *refused), skipped)


def without_event_triggers(facts: TargetFacts) -> str:
    """Options of sessions in which the dump's own event triggers stay still; those on login would write rows."""
    return "-c event_triggers=off" if facts.superuser and facts.server_version >= 170_000 else ""


def drop_database(maintenance: Server, name: str) -> None:
    """Drop a database of ours that was never swapped in. DatabaseError if it is still there afterwards.

    A subscription in it would forbid that; the loaded one is disabled, and has nothing on the other side.
    """
    with closing(maintenance.connect()) as session:
        try:
            end_creation(session, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)).as_string(session))
            if subscriptions := subscriptions_in(session, name):
                drop_subscriptions(maintenance.at(name), subscriptions)
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        except psycopg.Error as error:
            raise DatabaseError(
                f"The half-loaded database {name} could not be dropped ({error.diag.message_primary}).",
                f"The live database is untouched. Drop it by hand: DROP DATABASE {name};",
            ) from error


def end_creation(session: psycopg.Connection[Any], begins: str) -> None:
    """A server goes on with a CREATE … of a client that was killed; nobody sees what it makes before it is complete."""
    for _ in range(_TRIES):
        ended = session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND state = 'active' AND starts_with(query, %s)",
            (begins,),
        )
        if not ended.fetchall():
            return
        session.execute("SELECT pg_sleep(%s)", (_TRY_SECONDS,))


def _check_rows(server: Server, expected: dict[TableName, int], connections: int, options: str) -> None:
    """Ask the new database how many rows each table has, and compare with what was backed up."""
    tables = sorted(expected, key=lambda table: -expected[table])
    shares = [tables[start::connections] for start in range(connections)]
    with ThreadPoolExecutor(connections) as executor:
        counted = [
            pair for pairs in executor.map(lambda share: _count(server, share, options), shares) for pair in pairs
        ]
    _require(counted, expected)


def require_rows(connection: Connection, expected: dict[TableName, int]) -> None:
    """RestoreFailed if a table does not have the rows of the backup, as `connection`, in its transaction, sees it."""
    _require(_count_in(connection, list(expected)), expected)


def _require(counted: list[tuple[TableName, int]], expected: dict[TableName, int]) -> None:
    wrong = [
        f"{schema}.{table} has {count_text(count, 'row')} instead of {expected[schema, table]:,}"
        for (schema, table), count in counted
        if count != expected[schema, table]
    ]
    if wrong:
        raise RestoreFailed(
            f"The loaded database does not have the rows of the backup: {'; '.join(wrong[:10])}. "
            "The live database is untouched."
        )


def _count(server: Server, tables: list[TableName], options: str) -> list[tuple[TableName, int]]:
    if not tables:
        return []
    with closing(server.connect(options=f"{options} -c row_security=off")) as session:
        return _count_in(session, tables)


def _count_in(session: Connection, tables: list[TableName]) -> list[tuple[TableName, int]]:
    counted = []
    for schema, table in tables:
        name = sql.Identifier(schema, table) if schema else sql.Identifier(table)
        # A foreign dump may have loaded partitions through their root, which holds no row itself.
        # Qualified: the loaded database may have a search_path of its own.
        query = "SELECT relkind FROM pg_catalog.pg_class WHERE oid = %s::pg_catalog.regclass"
        kind = session.execute(query, (name.as_string(),))
        only = sql.SQL("" if kind.fetchone() == ("p",) else "ONLY ")
        row = session.execute(sql.SQL("SELECT pg_catalog.count(*) FROM {}{}").format(only, name)).fetchone()
        counted.append(((schema, table), row[0] if row else -1))
    return counted
