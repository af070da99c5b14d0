"""What operations are given, made of the settings: values only, nothing is opened.

What only restores need is imported when one is asked for: a backup is to start quickly.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from resurgam.catalog.state import State
from resurgam.clock import Clock
from resurgam.errors import UsageError
from resurgam.operations.backup import Application, BackupResult, Limits, back_up, refuse_unavailable
from resurgam.operations.inventory import Inventory
from resurgam.operations.progress import Progress
from resurgam.operations.retention import Retention
from resurgam.policy.retention import RetentionRules
from resurgam.postgres.connection import Server
from resurgam.settings import Database, Settings
from resurgam.sources.excludes import Excludes

if TYPE_CHECKING:
    from resurgam.operations.restore import Restoring
    from resurgam.operations.restore_files import Places
    from resurgam.operations.safety_backup import SafetyBackups
    from resurgam.policy.estimate import Timing

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def application_of(settings: Settings, server: Server) -> Application:
    """What is protected. Our own folders and secrets never enter a backup of it."""
    state = settings.backup_state_file
    secrets = (
        *settings.secret_files,
        *((settings.env_path,) if settings.env_path else ()),
        *(state.with_name(state.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")),
    )
    return Application(
        name=settings.app_name,
        folder=settings.app_dir,
        server=server,
        config_files=settings.backup_config_files,
        trees=settings.backup_file_trees,
        excludes=Excludes(settings.backup_exclude, _with_ours(settings, settings.backup_dir), secrets),
    )


def retention_of(settings: Settings) -> Retention:
    """What is kept here, and what in the remote folder."""
    keep = (settings.backup_keep_daily, settings.backup_keep_weekly, settings.backup_keep_monthly)
    return Retention(
        settings.app_name,
        RetentionRules(settings.backup_retention_days, settings.max_backups, *keep),
        RetentionRules(settings.remote_backup_retention_days, settings.remote_max_backups, *keep),
        settings.backup_shrink_limit,
    )


def places_of(settings: Settings) -> Places:
    """Where a restore may write."""
    from resurgam.operations.restore_files import Places

    own = (settings.backup_dir, settings.backup_state_file, settings.backup_log_file)
    return Places(
        app_dir=settings.app_dir,
        config_files=settings.backup_config_files,
        trees=settings.backup_file_trees,
        own=_with_ours(settings, *own),
        scratch=settings.backup_dir,
    )


def other_server(settings: Settings, server: Server, name: str) -> Server:
    """A server to restore to: `setting` for RESTORE_DATABASE_URL, else the name of a service. UsageError for neither.

    A connection string is refused, and not repeated: it may hold a password, which has no place in an argument.
    """
    if name == "setting":
        if settings.restore_database is None:
            raise UsageError("RESTORE_DATABASE_URL is not set, so there is no other server; nothing was done.")
        return replace(server, database=settings.restore_database)
    if not _SERVICE.fullmatch(name):
        raise UsageError(
            "Another server is named by a service of pg_service.conf, or by `setting` for RESTORE_DATABASE_URL, not by "
            "a connection string; nothing was done."
        )
    return replace(server, database=Database(None, None, None, None, None, (("service", name),)))


def back_up_by(
    settings: Settings,
    application: Application,
    inventory: Inventory,
    retention: Retention,
    state: State,
    clock: Clock,
    progress: Progress,
) -> BackupResult:
    """Take a backup as the settings say."""
    inventory.folder.prepare()
    refuse_unavailable(settings.unavailable)
    return back_up(
        application,
        inventory,
        retention,
        state,
        clock=clock,
        progress=progress,
        limits=Limits(settings.backup_dump_timeout, settings.backup_lock_timeout),
        hooks=settings.hooks,
        pg_bin=settings.backup_pg_bin,
    )


def safety_of(settings: Settings) -> SafetyBackups:
    """The backups that restores take first."""
    from resurgam.operations.safety_backup import SafetyBackups

    impossible = "" if settings.backup_enabled else "backups are disabled (BACKUP_ENABLED=false)."
    if settings.unavailable:
        impossible = f"{', '.join(settings.unavailable)} asks for what this version does not have."
    limits = Limits(settings.backup_dump_timeout, settings.backup_lock_timeout)
    return SafetyBackups(settings.restore_safety_backup, impossible, limits, settings.hooks, settings.backup_pg_bin)


def restoring_of(
    settings: Settings,
    application: Application,
    inventory: Inventory,
    open_state: Callable[[], State],
    clock: Clock,
    progress: Progress,
) -> Restoring:
    """Plans and restores. A plan opens the state only if there is one."""
    from resurgam.operations.restore import Restoring
    from resurgam.policy.estimate import Timing

    def earlier() -> tuple[Timing, ...]:
        there = settings.backup_state_file.exists()
        return tuple(Timing(*told) for told in open_state().history.timings()) if there else ()

    return Restoring(
        application=application,
        inventory=inventory,
        open_state=open_state,
        places=places_of(settings),
        connections=settings.restore_connections,
        clock=clock,
        progress=progress,
        safety=safety_of(settings),
        earlier=earlier,
        server_of=lambda name: other_server(settings, application.server, name),
        pg_bin=settings.backup_pg_bin,
    )


def _with_ours(settings: Settings, *own: Path) -> tuple[Path, ...]:
    repository = settings.repository.folder if settings.repository else None
    return (*own, *(path for path in (settings.remote_backup_path, repository) if path is not None))
