"""Restore: plan, load and stage beside the live side, check, swap; the replaced side is kept.

Files are swapped first and the database last, because the database's swap is one transaction: its commit is the
restore's commit. Whatever fails or dies before it leads back to the old side, whole (docs/ordering.md, 15 to 19).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from resurgam.archive.opening import Archive
from resurgam.catalog.state import State
from resurgam.clock import Clock
from resurgam.errors import DatabaseError, RestoreFailed, RestoreRefused, UsageError
from resurgam.operations.backup import Application
from resurgam.operations.check_fingerprint import NO_FINGERPRINT, recorded_fingerprint, require_equal
from resurgam.operations.config_diff import config_diffs
from resurgam.operations.inventory import Inventory
from resurgam.operations.kept import SWAP
from resurgam.operations.kept_marks import mark_kept
from resurgam.operations.progress import Progress
from resurgam.operations.recovery import recover_restores, settle_restore
from resurgam.operations.restore_database import (
    DatabasePlan,
    Journal,
    LoadedDatabase,
    load_database,
    open_dump,
    plan_database,
    scan_dump,
)
from resurgam.operations.restore_files import Places, StagedFiles, plan_files, stage_files
from resurgam.operations.restore_in_place import NOT_KEPT, replaced_in_place
from resurgam.operations.restore_lock import lock_database
from resurgam.operations.restore_plan import Parts, RestorePlan, Wishes
from resurgam.operations.run_ids import PLANNED, new_id
from resurgam.operations.safety_backup import SafetyBackups, take_safety_backup
from resurgam.operations.swap_paths import Kept, swap_in
from resurgam.policy.estimate import Timing, estimate
from resurgam.postgres.connection import Server
from resurgam.postgres.roles import drop_roles
from resurgam.postgres.snapshot import Connection
from resurgam.postgres.swap import database_oid, swap_databases

__all__ = ["Parts", "RestorePlan", "RestoreResult", "Restoring", "Wishes"]


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A restore that is complete. `kept` is where the replaced side is; `offline` how long no session was possible."""

    plan: RestorePlan
    loaded: LoadedDatabase | None
    previous_database: str | None
    kept: tuple[Kept, ...]
    offline: float
    seconds: float
    warnings: tuple[str, ...]
    safety_backup: str | None = None

    def to_json(self) -> dict[str, Any]:
        plan = self.plan
        rows = {} if self.loaded is None else self.loaded.rows
        return {
            "success": True,
            "backup_name": plan.name,
            "backup_date": plan.date,
            "restored_database": self.loaded is not None,
            "restored_config": list(plan.files.config) if plan.files and plan.parts.config else [],
            "restored_files": [name for name, _ in plan.files.trees] if plan.files and plan.parts.files else [],
            "tables": len(rows),
            "rows": sum(rows.values()),
            "previous_database": self.previous_database,
            "previous_paths": {str(k.target): str(k.previous) for k in self.kept if k.previous is not None},
            "safety_backup": self.safety_backup,
            "offline_seconds": round(self.offline, 3),
            "seconds": round(self.seconds, 3),
            "bytes": plan.size,
            "warnings": list(self.warnings),
            "warning": "Application may need to be restarted after restore completes",
        }


@dataclass(slots=True)
class Restoring:
    """What every step of a restore needs."""

    application: Application
    inventory: Inventory
    open_state: Callable[[], State]
    places: Places
    connections: int
    clock: Clock
    progress: Progress
    safety: SafetyBackups
    earlier: Callable[[], Sequence[Timing]]
    server_of: Callable[[str], Server]
    pg_bin: Path | None

    def plan(self, name: str, parts: Parts, wishes: Wishes | None = None) -> RestorePlan:
        """Only the plan: what would change, how long it should take, and what stands in the way. Touches nothing."""
        with self.opened(name, parts, wishes or Wishes(), PLANNED) as (archive, plan):
            diffs = config_diffs(archive, plan.files.config, self.places.app_dir) if plan.files else ()
            return replace(plan, config_diffs=diffs, estimate=estimate(plan.size, self.earlier()))

    def restore(self, name: str, parts: Parts, wishes: Wishes | None = None) -> RestoreResult:
        """Do it. RestoreRefused with all problems before anything is touched; after any failure all is as it was."""
        started = self.clock.monotonic()
        state = self.open_state()
        with ExitStack() as locks, self.inventory.folder.lock():
            settled = recover_restores(state, self.application.server, self.inventory.folder.path)
            self.inventory.folder.sweep()
            wishes = wishes or Wishes()
            wishes.check()
            safe = wishes.in_place or (self.safety.wanted if wishes.safety is None else wishes.safety)
            holder = self._lock(locks, needed=parts.database) if parts.database or safe else None
            restore_id = new_id(self.clock.now())
            with self.opened(name, parts, wishes, restore_id) as (archive, plan):
                if plan.problems:
                    raise RestoreRefused(plan.problems, "Mend these and restore again.")
                safety: str | None = None
                told: tuple[str, ...] = ()
                if safe:
                    about = (self.application, self.inventory, holder, self.clock, self.progress)
                    safety, told = take_safety_backup(self.safety, *about)
                    if wishes.in_place:
                        told = _way_back(safety, told)
                with roles_taken_back(plan.database):
                    loaded, kept, offline = self._execute(archive, plan, wishes, restore_id, locks, state, safety or "")
        return RestoreResult(
            plan=plan,
            loaded=loaded,
            previous_database=_replaced(plan.database),
            kept=kept,
            offline=offline,
            seconds=self.clock.monotonic() - started,
            warnings=(*settled, *plan.warnings, *told, *(loaded.warnings if loaded else ())),
            safety_backup=safety,
        )

    def _lock(self, locks: ExitStack, *, needed: bool) -> Connection | None:
        """Keep backups of the live database away. DatabaseError if it is `needed` and the server can't be reached."""
        try:
            return lock_database(self.application, locks)
        except DatabaseError:
            if needed:
                raise
            return None  # files are restored without it

    @contextmanager
    def opened(self, name: str, parts: Parts, wishes: Wishes, restore_id: str) -> Iterator[tuple[Archive, RestorePlan]]:
        """The archive and the plan of a restore with that id; the archive is open until the block ends."""
        if not (parts.database or parts.config or parts.files):
            raise UsageError("Nothing was asked for: database, config and files are all switched off.")
        if wishes.in_place and not parts.database:
            raise UsageError("In place is about the database, which is switched off; nothing was done.")
        self.inventory.refresh()
        record = self.inventory.find(name)
        with self.inventory.open(record) as archive, ExitStack() as cleanup:
            metadata = archive.metadata()
            database = files = None
            problems: tuple[str, ...] = ()
            warnings: tuple[str, ...] = ()
            if parts.database:
                dump = cleanup.enter_context(open_dump(archive, metadata, self.places.scratch))
                script = scan_dump(dump, metadata, self.progress)
                server = self.target(wishes, metadata) if wishes.elsewhere else self.application.server
                side: Literal["replaced", "new", "kept"] = "new" if wishes.elsewhere else "kept"
                database, problems, warnings = plan_database(
                    server,
                    script,
                    dump,
                    metadata,
                    restore_id,
                    roles=wishes.roles,
                    live_side=side if wishes.beside else "in place" if wishes.in_place else "replaced",
                )
                if wishes.full_check and recorded_fingerprint(metadata) is None:
                    problems = (*problems, NO_FINGERPRINT)
            if parts.config or parts.files:
                files, more, told = plan_files(
                    archive, self.places, config=parts.config, files=parts.files, metadata=metadata
                )
                problems, warnings = (*problems, *more), (*warnings, *told)
            date = str(metadata.get("datetime", ""))[:19]
            yield archive, RestorePlan(record.name, date, parts, database, files, problems, warnings)

    def target(self, wishes: Wishes, metadata: Mapping[str, Any]) -> Server:
        """Where a database goes that is not to replace the live one."""
        server = self.server_of(wishes.to_server) if wishes.to_server else self.application.server
        name = wishes.into or metadata["database"].get("name")
        if not isinstance(name, str) or not name:
            raise UsageError("The backup does not say what its database was called: give a name; nothing was done.")
        return server.at(name)

    def _execute(
        self,
        archive: Archive,
        plan: RestorePlan,
        wishes: Wishes,
        restore_id: str,
        locks: ExitStack,
        state: State,
        safety: str,
    ) -> tuple[LoadedDatabase | None, tuple[Kept, ...], float]:
        """Load, stage, swap. Journalled step by step; on failure everything is put back before the cause is raised."""

        def journal(step: str, data: dict[str, Any]) -> None:
            state.journal_step(restore_id, step, data)

        database = plan.database
        folder = os.path.realpath(self.inventory.folder.path)
        begun = {"backup": plan.name, "database": database.live if database else None, "folder": folder}
        state.journal_begin(restore_id, begun)
        loaded, staged = None, StagedFiles((), ())
        try:
            if database is not None and not database.in_place:
                loaded = load_database(database, self.connections, journal, self.progress)
                if wishes.full_check:
                    require_equal(
                        database,
                        loaded,
                        archive.metadata(),
                        pg_bin=self.pg_bin,
                        clock=self.clock,
                        progress=self.progress,
                    )
            if plan.files is not None:
                staged = stage_files(plan.files, archive, self.places, restore_id, journal, self.progress)

            def swap_files() -> tuple[Kept, ...]:
                self.progress.phase("Swapping")
                return swap_in(staged.items, lambda step, data: journal(f"{SWAP}{step}", data))

            if database is not None and database.in_place:
                about = (database, safety, journal, self.clock, self.progress)
                with replaced_in_place(*about) as (transaction, loaded):
                    if wishes.full_check:
                        transaction.require_equal(database, archive.metadata())
                    kept = swap_files()
                    offline = transaction.commit()
            else:
                locks.close()  # the advisory lock's session is in the database that is about to be renamed
                kept = swap_files()
                offline = self._swap_database(database, journal) if database is not None else 0.0
            mark_kept(self.application.server, journal, _replaced(database), kept)
            journal("complete", {})
        finally:
            # By the journal, as after a crash: what was not committed is put back, left-overs go.
            settle_restore(state, self.application.server, restore_id)
        return loaded, kept, offline

    def _swap_database(self, plan: DatabasePlan, journal: Journal) -> float:
        with closing(plan.maintenance.connect()) as session:
            fresh, old = database_oid(session, plan.fresh), database_oid(session, plan.live)
        data = {"live": plan.live, "fresh": plan.fresh, "fresh_oid": fresh, "previous": plan.previous, "old_oid": old}
        journal("database_swap", data)
        return swap_databases(plan.maintenance, plan.live, plan.fresh, plan.previous, self.clock)


def _replaced(plan: DatabasePlan | None) -> str | None:
    """What the replaced database is called now; None if it is not kept."""
    return plan.previous if plan is not None and plan.replaces and not plan.in_place else None


def _way_back(safety: str | None, told: tuple[str, ...]) -> tuple[str, ...]:
    """What to say of a restore in place, which the safety backup takes back. RestoreFailed if there is none."""
    if safety is None:
        raise RestoreFailed(
            "In place nothing is kept but the backup of the present state, and that could not be taken, so nothing was "
            f"touched. {' '.join(told)}",
            "Let a superuser run ALTER ROLE … CREATEDB, and restore without --in-place.",
        )
    return (*told, NOT_KEPT.format(safety))


@contextmanager
def roles_taken_back(plan: DatabasePlan | None) -> Iterator[None]:
    """Drop the roles that were made for a restore which then failed; one that something refers to stays."""
    try:
        yield
    except BaseException:
        if plan is not None and plan.create_roles:
            with suppress(DatabaseError), closing(plan.maintenance.connect()) as session:
                drop_roles(session, plan.create_roles)
        raise
