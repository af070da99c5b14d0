"""Gathers what health is judged by: quickly, from what is known, and whatever is broken.

A part that can't be looked at becomes a trouble in the facts, which `policy.health` makes a critical reason of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.history import KINDS
from resurgam.catalog.jobs import Outcome
from resurgam.catalog.models import to_us
from resurgam.catalog.state import State
from resurgam.catalog.state_file import MARKER
from resurgam.clock import Clock
from resurgam.errors import ResurgamError, StateError
from resurgam.operations.inventory import Inventory
from resurgam.operations.probe import Probe
from resurgam.policy.health_facts import Disk, HealthFacts, RemoteFacts, Running, ScheduleFacts, Trouble
from resurgam.settings import Settings

_MONTH = timedelta(days=30)
_SUCCESS: tuple[Outcome, ...] = ("ok", "degraded")
_TOLD: tuple[Outcome, ...] = (*_SUCCESS, "failed")
# An archive that changes in place does not change its folder; within this it is seen all the same.
_FRESH = 30.0
# Enough to say how many failed in a row.
_LAST_BACKUPS = 20


@dataclass(frozen=True, slots=True)
class Looked:
    """The folders, as a look at them found them. `records`: newest first; `remote_problem`: "" where it was read."""

    records: Sequence[BackupRecord] = ()
    disk: Disk | None = None
    remote_problem: str = ""
    remote_disk: Disk | None = None
    troubles: tuple[Trouble, ...] = ()


class Folders:
    """Both folders, looked at for health: again only when they changed, and without waiting for a mount that hangs."""

    def __init__(
        self, settings: Settings, inventory: Callable[[], Inventory], clock: Clock, patience: float = 5.0
    ) -> None:
        """`patience`: seconds to wait for the folders."""
        self._settings, self._inventory, self._clock, self._patience = settings, inventory, clock, patience
        self._probe = Probe(self._looked)
        self._seen: tuple[tuple[int, ...], float] | None = None
        self._last = Looked()

    def look(self) -> Looked:
        """What there is; where the folders do not answer, the backups known before, and that."""
        looked = self._probe.ask(self._patience)
        return looked if looked is not None else self._not_answering()

    def _looked(self) -> Looked:
        try:
            self._last = self._look()
        except ResurgamError as error:
            return Looked(troubles=(Trouble("folder_unreadable", error.message, error.hint),))
        except (DBAPIError, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else error.orig
            hint = "`resurgam doctor` looks for the cause."
            return Looked(troubles=(Trouble("folder_unreadable", f"The backups can not be listed: {said}.", hint),))
        return self._last

    def _look(self) -> Looked:
        folder = self._settings.backup_dir
        if not folder.is_dir():
            self._seen = None
            hint = f"Is its disk mounted? Else `resurgam init` makes it, or mkdir -p {folder}."
            return Looked(troubles=(Trouble("folder_missing", f"BACKUP_DIR {folder} is not there.", hint),))
        inventory = self._inventory()
        remote = inventory.remote
        marks = tuple(_changed(path) for path in (folder, *((remote.path,) if remote else ())))
        if self._seen is not None and self._seen[0] == marks and self._clock.monotonic() - self._seen[1] < _FRESH:
            remote_disk = None if remote is None or self._last.remote_problem else disk_of(remote.path)
            return replace(self._last, disk=disk_of(folder), remote_disk=remote_disk)
        try:
            inventory.refresh()
        except StateError:
            inventory.refresh()  # a damaged catalog was thrown away; now it is made anew
        self._seen = marks, self._clock.monotonic()
        problem = _remote_problem(inventory)
        return Looked(
            records=inventory.records(),
            disk=disk_of(folder),
            remote_problem=problem,
            remote_disk=disk_of(remote.path) if remote is not None and not problem else None,
        )

    def _not_answering(self) -> Looked:
        folders = f"BACKUP_DIR {self._settings.backup_dir}"
        if self._settings.remote_backup_enabled:
            folders += f" and REMOTE_BACKUP_PATH {self._settings.remote_backup_path}"
        message = f"The listing of {folders} did not answer within {self._patience:.0f} s: a mount may hang."
        trouble = Trouble("folder_hangs", message, "`ls` each of them; mount again the one that hangs.")
        return Looked(records=self._last.records, remote_problem=message, troubles=(trouble,))


def _remote_problem(inventory: Inventory) -> str:
    remote = inventory.remote
    if remote is None or inventory.remote_readable:
        return ""
    told = [warning for warning in inventory.warnings if str(remote.path) in warning]
    return told[-1] if told else f"REMOTE_BACKUP_PATH {remote.path} can not be read."


def _changed(path: Path) -> int:
    """When a file was made, renamed or deleted in the folder; -1 where nobody can say."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def disk_of(path: Path) -> Disk | None:
    """The room of a path's file system; None where the system can't say."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return Disk(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def gather_health(settings: Settings, looked: Looked, state: Callable[[], State], now: datetime) -> HealthFacts:
    """The facts at `now`. `state` opens what exists; it is not called where that would create it."""
    prefix = f"{settings.app_name}_backup"
    own = [one for one in looked.records if one.name.rpartition("_")[0].rpartition("_")[0] == prefix]
    remote = None
    if settings.remote_backup_enabled and settings.remote_backup_path is not None:
        remote = RemoteFacts(str(settings.remote_backup_path), looked.remote_problem, looked.remote_disk)
    facts = HealthFacts(
        application=settings.app_name,
        enabled=settings.backup_enabled,
        folder=str(settings.backup_dir),
        retention_days=settings.backup_retention_days,
        max_backups=settings.max_backups,
        backups=own,
        others=len(looked.records) - len(own),
        disk=looked.disk,
        remote=remote,
        remote_enabled=settings.remote_backup_enabled,
        unavailable=settings.unavailable,
        troubles=looked.troubles,
        schedule=ScheduleFacts() if settings.schedule.backup is not None else None,
    )
    # Without a sign of an earlier state, there is nothing to read, and nothing is made by looking.
    if not (os.path.lexists(settings.backup_state_file) or os.path.lexists(settings.backup_dir / MARKER)):
        return facts
    try:
        return _with_history(facts, settings, state(), now)
    except ResurgamError as error:
        trouble = Trouble("state_unreadable", error.message, error.hint)
        return replace(facts, troubles=(*facts.troubles, trouble))


def _with_history(facts: HealthFacts, settings: Settings, state: State, now: datetime) -> HealthFacts:
    history = state.history
    runs = {kind: history.last(kind, _SUCCESS) for kind in KINDS}
    ends = {kind: history.last(kind, _TOLD, _LAST_BACKUPS if kind == "backup" else 1) for kind in KINDS}
    return replace(
        facts,
        last_backups=ends["backup"],
        last_success={kind: found[0] for kind, found in runs.items() if found},
        last_end={kind: found[0] for kind, found in ends.items() if found},
        counts=history.counts(to_us(now - _MONTH)),
        running=tuple(Running(job.id, job.kind) for job in state.jobs.unfinished() if job.begun_at is not None),
        unfinished_restores=tuple(one.restore_id for one in state.open_journals() if not one.alive),
    )
