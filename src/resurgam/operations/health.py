"""Gathers what health is judged by: quickly, from what is known, and whatever is broken.

A part that can't be looked at becomes a trouble in the facts, which `policy.health` makes a critical reason of.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.history import KINDS
from resurgam.catalog.jobs import Outcome
from resurgam.catalog.moments import to_us
from resurgam.catalog.state import State
from resurgam.catalog.state_file import MARKER
from resurgam.errors import ResurgamError
from resurgam.notify.channels import failing
from resurgam.operations.kept import kept_sides
from resurgam.operations.key_proof import key_doubt
from resurgam.operations.listing import Listing
from resurgam.operations.probe import Probe
from resurgam.operations.retention import FROZEN
from resurgam.policy.health_facts import (
    ClockJump,
    Disk,
    HealthFacts,
    KeptAside,
    RemoteFacts,
    RepositoryFacts,
    Running,
    ScheduleFacts,
    Trouble,
)
from resurgam.policy.schedule import Plan
from resurgam.settings import Settings
from resurgam.settings.service_model import Messages

_MONTH = timedelta(days=30)
_REPOSITORY_SECONDS = 300.0
_SUCCESS: tuple[Outcome, ...] = ("ok", "degraded")
_TOLD: tuple[Outcome, ...] = (*_SUCCESS, "failed")
_LOOK = "`resurgam doctor` looks for the cause."
# Enough to say how many backups failed in a row, and what verifying found of each.
_LATEST = {"backup": 20, "verify": 100}


@dataclass(frozen=True, slots=True)
class Looked:
    """The folders, as a look at them found them. `records`: newest first; `remote_problem`: "" where it was read."""

    records: Sequence[BackupRecord] = ()
    disk: Disk | None = None
    remote_problem: str = ""
    remote_disk: Disk | None = None
    repository: RepositoryFacts | None = None
    troubles: tuple[Trouble, ...] = ()


class Folders:
    """Both folders, looked at for health without ever waiting long for a mount that hangs."""

    def __init__(
        self,
        settings: Settings,
        listing: Callable[[], Listing],
        patience: float = 10.0,
        repository: Callable[[], RepositoryFacts] | None = None,
    ) -> None:
        """`patience`: seconds to wait for the folders. `repository` looks at one; asked every few minutes."""
        self._repository, self._repository_at = repository, float("-inf")
        self._repository_seen: RepositoryFacts | None = None
        self._settings, self._listing, self._patience = settings, listing, patience
        self._probe = Probe(self._looked)
        self._remote_disk = Probe(self._disk_of_remote)
        self._known: Sequence[BackupRecord] = ()

    def look(self) -> Looked:
        """What there is; where BACKUP_DIR does not answer, the backups known before, and that."""
        folder = self._settings.backup_dir
        looked = self._probe.ask(self._patience)
        if looked is None:
            message = f"BACKUP_DIR {folder} did not answer within {self._patience:.0f} s: its mount may hang."
            trouble = Trouble("folder_hangs", message, f"`ls {folder}` hangs as well? Mount it again.")
            return Looked(records=self._known, troubles=(trouble,))
        if self._settings.remote_backup_enabled and not looked.troubles and not looked.remote_problem:
            return replace(looked, remote_disk=self._remote_disk.ask(1.0))
        return looked

    def _looked(self) -> Looked:
        try:
            return self._look()
        except ResurgamError as error:
            return Looked(troubles=(_trouble("folder_unreadable", error),))
        except (sqlite3.Error, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            return Looked(troubles=(Trouble("folder_unreadable", f"The backups can not be listed: {said}.", _LOOK),))

    def _look(self) -> Looked:
        folder = self._settings.backup_dir
        if not folder.is_dir():
            hint = f"Is its disk mounted? Else `resurgam init` makes it, or mkdir -p {folder}."
            return Looked(troubles=(Trouble("folder_missing", f"BACKUP_DIR {folder} is not there.", hint),))
        listing = self._listing()
        listing.watch_remote()
        problem = listing.remote_trouble(self._patience / 2)
        self._known = listing.records()
        rules = self._settings.repository
        seen = self._look_at_repository(listing.troubles)
        return Looked(self._known, disk_of((rules and rules.folder) or folder), problem, repository=seen)

    def _look_at_repository(self, troubles: Sequence[str]) -> RepositoryFacts | None:
        """Its packs are listed seldom: a store may charge for it."""
        if self._repository is None:
            return None
        if self._repository_seen is None or time.monotonic() - self._repository_at > _REPOSITORY_SECONDS:
            self._repository_seen, self._repository_at = self._repository(), time.monotonic()
        return replace(self._repository_seen, troubles=troubles)

    def _disk_of_remote(self) -> Disk | None:
        path = self._settings.remote_backup_path
        return None if path is None else disk_of(path)


def disk_of(path: Path) -> Disk | None:
    """The room of a path's file system; None where the system can't say."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return Disk(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def gather_health(
    settings: Settings, looked: Looked, state: Callable[[], State], plans: Sequence[Plan], now: datetime
) -> HealthFacts:
    """The facts at `now`. `plans`: what is scheduled. `state` opens what exists; it is not called where that would
    create it."""
    prefix = f"{settings.app_name}_backup_"
    length = len(prefix) + len("YYYYMMDD_HHMMSS")
    own = [one for one in looked.records if len(one.name) == length and one.name.startswith(prefix)]
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
        repository=looked.repository,
        remote_enabled=settings.remote_backup_enabled,
        unavailable=settings.unavailable,
        troubles=looked.troubles,
        schedule=_schedule(plans, None, now) if plans else None,
        key_doubt=key_doubt(settings.encryption, None, own),
    )
    # Without a sign of an earlier state, there is nothing to read, and nothing is made by looking.
    if not (os.path.lexists(settings.backup_state_file) or os.path.lexists(settings.backup_dir / MARKER)):
        return facts
    try:
        opened = state()
        kept = _kept(opened, settings.backup_dir, settings.restore_keep)
        facts = replace(_with_history(facts, settings.messages, plans, opened, now), kept=kept)
        return replace(facts, key_doubt=key_doubt(settings.encryption, facts.last_drill, own))
    except ResurgamError as error:
        return replace(facts, troubles=(*facts.troubles, _trouble("state_unreadable", error)))


def _with_history(
    facts: HealthFacts, messages: Messages, plans: Sequence[Plan], state: State, now: datetime
) -> HealthFacts:
    history, under_way = state.history, state.jobs.unfinished()  # first: it settles those that died
    runs = {kind: history.last(kind, _SUCCESS) for kind in KINDS}
    jump = state.signs.get("clock_jump")
    ends = {kind: history.last(kind, _TOLD, _LATEST.get(kind, 1)) for kind in KINDS}
    return replace(
        facts,
        last_backups=ends["backup"],
        last_verifies=ends["verify"],
        channels_failing=failing(messages, state.channels.all()),
        last_success={kind: found[0] for kind, found in runs.items() if found},
        last_end={kind: found[0] for kind, found in ends.items() if found},
        counts=history.counts(to_us(now - _MONTH)),
        running=tuple(Running(job.id, job.kind) for job in under_way if job.begun_at is not None),
        schedule=_schedule(plans, state, now) if plans else None,
        clock_jumps=() if jump is None else (ClockJump(jump.at, float(jump.data.get("seconds", 0))),),
        last_drill=state.drills.last(),
        frozen=tuple(frozen.data.get("reasons", ())) if (frozen := state.signs.get(FROZEN)) else (),
        unfinished_restores=tuple(one.restore_id for one in state.open_journals() if not one.alive),
    )


def _kept(state: State, folder: Path, keep: float | None) -> tuple[KeptAside, ...]:
    """By the journals alone: sizes are those of the swap, and what a user removed shows until the next sweep."""
    return tuple(
        KeptAside("database" if one.is_database else "files", one.place, one.size, one.until(keep), one.refused)
        for one in kept_sides(state, folder)
    )


def _schedule(plans: Sequence[Plan], state: State | None, now: datetime) -> ScheduleFacts:
    next_due, overdue = {}, {}
    for plan in plans:
        since = None if state is None else _taken_until(state, plan.task, now)
        coming = plan.next_start(now, now if since is None else since)
        if coming is not None:
            next_due[plan.task] = coming.at
        slot = None if since is None else plan.due(now, since)
        start = None if slot is None else plan.start(slot)
        if start is not None:
            overdue[plan.task] = start.at
    loop = None if state is None else state.signs.get("loop")
    return ScheduleFacts(
        heartbeat=None if loop is None else loop.at,
        next_due=next_due,
        overdue=overdue,
        verifies=any(plan.task == "verify" for plan in plans),
        drills=any(plan.task == "drill" for plan in plans),
    )


def _taken_until(state: State, task: str, now: datetime) -> datetime | None:
    """Slots up to then were taken, or lie before the task was scheduled; None if no service has seen it yet."""
    last, first_seen = state.slots.last(task, now), state.signs.get(f"schedule {task}")
    known = [*([last.at] if last else []), *([first_seen.at] if first_seen else [])]
    return max(known, default=None)


def _trouble(code: str, error: ResurgamError) -> Trouble:
    return Trouble(code, error.message, error.hint or _LOOK)
