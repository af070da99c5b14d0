"""Sweeps what restores and undos kept, when its time is over: a chore of the loop, and before backups and restores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from resurgam.catalog.state import State
from resurgam.clock import Clock
from resurgam.errors import BusyError, ResurgamError
from resurgam.operations.kept import kept_sides
from resurgam.runlog import RunLog
from resurgam.stores.folder import BackupFolder

if TYPE_CHECKING:
    from resurgam.postgres.connection import Server

_EVERY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Keeping:
    """One application's kept sides. `keep` in seconds; None: for ever."""

    state: State
    folder: BackupFolder
    server: Callable[[], Server]
    keep: float | None
    clock: Clock
    log: RunLog

    @property
    def name(self) -> str:
        return "kept after restores"

    def run(self, now: datetime) -> datetime:
        """As a chore of the loop."""
        self.sweep()
        return now + _EVERY

    def sweep(self) -> None:
        """Remove what is due; nothing while another run is at work. What fails is logged, and tried the next time."""
        now = self.clock.now()
        due = [side.until(self.keep) for side in kept_sides(self.state, self.folder.path)]
        if not any(until is not None and until <= now for until in due):
            return
        import psycopg  # only now: an idle service does without

        from resurgam.operations.sweep_kept import sweep_kept

        try:
            with self.folder.lock():
                for line in sweep_kept(self.state, self.server(), self.folder.path, self.keep, now):
                    (self.log.info if line.startswith("Removed") else self.log.warning)(line)
        except BusyError:
            return
        except (ResurgamError, psycopg.Error, OSError) as error:
            reason = error.message if isinstance(error, ResurgamError) else str(error)
            self.log.warning(f"What restores kept could not be swept yet: {reason}")
