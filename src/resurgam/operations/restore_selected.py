"""Single tables and schemas of a backup, into the live database beside the present ones, under new names.

The dump's definitions and the wanted data go into a scratch database; there the server itself renames what is to come;
pg_dump writes that, and the loader brings it into the live database in one transaction (postgres/selection.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import IO, Any

import psycopg

from resurgam.errors import NotFoundError, RestoreFailed
from resurgam.operations.restore import Restoring
from resurgam.operations.restore_database import FileDump, drop_database, load_database
from resurgam.operations.restore_plan import BesidePlan, Made, RestorePlan, Wishes
from resurgam.postgres.clients import find_clients
from resurgam.postgres.connection import Server
from resurgam.postgres.dump import dump_parts
from resurgam.postgres.loader import LoadOptions, load
from resurgam.postgres.script import CopyBlock, Script, ScriptScanner
from resurgam.postgres.selection import (
    Renamed,
    Selection,
    in_one_transaction,
    rename_in_scratch,
    restored_name,
    select_items,
)
from resurgam.postgres.statements import Relation

Journal = Callable[[str, dict[str, Any]], None]
_READ = 1 << 20


def plan_selected(plan: RestorePlan, wishes: Wishes, restore_id: str) -> BesidePlan:
    """What would be made of the tables and schemas; a name that the backup has not is a problem."""
    database = plan.database
    assert database is not None
    problems, warnings = plan.problems, plan.warnings
    made: tuple[Made, ...] = ()
    selection: Selection | None = None
    try:
        selection = select_items(database.script, wishes.tables, wishes.schemas, foreign_keys=wishes.foreign_keys)
    except NotFoundError as error:
        problems = (*problems, f"{error.message} {error.hint}")
    else:
        database = replace(database, script=selection.script)
        suffix = _suffix(restore_id)
        made = tuple(Made("schema", one, restored_name(one, suffix), database.live) for one in selection.schemas)
        made += tuple(
            Made("table", str(one), str(replace(one, name=restored_name(one.name, suffix))), database.live)
            for one in selection.tables
        )
        if selection.left_out:
            warnings = (
                *warnings,
                f"Foreign keys do not come along: {', '.join(selection.left_out[:10])}. "
                "--foreign-keys takes those of tables, not checked.",
            )
    if not database.replaces:
        problems = (*problems, f"The database {database.live}, into which they should go, does not exist.")
    size = sum(item.length for item in database.script.items if isinstance(item, CopyBlock))
    return BesidePlan(plan.name, plan.date, made, database, size, problems, warnings, selection=selection)


def restore_selected(
    restoring: Restoring, plan: BesidePlan, restore_id: str, journal: Journal
) -> tuple[tuple[Made, ...], int, tuple[str, ...]]:
    """Load, rename, bring over. What is answered: what was made, the rows, sentences on what the server refused."""
    database, selection = plan.database, plan.selection
    assert database is not None and selection is not None
    loaded = load_database(database, restoring.connections, journal, restoring.progress)
    scratch = database.server.at(database.fresh)
    with closing(scratch.connect()) as session:
        renamed = rename_in_scratch(session, selection, _suffix(restore_id))
        path = restoring.application.server.environment.get("PATH")
        tools = find_clients(session.info.server_version, restoring.pg_bin, path)
        encoding = session.info.parameter_status("server_encoding")
    restoring.progress.phase("Bringing it into the live database")
    with tempfile.TemporaryFile(dir=restoring.places.scratch, buffering=0) as file:
        options = [f"--{one.kind}={one.new}" for one in renamed]
        dump_parts(scratch, tools, [*options, f"--encoding={encoding}"], file.fileno())
        script = _scan(file)
        whole = in_one_transaction(script)
        dump = FileDump(file.fileno(), script.size)
        load(whole, dump, database.server.connect, LoadOptions(database.facts, connections=1))
    drop_database(database.maintenance, database.fresh)
    suffix = _suffix(restore_id)
    views = [Relation(restored_name(one.schema or "", suffix), one.name) for one in selection.views]
    told = _finish(database.server, renamed, views)
    return plan.made, sum(loaded.rows.values()), (*loaded.warnings, *told)


def _suffix(restore_id: str) -> str:
    return f"_restored_{restore_id}"


def _scan(file: IO[bytes]) -> Script:
    file.seek(0)
    scanner = ScriptScanner()
    while block := file.read(_READ):
        scanner.feed(block)
    script = scanner.finish()
    if not script.complete:
        raise RestoreFailed(f"pg_dump's output is not whole: {script.missing}; the live database is as it was.")
    return script


def _finish(server: Server, renamed: tuple[Renamed, ...], views: list[Relation]) -> tuple[str, ...]:
    """Fill views, gather statistics: what fails here does not take back what was brought over."""
    told = []
    steps = [f"REFRESH MATERIALIZED VIEW {view.sql()}" for view in views]
    steps += [f"ANALYZE {one.new}" for one in renamed if one.kind == "table"]
    with closing(server.connect()) as session:
        for text in steps:
            try:
                session.execute(text.encode())
            except psycopg.Error as error:
                told.append(f"The server refused {text[:200]!r} ({error.diag.message_primary or error}).")
    return tuple(told)
