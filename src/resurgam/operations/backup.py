"""Take a backup: database, configuration and files as one recovery point, committed as a whole or not at all.

The order is docs/ordering.md's, sentences 1 to 14.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from blake3 import blake3

from resurgam import __version__
from resurgam.catalog.catalog import BackupCopy, BackupRecord
from resurgam.catalog.state import State
from resurgam.clock import Clock
from resurgam.errors import DatabaseError, FeatureMissing, ResurgamError, StorageError
from resurgam.operations.clocks import DIFFER, TOLERANCE
from resurgam.operations.holdings import BackupWriter, NewBackup
from resurgam.operations.hooks import HookedRun
from resurgam.operations.inventory import Inventory, megabytes
from resurgam.operations.metadata import Captured, build_metadata
from resurgam.operations.progress import Progress
from resurgam.operations.recovery import recover_restores
from resurgam.operations.retention import PruneResult, Retention, kept_remotely, prune, prune_and_collect
from resurgam.postgres.clients import ClientTools, find_clients
from resurgam.postgres.connection import Server
from resurgam.postgres.dump import TablesContended
from resurgam.postgres.snapshot import Connection, application_lock, exported_snapshot
from resurgam.settings import ConfigFile, FileTree
from resurgam.settings.service_model import Hooks
from resurgam.sources.config import capture_config
from resurgam.sources.database import DatabaseReport, capture_database
from resurgam.sources.excludes import Excludes
from resurgam.sources.files import capture_trees

_SNAPSHOTS = 10
# How often a run leaves its name to another machine: one that was broken into could ask for every second's.
_GIVE_WAY = 5


@dataclass(frozen=True, slots=True)
class Application:
    """What is protected: one database, some config files, some file trees, a name."""

    name: str
    folder: Path
    server: Server
    config_files: tuple[ConfigFile, ...]
    trees: tuple[FileTree, ...]
    excludes: Excludes

    @property
    def lock_key(self) -> int:
        """The advisory lock's number, the same for all who protect this application."""
        digest = blake3(b"resurgam application " + self.name.encode()).digest(8)
        return int.from_bytes(digest, "big", signed=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, in seconds; None waits as long as it takes."""

    dump: float | None = None
    lock: float | None = None


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A backup that is published. `failures` are what makes the run degraded; the backup itself is whole.

    `added`: bytes that it made a repository larger by.
    """

    name: str
    archive_path: str
    size: int
    metadata: dict[str, Any]
    seconds: float
    warnings: tuple[str, ...]
    copied: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    pruned: PruneResult = field(default_factory=lambda: PruneResult(False, ()))
    added: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "success": True,
            "backup_name": self.name,
            "archive_path": self.archive_path,
            "size_mb": megabytes(self.size),
            "size_bytes": self.size,
            "added_bytes": self.added,
            "seconds": round(self.seconds, 3),
            "degraded": bool(self.failures),
            "warnings": list(self.warnings),
            "failures": list(self.failures),
            "copied": list(self.copied),
            "pruned": [one.decision.name for one in self.pruned.deleted],
            "metadata": self.metadata,
        }


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was published. `failures`: of hooks after it. `clocks_agree`: this machine's, the server's and the
    folder's."""

    name: str
    size: int
    metadata: dict[str, Any]
    warnings: tuple[str, ...]
    failures: tuple[str, ...]
    clocks_agree: bool
    added: int | None = None


def refuse_unavailable(names: tuple[str, ...]) -> None:
    """A wish that would be ignored fails the backup: nobody must believe in an encryption that is not there."""
    if names:
        raise FeatureMissing(
            f"{', '.join(names)} asks for what this version does not have; no backup was taken.",
            "Unset it until a version that has it is installed.",
        )


def back_up(
    application: Application,
    inventory: Inventory,
    retention: Retention,
    state: State,
    *,
    clock: Clock,
    progress: Progress,
    limits: Limits,
    hooks: Hooks,
    pg_bin: Path | None = None,
) -> BackupResult:
    """Take one backup, copy it, prune. Raises ResurgamError if any wanted source failed; nothing is published then."""
    started = clock.monotonic()
    folder = inventory.folder
    folder.prepare()
    progress.phase("Waiting for the database")
    with application_lock(application.server, application.lock_key) as holder, folder.lock():
        told = recover_restores(state, application.server, folder.path)
        folder.sweep()
        taken = take(
            application, inventory, holder, clock=clock, progress=progress, limits=limits, hooks=hooks, pg_bin=pg_bin
        )
        pinned = state.pinned()
        copied, failures = copy_to_remote(inventory, retention, pinned, clock, progress)
        progress.phase("Applying the retention")
        pruned, refused = prune_after(inventory, retention, state, clock, progress, clocks_agree=taken.clocks_agree)
    return BackupResult(
        name=taken.name,
        archive_path=inventory.holdings.place_of(taken.name),
        size=taken.size,
        metadata=taken.metadata,
        seconds=clock.monotonic() - started,
        warnings=(*told, *taken.warnings, *(() if taken.clocks_agree else (DIFFER,))),
        copied=copied,
        failures=(*taken.failures, *failures, *pruned.errors, *refused),
        pruned=pruned,
        added=taken.added,
    )


def prune_after(
    inventory: Inventory, retention: Retention, state: State, clock: Clock, progress: Progress, *, clocks_agree: bool
) -> tuple[PruneResult, tuple[str, ...]]:
    """Delete what retention no longer keeps, and free what it alone needed where something was deleted. Why that was
    not done leaves the backup as good as it is."""
    now = clock.now()
    try:
        if not prune(inventory, retention, state, now, clocks_agree=clocks_agree, dry_run=True).deleted:
            return prune(inventory, retention, state, now, clocks_agree=clocks_agree), ()
        return prune_and_collect(inventory, retention, state, now, progress, clocks_agree=clocks_agree), ()
    except ResurgamError as error:
        return PruneResult(False, ()), (f"{error.message} {error.hint}".strip(),)


def take(
    application: Application,
    inventory: Inventory,
    holder: Connection,
    *,
    clock: Clock,
    progress: Progress,
    limits: Limits,
    hooks: Hooks,
    pg_bin: Path | None = None,
) -> Taken:
    """Take one backup and publish it; nothing is copied or pruned. The caller holds the folder's lock, and `holder` the
    application's. Raises as `back_up` does.
    """
    inventory.refresh()
    with _free_name(application.name, inventory, clock) as (name, taken_at):
        sequence = max(inventory.next_sequence(taken_at), inventory.holdings.ever() + 1)
        new = NewBackup(name, taken_at, sequence)
        path = application.server.environment.get("PATH")
        tools = find_clients(holder.info.server_version, pg_bin, path)
        hooked = HookedRun(hooks, application.server.environment, progress, name)
        run = _Run(application, tools, limits, clock, progress, hooked)
        with hooked.around(), inventory.holdings.writing(new) as draft:
            captured = run.capture(holder, draft.writer, name, new.mtime_ns)
            metadata = build_metadata(
                name,
                taken_at,
                sequence,
                __version__,
                captured,
                draft.writer.total_files,
                draft.writer.content_bytes,
            )
            progress.phase("Checking what was stored")
            held = draft.commit(metadata)
    agree, failures = run.clocks_agree(held.stored_at), list(hooked.failures)
    try:
        inventory.refresh()
        # What was read back a moment ago need not be opened again, which may take a key that is not here.
        if inventory.is_sealed(name, inventory.holdings.location):
            inventory.learn(name, inventory.holdings.location, json.loads(metadata))
    except StorageError as error:  # the backup is there
        failures.append(f"The backup was stored; looking at it failed: {error.message}")
    return Taken(name, held.size, json.loads(metadata), captured.warnings, tuple(failures), agree, held.added)


@dataclass(slots=True)
class _Run:
    """The capture of all sources into one writer."""

    application: Application
    tools: ClientTools
    limits: Limits
    clock: Clock
    progress: Progress
    hooked: HookedRun
    server_skew: timedelta = timedelta()

    def capture(self, holder: Connection, writer: BackupWriter, name: str, mtime_ns: int) -> Captured:
        """Configuration, database, files, in the stream's order. SourceError if one of them is not whole."""
        application = self.application
        with self.hooked.around("config"):
            self.progress.phase("Saving the configuration")
            config = capture_config(
                application.config_files,
                application.folder,
                writer,
                secrets=application.excludes.secrets,
                made_ns=mtime_ns,
                progress=self.progress.advance,
            )
        with self.hooked.around("database"):
            database = self._capture_database(holder, writer, name)
        # After the snapshot, so that every file a saved row points to was already there (ADR 2).
        with self.hooked.around("files"):
            self.progress.phase("Saving the files")
            trees = capture_trees(
                application.trees,
                writer,
                excludes=application.excludes,
                made_ns=mtime_ns,
                progress=self.progress.advance,
            )
        warnings = (*config.warnings, *(w for tree in trees for w in tree.warnings), *database.warnings)
        return Captured(database, config, trees, warnings)

    def _capture_database(self, holder: Connection, writer: BackupWriter, name: str) -> DatabaseReport:
        """With a new snapshot each time that somebody came between its locks and pg_dump's, and goes first."""
        for _ in range(_SNAPSHOTS):
            with exported_snapshot(holder, self.application.server, self.limits.lock) as snapshot:
                self.server_skew = abs(snapshot.taken_at - self.clock.now())
                row = holder.execute("SELECT pg_database_size(current_database())").fetchone()
                self.progress.phase("Saving the database", row[0] if row else None)
                try:
                    return capture_database(
                        self.application.server,
                        self.tools,
                        snapshot,
                        writer,
                        name.rpartition("_backup_")[2],
                        clock=self.clock,
                        timeout=self.limits.dump,
                        on_bytes=self.progress.advance,
                    )
                except TablesContended:
                    continue  # leaving the block lets them go
        raise DatabaseError(
            f"In {_SNAPSHOTS} attempts somebody always came between with TRUNCATE, ALTER or DROP TABLE; nothing was "
            "published.",
            "Take the backup when no migration is running.",
        )

    def clocks_agree(self, stored_at: float) -> bool:
        """Whether this machine, the server and where the backup was stored at `stored_at` are within an hour."""
        stored_skew = abs(timedelta(seconds=stored_at - self.clock.now().timestamp()))
        return max(self.server_skew, stored_skew) <= TOLERANCE


def copy_to_remote(
    inventory: Inventory, retention: Retention, pinned: frozenset[str], clock: Clock, progress: Progress
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copy what the remote folder should have and has not: this backup, and what earlier runs failed to copy.

    Answers the names copied and, if it did not all succeed, sentences that say why.
    """
    if inventory.remote is None:
        return (), ()
    if not inventory.remote_readable:
        return (), tuple(inventory.warnings) or ("The remote folder can not be read.",)
    wanted = kept_remotely(inventory, retention, pinned, clock.now())
    there = {
        record.name
        for record in inventory.records()
        if any(copy.location == "remote" and _whole(copy, record) for copy in record.copies)
    }
    copied: list[str] = []
    failures: list[str] = []
    inventory.remote.sweep(retention.app_name)
    for record in inventory.records():
        if record.name not in wanted or record.name in there:
            continue
        size = next(copy.size for copy in record.copies if copy.location != "remote")
        source = inventory.holdings.file_of(record.name)
        assert source is not None  # the settings know a remote folder beside archives only
        progress.phase(f"Copying {record.name} to {inventory.remote.path}", size)
        try:
            inventory.remote.copy(source, record.name, progress.advance)
            copied.append(record.name)
        except ResurgamError as error:
            failures.append(error.message)
            break  # the next one would fail for the same reason, and each is tried again by the next run
    inventory.refresh()
    for name in copied:  # each was compared with its original, byte by byte
        if (metadata := inventory.catalog.metadata(name)) is not None and inventory.is_sealed(name, "remote"):
            inventory.learn(name, "remote", metadata)
    return tuple(copied), tuple(failures)


def _whole(copy: BackupCopy, record: BackupRecord) -> bool:
    """Whether a remote copy needs no other. Foreign and sealed archives show no footer that would tell of a cut."""
    alike = [other for other in record.copies if (other.condition, other.form) == (copy.condition, copy.form)]
    if copy.condition == "sealed":
        alike = [other for other in record.copies if other.form == copy.form]
    longest = max(other.size for other in alike)
    return copy.condition == "good" or (copy.condition in ("foreign", "sealed") and copy.size == longest)


@contextmanager
def _free_name(app_name: str, inventory: Inventory, clock: Clock) -> Iterator[tuple[str, datetime]]:
    """This second's name, in UTC, for the block's length; one that is taken anywhere waits for the next second."""
    gave_way = 0
    while True:
        taken_at = clock.now()
        name = f"{app_name}_backup_{taken_at:%Y%m%d_%H%M%S}"
        wait = 1 - taken_at.microsecond / 1e6
        if inventory.catalog.get(name) is None and not inventory.holdings.has(name):
            with inventory.holdings.reserving(name) as free:
                if free or gave_way == _GIVE_WAY:
                    yield name, taken_at
                    return
            gave_way += 1
            wait += secrets.randbelow(2000) / 1000  # or both would ask for the same one again
        clock.sleep(wait)
