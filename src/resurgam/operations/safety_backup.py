"""The safety backup: a recovery point of the present state, taken before a restore replaces it.

It is a backup like any other, but for copies and retention: nothing is pruned for a restore, least of all the backup
that is being restored. What can't be read can't be saved, and is often what a restore is for (the manual's scenario 2):
then the restore says so and goes on, since what it replaces is kept anyway. Whatever else is in the way, a full disk, a
hook that failed, a missing pg_dump, refuses the restore, before anything was touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg

from resurgam.clock import Clock
from resurgam.errors import ClientToolError, HookError, RestoreFailed, SourceError, StorageError
from resurgam.operations.backup import Application, Limits, take
from resurgam.operations.inventory import Inventory
from resurgam.operations.progress import Progress
from resurgam.postgres.clients import find_clients
from resurgam.postgres.snapshot import Connection
from resurgam.settings.service_model import Hooks

_KEPT = "What the restore replaces is kept, and `resurgam undo` brings it back."
_WITHOUT = "Mend this, or restore without one: --no-safety-backup (API: safety_backup false)."


@dataclass(frozen=True, slots=True)
class SafetyBackups:
    """Whether and how they are taken. `impossible`: why no backup can be taken at all, or ""."""

    wanted: bool
    impossible: str
    limits: Limits
    hooks: Hooks
    pg_bin: Path | None


@dataclass(frozen=True, slots=True)
class _Prefixed:
    """The backup's progress within a restore's."""

    inner: Progress

    def phase(self, text: str, total: int | None = None) -> None:
        self.inner.phase(f"Safety backup: {text[:1].lower()}{text[1:]}", total)

    def advance(self, count: int) -> None:
        self.inner.advance(count)


def take_safety_backup(
    how: SafetyBackups,
    application: Application,
    inventory: Inventory,
    holder: Connection | None,
    clock: Clock,
    progress: Progress,
) -> tuple[str | None, tuple[str, ...]]:
    """Its name, or None and a warning that says why there is none. The caller holds the locks; `holder` is the session
    with the application's, None if there is no database to be had.

    RestoreFailed where the restore must not go on; nothing was touched then.
    """
    if how.impossible:
        return None, (f"No safety backup was taken: {how.impossible} {_KEPT}",)
    if holder is None:
        return None, (f"No safety backup was taken: there is no live database that lets us in. {_KEPT}",)
    try:
        taken = take(
            application,
            inventory,
            holder,
            clock=clock,
            progress=_Prefixed(progress),
            limits=how.limits,
            hooks=how.hooks,
            pg_bin=how.pg_bin,
        )
    except (HookError, StorageError) as error:
        raise _refused(error.message) from error
    except OSError as error:
        raise _refused(f"{error.strerror or error}.") from error
    except (SourceError, psycopg.Error) as error:
        said = error.message if isinstance(error, SourceError) else str(error.diag.message_primary or error)
        if holder.closed or _is_missing_tool(how, application, holder):
            raise _refused(said) from error
        return None, (f"No safety backup was taken, because the present state can't be read: {said} {_KEPT}",)
    return taken.name, taken.failures


def _is_missing_tool(how: SafetyBackups, application: Application, holder: Connection) -> bool:
    try:
        find_clients(holder.info.server_version, how.pg_bin, application.server.environment.get("PATH"))
    except ClientToolError:
        return True
    return False


def _refused(reason: str) -> RestoreFailed:
    return RestoreFailed(
        f"The backup of the present state, which a restore takes first, failed, so nothing was touched: {reason}",
        _WITHOUT,
    )
