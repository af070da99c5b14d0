"""Restores that leave everything live as it is: a database under another name or on another server, single tables and
schemas, single files and folders.

Nothing is swapped, so there is nothing to undo: the journals of these restores never end as `completed`. One that dies
is put back like any other, by what it noted (recovery.py); on another server at the next restore that goes there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from resurgam.archive.opening import Archive
from resurgam.catalog.state import State
from resurgam.errors import RestoreFailed, RestoreRefused
from resurgam.operations.check_fingerprint import require_equal
from resurgam.operations.recovery import recover_restores, settle_restore
from resurgam.operations.restore import Restoring, roles_taken_back
from resurgam.operations.restore_database import DatabasePlan, load_database
from resurgam.operations.restore_plan import BesidePlan, Made, Parts, RestorePlan, Wishes
from resurgam.operations.run_ids import PLANNED, new_id
from resurgam.policy.estimate import estimate
from resurgam.postgres.connection import Server

Journal = Callable[[str, dict[str, Any]], None]
DATABASE = Parts(database=True, config=False, files=False)


@dataclass(frozen=True, slots=True)
class BesideResult:
    """What was made, and where; the live side is as it was. `rows` that were loaded, `bytes` of dump or files."""

    plan: BesidePlan
    made: tuple[Made, ...]
    rows: int
    seconds: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "success": True,
            "backup_name": self.plan.name,
            "backup_date": self.plan.date,
            "made": [made.to_json() for made in self.made],
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }


def plan_beside(restoring: Restoring, name: str, wishes: Wishes) -> BesidePlan:
    """What the restore would do; nothing is touched. UsageError for wishes that do not go together."""
    wishes.check()
    if wishes.paths:
        from resurgam.operations.restore_paths import plan_paths

        return plan_paths(restoring, name, wishes)
    with restoring.opened(name, DATABASE, wishes, PLANNED) as (_, plan):
        beside = _plan(plan, wishes, PLANNED)
        return replace(beside, estimate=estimate(beside.size, restoring.earlier()))


def restore_beside(restoring: Restoring, name: str, wishes: Wishes) -> BesideResult:
    """Do it. RestoreRefused with all problems before anything is touched; after any failure all is as it was."""
    wishes.check()
    if wishes.paths:
        from resurgam.operations.restore_paths import restore_paths

        return restore_paths(restoring, name, wishes)
    started = restoring.clock.monotonic()
    state = restoring.open_state()
    folder = restoring.inventory.folder
    with folder.lock():
        settled = recover_restores(state, restoring.application.server, folder.path)
        folder.sweep()
        restore_id = new_id(restoring.clock.now())
        with restoring.opened(name, DATABASE, wishes, restore_id) as (archive, plan):
            beside = _plan(plan, wishes, restore_id)
            assert plan.database is not None
            if wishes.to_server:
                settle_elsewhere(state, plan.database.server, wishes.to_server)
            if beside.problems:
                raise RestoreRefused(beside.problems, "Mend these and restore again.")
            with (
                roles_taken_back(plan.database),
                journalled(restoring, state, plan.database.server, beside, restore_id, wishes) as journal,
            ):
                made, rows, warnings = _execute(restoring, archive, beside, wishes, restore_id, journal)
    seconds = restoring.clock.monotonic() - started
    return BesideResult(beside, made, rows, seconds, (*settled, *beside.warnings, *warnings))


def _plan(plan: RestorePlan, wishes: Wishes, restore_id: str) -> BesidePlan:
    if wishes.elsewhere:
        assert plan.database is not None
        made = (Made("database", plan.name, plan.database.live, plan.database.server.describe()),)
        return BesidePlan(plan.name, plan.date, made, plan.database, plan.size, plan.problems, plan.warnings)
    from resurgam.operations.restore_selected import plan_selected

    return plan_selected(plan, wishes, restore_id)


def _execute(
    restoring: Restoring, archive: Archive, plan: BesidePlan, wishes: Wishes, restore_id: str, journal: Journal
) -> tuple[tuple[Made, ...], int, tuple[str, ...]]:
    if wishes.elsewhere:
        assert plan.database is not None
        loaded = load_database(plan.database, restoring.connections, journal, restoring.progress)
        if wishes.full_check:
            require_equal(
                plan.database,
                loaded,
                archive.metadata(),
                pg_bin=restoring.pg_bin,
                clock=restoring.clock,
                progress=restoring.progress,
            )
        _name(plan.database)
        return plan.made, sum(loaded.rows.values()), loaded.warnings
    from resurgam.operations.restore_selected import restore_selected

    return restore_selected(restoring, plan, restore_id, journal)


def _name(plan: DatabasePlan) -> None:
    """Give the loaded database its name. From here on it is the user's, and nothing of ours removes it."""
    names = sql.Identifier(plan.fresh), sql.Identifier(plan.live)
    with closing(plan.maintenance.connect()) as session:
        try:
            session.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))
        except psycopg.Error as error:
            raise RestoreFailed(
                f"The loaded database could not get the name {plan.live} ({error.diag.message_primary or error}); "
                "everything is as it was."
            ) from None


@contextmanager
def journalled(
    restoring: Restoring, state: State, server: Server, plan: BesidePlan, restore_id: str, wishes: Wishes
) -> Iterator[Journal]:
    """A journal that ends as `beside`, or is settled, which removes what was made so far."""
    folder = os.path.realpath(restoring.inventory.folder.path)
    begun = {"backup": plan.name, "database": None, "folder": folder, "beside": True}
    state.journal_begin(restore_id, {**begun, **({"to_server": wishes.to_server} if wishes.to_server else {})})
    try:
        yield lambda step, data: state.journal_step(restore_id, step, data)
        state.journal_end(restore_id, "beside")
    except BaseException:
        settle_restore(state, server, restore_id)
        raise


def settle_elsewhere(state: State, server: Server, name: str) -> None:
    """Put back what died on its way to that other server."""
    for journal in state.open_journals():
        if journal.plan.get("to_server") == name and not journal.alive:
            settle_restore(state, server, journal.restore_id)
