"""Settles a restore or an undo by its journal, after a crash as at its end: finished, or put back.

It is docs/ordering.md's sentence 19. Each backup asks, and hardly ever is there anything to settle: what that takes is
imported then.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import closing
from pathlib import Path

from resurgam.catalog.state import Journal, State
from resurgam.operations.kept import database_swap, in_place_step, swap_steps
from resurgam.operations.move_entries import Look
from resurgam.operations.swap_paths import discard_staging, revert
from resurgam.postgres.connection import Server
from resurgam.postgres.swap import database_oid, maintenance_server, wait_until_decided
from resurgam.sources.excludes import OWN_PREFIX
from resurgam.stopping import UNDONE, Became, note_became, undisturbed


def recover_restores(state: State, server: Server, folder: Path) -> tuple[str, ...]:
    """Settle every open journal of `folder`; the caller holds its lock, so their processes are dead.

    A state file may be shared: what another folder's run began is left to that folder, whose lock and server it needs.
    Answers a sentence for each. Raises DatabaseError if the server is needed to decide and can't be asked, or
    RestoreFailed if something could not be put back; the journal then stays open for the next start.
    """
    return tuple(
        _told(journal, committed=_settle(state, server, journal))
        for journal in state.open_journals()
        # What went to another server can be settled only there (restore_beside.py).
        if not _elsewhere(journal, folder) and "to_server" not in journal.plan
    )


def _elsewhere(journal: Journal, folder: Path) -> bool:
    """Whether it belongs to another backup folder. One that is gone was moved or renamed: it is ours then."""
    theirs = journal.plan.get("folder")
    if theirs is None or theirs == os.path.realpath(folder):
        return False
    return journal.alive or os.path.isdir(theirs)  # noqa: PTH112 (a string of a journal)


def settle_restore(state: State, server: Server, restore_id: str) -> None:
    """Settle one restore or undo of this process; raises as `recover_restores` does.

    A signal waits until it is settled, and what it came too late for is noted (stopping.py).
    """
    journal = state.journal(restore_id)
    if journal is None:
        return
    with undisturbed():
        note_became(Became(f"whether the {_what(journal)} is complete is not settled yet"))
        committed = _settle(state, server, journal)
        note_became(Became(f"the {_what(journal)} was complete by then", complete=True) if committed else UNDONE)


def _what(journal: Journal) -> str:
    backup = journal.plan.get("backup", "a backup")
    return f"undo of the restore of {backup}" if "undoes" in journal.plan else f"restore of {backup}"


def _settle(state: State, server: Server, journal: Journal) -> bool:
    """Whether it was committed."""
    committed = _was_committed(server, journal)
    if not committed:
        revert(swap_steps(journal))
        for step in journal.steps:
            if step.step == "database_created":
                from resurgam.operations.restore_database import drop_database

                drop_database(maintenance_server(server), step.data["fresh"])
    for step in journal.steps:
        if step.step == "staging":
            discard_staging(Path(step.data["path"]))
        elif step.step == "tidy" and committed:
            _tidy(Path(step.data["path"]))
    state.journal_end(journal.restore_id, "completed" if committed else "reverted")
    return committed


def _told(journal: Journal, *, committed: bool) -> str:
    what = _what(journal)
    if committed:
        return f"An interrupted {what} had been complete; its left-overs were removed."
    return f"An interrupted {what} was put back; the application's data are as they were before it."


def _was_committed(server: Server, journal: Journal) -> bool:
    """The database's swap is the commit; a rename keeps the oid, so the server can tell. In place a transaction is."""
    if any(step.step == "complete" for step in journal.steps):
        return True
    swap, in_place = database_swap(journal), in_place_step(journal)
    if in_place is not None:
        from resurgam.postgres.in_place import transaction_committed

        with closing(maintenance_server(server).connect()) as session:
            return transaction_committed(session, in_place["xid"], in_place["pid"])
    if swap is None:
        return False
    with closing(maintenance_server(server).connect()) as session:
        if swap["fresh_oid"] is None:  # an undo that only puts away what the restore had created
            if swap["old_oid"] is not None:
                wait_until_decided(session, swap["old_oid"])
            return database_oid(session, swap["live"]) is None
        wait_until_decided(session, swap["fresh_oid"])
        return bool(database_oid(session, swap["live"]) == swap["fresh_oid"])


def _tidy(path: Path) -> None:
    """Remove what an undo emptied: the place that something was kept in, a file that had to be copied from there.

    Folders only if they are empty; no folder of the application's looks touched by it.
    """
    if os.path.lexists(path) and not (path.is_dir() and not path.is_symlink()):
        path.unlink()
        return
    inside = path.parent.name.startswith(OWN_PREFIX)
    live = path.parent.parent if inside else path.parent
    look = Look.of(live) if live.is_dir() else None
    with contextlib.suppress(OSError):
        path.rmdir()
    if inside:
        with contextlib.suppress(OSError):
            path.parent.rmdir()
    if look is not None:
        look.give(live)
