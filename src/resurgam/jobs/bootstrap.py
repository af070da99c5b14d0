"""The chore that removes the bootstrap token's file when the token has expired."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from resurgam.catalog.state import State
from resurgam.operations.access import FILE, sweep_bootstrap

_EVERY = timedelta(minutes=1)
_SELDOM = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class BootstrapChore:
    """Looks into the backup folder once a minute while the file is there, which only a first start makes.

    After that hardly ever: the folder's mount may hang, and the loop, with the watch over health, would hang with it.
    """

    state: State
    folder: Path

    @property
    def name(self) -> str:
        return "bootstrap token"

    def run(self, now: datetime) -> datetime:
        sweep_bootstrap(self.state, self.folder)
        return now + (_EVERY if os.path.lexists(self.folder / FILE) else _SELDOM)
