"""The service's part that takes restores back: undo, and what is kept for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resurgam.jobs.ended import undo_ended
from resurgam.operations.progress import Progress

if TYPE_CHECKING:
    from resurgam.operations.undo import Undoing, UndoPlan, UndoResult
    from resurgam.service import Service


def undo(service: Service, expected: str = "", *, accept_changes: bool = False, wait: bool = False) -> UndoResult:
    """Bring back what the latest restore (or undo) replaced; what it restored is kept (`Undoing.undo`)."""

    def run(progress: Progress) -> UndoResult:
        return _undoing(service, progress).undo(expected, accept_changes=accept_changes)

    return service.recorded("undo", service.settings.app_name, run, undo_ended, wait=wait)


def plan_undo(service: Service) -> UndoPlan:
    """What an undo would do, and what stands in its way; nothing is touched."""
    return _undoing(service, service.progress).plan()


def _undoing(service: Service, progress: Progress) -> Undoing:
    from resurgam.operations.undo import Undoing

    return Undoing(service.application, service.folder, lambda: service.state, service.clock, progress)
