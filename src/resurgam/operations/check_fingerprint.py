"""The whole check of a loaded database: is it what was backed up? (docs/archive-format.md, sentences 27 to 30)"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from resurgam.clock import Clock
from resurgam.errors import RestoreFailed, VerifyFailed
from resurgam.operations.progress import Progress
from resurgam.operations.restore_database import DatabasePlan, LoadedDatabase, without_event_triggers
from resurgam.postgres.clients import ClientTools, find_clients
from resurgam.postgres.connection import Server
from resurgam.postgres.fingerprint import (
    OWNERS,
    Fingerprint,
    compare,
    definition_differences,
    read_back,
    without,
    without_invented_names,
    without_stale_views,
)
from resurgam.postgres.loader import DumpReader
from resurgam.postgres.multiset import same_rows
from resurgam.postgres.plain_script import LeftOut
from resurgam.postgres.script import CopyBlock, Script, Statement
from resurgam.postgres.statements import owner_of
from resurgam.postgres.taking import Taker, definitions_of, table_digest

NO_FINGERPRINT = "The backup has no fingerprint to compare with: an older version or another program made it."
_TOLD = 20
_NOTHING = Script((), 0, "", None, None, None, "UTF8", {})


def recorded_fingerprint(metadata: dict[str, Any]) -> Fingerprint | None:
    """What the backup says of its database; None if it says nothing, as older and foreign ones. Raises DamagedError."""
    found = metadata["database"].get("fingerprint")
    return None if found is None else Fingerprint.from_json(found)


def require_equal(
    plan: DatabasePlan,
    loaded: LoadedDatabase,
    metadata: dict[str, Any],
    *,
    pg_bin: Path | None,
    clock: Clock,
    progress: Progress,
) -> None:
    """RestoreFailed, with what differs, if the database that was loaded is not what was backed up."""
    differences = check_loaded(plan, loaded, metadata, pg_bin=pg_bin, clock=clock, progress=progress)
    if differences:
        more = f" And {len(differences) - _TOLD} more." if len(differences) > _TOLD else ""
        raise RestoreFailed(
            f"The loaded database is not what was backed up: {' '.join(differences[:_TOLD])}{more} "
            "The live database is untouched.",
            "Use another backup; `resurgam verify` tells whether this one is damaged.",
        )


def check_loaded(
    plan: DatabasePlan,
    loaded: LoadedDatabase,
    metadata: dict[str, Any],
    *,
    pg_bin: Path | None,
    clock: Clock,
    progress: Progress,
    left_out: tuple[LeftOut, ...] = (),
    login: str = "",
) -> tuple[str, ...]:
    """What differs between the database that was loaded by `plan` and the backup; empty if nothing does.

    Kinds of which the server did not take every statement, as the warnings tell, are not compared, nor is what was
    `left_out` by a `login` of ours, which owns everything. Raises as `check_fingerprint`, and ClientToolError if there
    is no pg_dump.
    """
    # An event trigger on logins would write rows while they are read.
    server = plan.server.at(plan.fresh).telling(without_event_triggers(plan.facts))
    tools = find_clients(plan.facts.server_version, pg_bin, server.environment.get("PATH"))
    progress.phase("Reading the new database back", plan.script.size)
    return check_fingerprint(
        server,
        tools,
        metadata,
        plan.script,
        plan.dump,
        clock=clock,
        ignore=_kinds_at(plan.script, loaded.skipped_lines) | ({OWNERS} if login else frozenset()),
        definitions=_same_words(plan, tools, metadata),
        on_bytes=progress.advance,
        left_out=left_out,
        login=login,
    )


def check_fingerprint(
    server: Server,
    tools: ClientTools,
    metadata: dict[str, Any],
    script: Script,
    dump: DumpReader,
    *,
    clock: Clock,
    ignore: Set[str] = frozenset(),
    definitions: bool = True,
    on_bytes: Callable[[int], None] = lambda count: None,
    left_out: tuple[LeftOut, ...] = (),
    login: str = "",
) -> tuple[str, ...]:
    """Read the database that `server` names back, and compare: what differs, a sentence each; empty if all is there.

    `script` and `dump` are the backup's: tables whose digests differ are looked at row by row. `ignore` as in
    `compare`; without `definitions` no objects are compared. What was `left_out` is not expected, and what is given to
    `login` passed over. VerifyFailed if the backup has no fingerprint; raises
    what reading back raises.
    """
    expected = recorded_fingerprint(metadata)
    if expected is None:
        raise VerifyFailed(NO_FINGERPRINT, "Restore it with its rows counted, which is always done.")
    expected = without(expected, _print_of(left_out))
    found = read_back(server, tools, clock=clock, on_bytes=on_bytes, passing_over=login)
    tables = dict(found.tables)
    with closing(server.connect(options="-c row_security=off")) as connection:
        for table, wanted in expected.tables.items():
            got = tables.get(table, wanted)
            if got[0] != wanted[0] or got[1] == wanted[1] or table_digest(script, dump, table) != wanted[1]:
                continue
            # The dump is the one that was taken, so that it can be asked for the rows themselves.
            if same_rows(connection, script, dump, table):
                tables[table] = wanted
        found = without_stale_views(connection, expected, replace(found, tables=tables))
    if definitions:
        expected, found = without_invented_names(expected, found, without(definitions_of(script), _print_of(left_out)))
    else:
        expected, found = replace(expected, objects={}), replace(found, objects={})
    return compare(expected, found, ignore)


def dump_differences(taker: Taker, script: Script, metadata: dict[str, Any]) -> tuple[str, ...]:
    """What the dump, which passed before `taker`, defines otherwise than the backup says; nothing if it says nothing.

    So what can't be loaded is compared by its text.
    """
    expected = recorded_fingerprint(metadata)
    return () if expected is None else definition_differences(expected, taker.fingerprint(script, {}))


def data_differences(
    left_out: tuple[LeftOut, ...], script: Script, dump: DumpReader, metadata: dict[str, Any]
) -> Iterator[str]:
    """Tables that were left out, and whose data in the dump are not those that were backed up."""
    expected = recorded_fingerprint(metadata)
    for table in sorted(_print_of(left_out).tables, key=str):
        wanted = None if expected is None else expected.tables.get(table)
        if wanted is not None and (script.rows.get(table), table_digest(script, dump, table)) != wanted:
            yield f"The table {'.'.join(part for part in table if part)} has other data in the dump."


def _print_of(left_out: tuple[LeftOut, ...]) -> Fingerprint:
    """What these items contribute to a fingerprint; of data only their tables' names."""
    taker = Taker()
    views = {}
    for one in left_out:
        if isinstance(one.item, CopyBlock):
            taker.table(one.item.table)
        elif isinstance(one.item, Statement) and one.item.setting is None:
            taker.statement(one.item.text, one.item.toc)
            if one.item.toc is not None and one.item.toc.type == "MATERIALIZED VIEW":
                views[f"{one.item.toc.schema}.{one.item.toc.name}"] = (0, "")
    found = taker.fingerprint(_NOTHING, views)
    tables = {(one.item.table.schema, one.item.table.name) for one in left_out if isinstance(one.item, CopyBlock)}
    return replace(found, tables=dict.fromkeys(tables, (0, "")))


def _same_words(plan: DatabasePlan, tools: ClientTools, metadata: dict[str, Any]) -> bool:
    """Whether definitions read the same: other versions of server or pg_dump write them in other words."""
    database = metadata["database"]
    server, client = database.get("server_version"), str(database.get("client_version", "")).split(".")[0]
    return server is not None and server // 10_000 == plan.facts.server_version // 10_000 and client == str(tools.major)


def _kinds_at(script: Script, lines: Set[int]) -> frozenset[str]:
    """The kinds of objects, as a fingerprint has them, that statements at these lines of the dump belong to."""
    statements = {item.line: item for item in script.items if isinstance(item, Statement)}
    found = (statements.get(line) for line in lines)
    return frozenset(
        # What is no statement of the script stands in a run of large objects, of which only owners are left out.
        OWNERS if item is None or owner_of(item.text, "utf-8") is not None else item.toc.type if item.toc else ""
        for item in found
    )
