"""What runs that died left behind: half-done restores and drills, partial files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from resurgam.catalog.state import State
from resurgam.errors import BusyError
from resurgam.stores.folder import BackupFolder

if TYPE_CHECKING:
    from resurgam.postgres.connection import Server
    from resurgam.settings import DrillRules


def sweep_dead(state: State, folder: BackupFolder, server: Callable[[], Server], drills: DrillRules) -> bool:
    """Settle restores and drills that died, remove partial files; False, and nothing, while another run is at work.

    ResurgamError where that can't be done now.
    """
    try:
        with folder.lock():
            # Imported only where there is something to settle: the loader comes with it, and a service stays small.
            if state.open_journals():
                from resurgam.operations.recovery import recover_restores

                recover_restores(state, server(), folder.path)
            if state.drills.dead():
                from resurgam.operations.drill_recovery import recover_drills

                recover_drills(state, server(), drills, folder.path)
            folder.sweep()
    except BusyError:
        return False
    return True
