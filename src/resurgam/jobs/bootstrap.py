"""The chore that removes the bootstrap token's file when the token has expired."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from resurgam.catalog.state import State
from resurgam.operations.access import sweep_bootstrap

_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class BootstrapChore:
    """Looks into the backup folder once a minute."""

    state: State
    folder: Path

    @property
    def name(self) -> str:
        return "bootstrap token"

    def run(self, now: datetime) -> datetime:
        sweep_bootstrap(self.state, self.folder)
        return now + _EVERY
