"""Undo: brings back what the latest restore replaced, in seconds, and keeps what it had restored.

An undo is a swap like the restore's, with what was kept in place of what is loaded and staged: files and folders first,
the database last, whose commit is the undo's commit; journalled the same way, and settled by the same code after a
crash (docs/ordering.md). So it can be undone itself: a second undo goes forward again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resurgam.catalog.state import Journal, State
from resurgam.clock import Clock
from resurgam.errors import RestoreRefused, StorageError
from resurgam.operations.backup import Application
from resurgam.operations.kept import SWAP, Side, database_swap, in_place_step, is_ours, sides_of, swap_steps
from resurgam.operations.kept_marks import changed_since, is_there, mark_kept
from resurgam.operations.progress import Progress
from resurgam.operations.recovery import recover_restores, settle_restore
from resurgam.operations.restore_lock import lock_database
from resurgam.operations.run_ids import PLANNED, new_id
from resurgam.operations.swap_paths import Kept, PathKind, SwapItem, plan_away, plan_swap, replaced_of, swap_in
from resurgam.postgres.connection import Server, short_name
from resurgam.postgres.swap import database_oid, maintenance_server, swap_databases
from resurgam.postgres.target import replacement_problems
from resurgam.stores.folder import BackupFolder

_NOTHING = "There is nothing to undo: no restore into {} is complete, or it changed nothing."
_IN_PLACE = "That restore was in place, so no previous database was kept: restore its safety backup {} to go back."
_WARNING = "Application may need to be restarted after undo completes"


@dataclass(frozen=True, slots=True)
class DatabaseSwap:
    """`live` is renamed to `kept_as`, if it is there, and `brings_back` to `live`, if there was one."""

    live: str
    brings_back: str | None
    kept_as: str


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """What an undo would do. `problems` refuse it; so does what `changes` says, unless that is accepted."""

    undo_id: str
    undoes: Journal
    database: DatabaseSwap | None
    items: tuple[SwapItem, ...]
    problems: tuple[str, ...]
    changes: tuple[str, ...]

    @property
    def what(self) -> str:
        """What would be taken back, for messages."""
        backup = self.undoes.plan.get("backup", "a backup")
        return f"the undo of the restore of {backup}" if "undoes" in self.undoes.plan else f"the restore of {backup}"

    def to_json(self) -> dict[str, Any]:
        database = self.database
        ended = self.undoes.ended_at
        return {
            "success": not (self.problems or self.changes),
            "dry_run": True,
            "undoes": self.undoes.restore_id,
            "backup_name": self.undoes.plan.get("backup"),
            "is_redo": "undoes" in self.undoes.plan,
            "completed_at": None if ended is None else ended.isoformat(timespec="seconds"),
            "database": None
            if database is None
            else {"name": database.live, "brings_back": database.brings_back, "kept_as": database.kept_as},
            "paths": {
                str(item.target): str(item.staged) if item.staged != item.target else None for item in self.items
            },
            "problems": list(self.problems),
            "changes": list(self.changes),
        }


@dataclass(frozen=True, slots=True)
class UndoResult:
    """An undo that is complete. `kept` and `kept_database` are where what it took back is now."""

    plan: UndoPlan
    kept_database: str | None
    kept: tuple[Kept, ...]
    offline: float
    seconds: float
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "success": True,
            "undo_id": plan.undo_id,
            "undone": plan.undoes.restore_id,
            "backup_name": plan.undoes.plan.get("backup"),
            "is_redo": "undoes" in plan.undoes.plan,
            "database": None if plan.database is None else plan.database.live,
            "kept_database": self.kept_database,
            "kept_paths": {str(k.target): str(k.previous) for k in self.kept if k.previous is not None},
            "offline_seconds": round(self.offline, 3),
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
            "warning": _WARNING,
        }


@dataclass(slots=True)
class Undoing:
    """What an undo needs."""

    application: Application
    folder: BackupFolder
    open_state: Callable[[], State]
    clock: Clock
    progress: Progress

    def plan(self) -> UndoPlan:
        """What it would do, and what stands in its way; nothing is touched. RestoreRefused if there is nothing."""
        plan = self._plan(self.open_state())
        if plan.database is None:
            return plan
        return replace(plan, database=replace(plan.database, kept_as=_kept_as(plan.database.live, PLANNED)))

    def undo(self, expected: str = "", *, accept_changes: bool = False) -> UndoResult:
        """Do it. RestoreRefused with all problems before anything is touched; after any failure all is as it was.

        `expected`: the id of the restore that is to be undone, as the plan has it; refused where a later one came.
        """
        started = self.clock.monotonic()
        state = self.open_state()
        with ExitStack() as locks, self.folder.lock():
            settled = recover_restores(state, self.application.server, self.folder.path)
            try:
                plan = self._plan(state)
            except RestoreRefused as error:
                # A restore that died and was put back just now leaves nothing to undo: say that it was.
                raise RestoreRefused((*settled, *error.problems), error.hint) from None
            if plan.database is not None:
                lock_database(self.application, locks)
            problems = (*plan.problems, *(() if accept_changes else plan.changes))
            if expected not in ("", plan.undoes.restore_id):
                problems = (
                    f"A later restore or undo ({plan.undoes.restore_id}) came after {expected}, and the latest goes "
                    "first.",
                    *problems,
                )
            if problems:
                raise RestoreRefused((*settled, *problems), undo_hint(plan))
            kept_database, kept, offline = self._execute(plan, locks, state)
        return UndoResult(plan, kept_database, kept, offline, self.clock.monotonic() - started, settled)

    def _plan(self, state: State) -> UndoPlan:
        journal = _latest(state, self.folder.path)
        if journal is None:
            raise RestoreRefused((_NOTHING.format(self.folder.path),), "`resurgam list` shows what can be restored.")
        undo_id = new_id(self.clock.now())
        server = self.application.server.named()
        problems: list[str] = []
        changes: list[str] = []
        for side in sides_of(journal):
            problem = _lost(server, side)
            if problem:
                problems.append(problem)
            elif side.mark is not None and (change := changed_since(server, side)):
                changes.append(f"What was kept as {side.place} is not as it was: {change}.")
        if (in_place := in_place_step(journal)) is not None:
            problems.append(_IN_PLACE.format(in_place["safety"]))
        database = None
        if (swap := database_swap(journal)) is not None:
            if "old_oid" not in swap:
                problems.append("That restore was made by an older version, which did not note what an undo needs.")
            else:
                database = _plan_database(swap, undo_id)
                problems += _database_problems(server, database)
        items = []
        if not problems:
            try:
                items = [_item(kept, undo_id) for kept in replaced_of(swap_steps(journal))]
            except StorageError as error:
                problems.append(error.message)
        return UndoPlan(undo_id, journal, database, tuple(items), tuple(problems), tuple(changes))

    def _execute(self, plan: UndoPlan, locks: ExitStack, state: State) -> tuple[str | None, tuple[Kept, ...], float]:
        def journal(step: str, data: dict[str, Any]) -> None:
            state.journal_step(plan.undo_id, step, data)

        server, database = self.application.server.named(), plan.database
        begun = {
            "backup": plan.undoes.plan.get("backup"),
            "undoes": plan.undoes.restore_id,
            "database": database.live if database else None,
            "folder": os.path.realpath(self.folder.path),
        }
        state.journal_begin(plan.undo_id, begun)
        kept_database, offline = None, 0.0
        try:
            for place in _emptied(plan):
                journal("tidy", {"path": os.fspath(place)})
            self.progress.phase("Swapping back")
            locks.close()  # the advisory lock's session is in the database that is about to be renamed
            kept = swap_in(plan.items, lambda step, data: journal(f"{SWAP}{step}", data))
            if database is not None:
                maintenance = maintenance_server(server)
                with closing(maintenance.connect()) as session:
                    fresh = None if database.brings_back is None else database_oid(session, database.brings_back)
                    old = database_oid(session, database.live)
                kept_database = None if old is None else database.kept_as
                journal(
                    "database_swap",
                    {
                        "live": database.live,
                        "fresh": database.brings_back,
                        "fresh_oid": fresh,
                        "previous": database.kept_as,
                        "old_oid": old,
                    },
                )
                names = (database.live, database.brings_back, database.kept_as)
                offline = swap_databases(maintenance, *names, self.clock)
            mark_kept(server, journal, kept_database, kept)
            journal("complete", {})
        finally:
            settle_restore(state, self.application.server, plan.undo_id)
        return kept_database, kept, offline


def undo_hint(plan: UndoPlan) -> str:
    """The next step where an undo is refused."""
    if plan.problems or not plan.changes:
        return "`resurgam list` shows the backups, one from before the restore among them if it took one; restore that."
    return "--accept-changes (API: accept_changes) brings it back as it is now."


def _latest(state: State, folder: Path) -> Journal | None:
    """The latest restore or undo of this folder that changed something."""
    done = (one for one in state.journals() if one.outcome == "completed" and is_ours(one, folder))
    swapped = [one for one in done if database_swap(one) or in_place_step(one) or swap_steps(one)]
    return swapped[-1] if swapped else None


def _lost(server: Server, side: Side) -> str:
    if side.swept_at is not None:
        return (
            f"What was kept as {side.place} was removed on {side.swept_at:%Y-%m-%d %H:%M} UTC, or by then: its time "
            "was over (RESTORE_KEEP)."
        )
    if side.sweeping or not is_there(server, side):
        return f"What was kept as {side.place} is not there any more."
    return ""


def _plan_database(swap: dict[str, Any], undo_id: str) -> DatabaseSwap:
    brings_back = swap["previous"] if swap["old_oid"] is not None else None
    return DatabaseSwap(swap["live"], brings_back, _kept_as(swap["live"], undo_id))


def _kept_as(live: str, undo_id: str) -> str:
    return short_name(live, f"_undone_{undo_id}")


def _database_problems(server: Server, database: DatabaseSwap) -> tuple[str, ...]:
    with closing(maintenance_server(server).connect()) as session:
        found = [*replacement_problems(session, database.live)]
        if database.brings_back is not None:
            found += replacement_problems(session, database.brings_back)
    return tuple(found)


def _item(kept: Kept, undo_id: str) -> SwapItem:
    if kept.previous is None:
        return plan_away(kept.target, undo_id)
    is_folder = stat.S_ISDIR(kept.previous.lstat().st_mode)
    return plan_swap(kept.target, kept.previous, PathKind.FOLDER if is_folder else PathKind.FILE, undo_id)


def _emptied(plan: UndoPlan) -> list[Path]:
    """What is of no use once the undo is complete: where things were kept, and folders that the restore had to make."""
    made = [Path(data["path"]) for name, data in swap_steps(plan.undoes) if name == "parent"]
    return [*(item.staged for item in plan.items if item.staged != item.target), *reversed(made)]
