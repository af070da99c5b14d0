"""Removes what restores and undos kept, when its time is over, and never what changed since (docs/ordering.md).

What can't be told from something that changed stays as well. Each side is judged anew at every sweep; that it stays is
told once. A side that is not there any more (a user removed it) is noted as gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql

from resurgam.catalog.state import State
from resurgam.errors import StorageError
from resurgam.operations.kept import Side, kept_sides
from resurgam.operations.kept_marks import changed_since, is_there
from resurgam.operations.swap_paths import discard_staging
from resurgam.postgres.connection import Server
from resurgam.postgres.subscriptions import drop_subscriptions, subscriptions_in
from resurgam.postgres.swap import maintenance_server
from resurgam.sources.excludes import OWN_PREFIX


def sweep_kept(state: State, server: Server, folder: Path, keep: float | None, now: datetime) -> Iterator[str]:
    """Remove what is older than `keep` seconds (None: nothing); a sentence for each that went or, once, that stays.

    The caller holds the folder's lock. DatabaseError where the server must be asked and can't be.
    """
    for side in kept_sides(state, folder):
        until = side.until(keep)
        if until is None or now < until:
            continue
        if not side.sweeping and not is_there(server, side):
            state.journal_note(side.restore_id, "swept", {"place": side.place})
            continue
        reason, left = "" if side.sweeping else changed_since(server, side), ""
        if not reason:
            if not side.is_database:
                # A folder is not removed at once: after a kill its rest must not look like something that changed.
                state.journal_note(side.restore_id, "sweeping", {"place": side.place})
            reason, left = _drop(server, side.place) if side.is_database else (_remove(Path(side.place)), "")
        if not reason:
            state.journal_note(side.restore_id, "swept", {"place": side.place})
            yield f"Removed {side.describe()}, which a restore or undo of {_date(side)} had kept.{left}"
        elif reason != side.refused:
            state.journal_note(side.restore_id, "sweep_refused", {"place": side.place, "reason": reason})
            yield (
                f"What a restore or undo of {_date(side)} kept, {side.describe()}, stays though its time is over: "
                f"{reason}. Look at it, and remove it by hand."
            )


def _remove(path: Path) -> str:
    """Remove it; a phrase on why it could not be, or ""."""
    if not any(part.startswith(OWN_PREFIX) for part in (path.name, path.parent.name)):
        raise StorageError(f"{path} is no name of ours; it was not removed.")
    if path.is_dir() and not path.is_symlink():
        discard_staging(path)
    else:
        path.unlink(missing_ok=True)
    return "it could not be removed, not all of it" if os.path.lexists(path) else ""


def _drop(server: Server, name: str) -> tuple[str, str]:
    """Drop it; a phrase on why it could not be, or "", and a sentence on what it leaves elsewhere.

    Without FORCE: who is connected, reads or writes. Its subscriptions go with it, unless one is enabled: then somebody
    replicates into it.
    """
    with closing(maintenance_server(server).connect()) as session:
        try:
            if subscriptions := subscriptions_in(session, name):
                if enabled := [one.name for one in subscriptions if one.enabled]:
                    return f"its subscription {enabled[0]} is enabled, so that somebody may replicate into it", ""
                if session.execute("SELECT FROM pg_stat_activity WHERE datname = %s", (name,)).fetchall():
                    return "somebody uses it", ""
                drop_subscriptions(server.at(name), subscriptions)
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        except psycopg.errors.ObjectInUse:
            return "somebody uses it", ""
        except psycopg.Error as error:
            return f"the server refused to drop it ({error.diag.message_primary})", ""
    slots = ", ".join(one.slot for one in subscriptions if one.slot)
    left = f" The publisher was not asked: if nothing else uses its slots {slots}, drop them there." if slots else ""
    return "", left


def _date(side: Side) -> str:
    return f"{side.replaced_at:%Y-%m-%d %H:%M} UTC"
