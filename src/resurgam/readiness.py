"""The service's part that makes everything ready, and looks whether it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgam.errors import UsageError

if TYPE_CHECKING:
    from resurgam.operations.doctor import Check
    from resurgam.operations.repair import RepairResult
    from resurgam.operations.repository_opening import Made, RepositoryAccess
    from resurgam.service import Service


def set_up(service: Service) -> Iterator[str]:
    """Make the folders ready: BACKUP_DIR, the state, the remote folder's marker; a sentence for each."""
    from resurgam.operations import set_up as operation

    return operation.set_up(service.folder, lambda: service.state, service.remote)


def make_repository(service: Service, recipients: tuple[tuple[str, str], ...] = (), kit: Path | None = None) -> Made:
    """Make the repository that the settings name, with whom else it shall open, and perhaps a recovery kit in a new
    file; harmless where it is made already. UsageError where the settings name none."""
    from resurgam.operations.repository_keys import make_kit
    from resurgam.operations.repository_opening import Made

    access = repository(service)
    rules = service.settings.repository
    assert rules is not None
    if kit is not None and not (rules.passphrase or rules.command or rules.identity_file):
        raise UsageError(
            "A recovery kit is made by who can open the repository, and no key is set; nothing was made.",
            "Set BACKUP_ENCRYPTION_KEY or BACKUP_ENCRYPTION_IDENTITY_FILE, or make it later: resurgam keys kit.",
        )
    made = access.make(recipients)
    if kit is None:
        return made
    return Made(made.url, made.new, make_kit(access.keys(), kit).ring)


def repository(service: Service) -> RepositoryAccess:
    """The way to the repository. UsageError where backups are archives."""
    if service.repository is None:
        raise UsageError("BACKUP_REPOSITORY is not set: backups are archives; nothing was done.")
    return service.repository


def repair(service: Service, *, dry_run: bool) -> RepairResult:
    """Settle what the repository has lost for good. UsageError where backups are archives."""
    from resurgam.operations.repair import repair as operation
    from resurgam.repository.memory import Memory
    from resurgam.repository.ring_store import RingStore

    opened = repository(service).open()
    remembered = Memory(opened.repository.keys, opened.repository.cache).read()
    rings = RingStore(opened.repository.store, opened.ring.repository)
    service.folder.prepare()
    with service.folder.lock():
        now = service.clock.now()
        return operation(
            opened.repository,
            rings.heal,
            today=now,
            progress=service.progress,
            dry_run=dry_run,
            remembered=remembered,
        )


def doctor(service: Service) -> tuple[Check, ...]:
    """Look at everything that backups and restores need; nothing is changed."""
    from resurgam.operations.doctor import Doctor

    return Doctor(
        service.settings,
        service.server,
        service.clock,
        lambda: service.inventory,
        lambda: service.state,
        lambda: repository(service),
    ).examine()


def schedule(service: Service) -> list[dict[str, Any]]:
    """What is scheduled: each task's next run, and what became of the last (`jobs.schedule.upcoming`)."""
    from resurgam.jobs.schedule import upcoming

    settings, plans = service.settings, service.plans
    state = service.state if plans and settings.backup_state_file.exists() else None
    return upcoming(plans, state, service.clock.now(), enabled=settings.backup_enabled)
