"""The service's part that makes everything ready, and looks whether it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resurgam.operations.doctor import Check
    from resurgam.service import Service


def set_up(service: Service) -> Iterator[str]:
    """Make the folders ready: BACKUP_DIR, the state, the remote folder's marker; a sentence for each."""
    from resurgam.operations import set_up as operation

    return operation.set_up(service.folder, lambda: service.state, service.remote)


def doctor(service: Service) -> tuple[Check, ...]:
    """Look at everything that backups and restores need; nothing is changed."""
    from resurgam.operations.doctor import Doctor

    return Doctor(
        service.settings, service.server, service.clock, lambda: service.inventory, lambda: service.state
    ).examine()


def schedule(service: Service) -> list[dict[str, Any]]:
    """What is scheduled: each task's next run, and what became of the last (`jobs.schedule.upcoming`)."""
    from resurgam.jobs.schedule import upcoming

    settings, plans = service.settings, service.plans
    state = service.state if plans and settings.backup_state_file.exists() else None
    return upcoming(plans, state, service.clock.now(), enabled=settings.backup_enabled)
