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


def sweep_dead(
    state: State,
    folder: BackupFolder,
    server: Callable[[], Server],
    drills: DrillRules,
    tell: Callable[[str], None],
) -> bool:
    """Settle restores and drills that died, remove partial files. False: try again, since another run is at work (and
    nothing was done), or since the server that a drill left something on is away.

    `tell` gets a sentence on each restore that was settled, and on what a drill left and nobody could remove.
    ResurgamError where that can't be done now.
    """
    again = False
    try:
        with folder.lock():
            # Imported only where there is something to settle: the loader comes with it, and a service stays small.
            if state.open_journals():
                from resurgam.operations.recovery import recover_restores

                for sentence in recover_restores(state, server(), folder.path):
                    tell(sentence)
            if state.drills.dead():
                from resurgam.operations.drill_recovery import recover_drills

                troubles, again = recover_drills(state, server(), drills, folder.path)
                for sentence in troubles:
                    tell(sentence)
            folder.sweep()
    except BusyError:
        return False
    return not again
