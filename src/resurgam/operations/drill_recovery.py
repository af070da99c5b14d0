"""Removes what drills left behind that died: scratch databases, logins and folders (docs/ordering.md, "Drills")."""

from __future__ import annotations

import os
import re
from pathlib import Path

from resurgam.catalog.drills import Drill
from resurgam.catalog.state import State
from resurgam.errors import ResurgamError
from resurgam.operations.drill_server import drop_scratch, lasting_server
from resurgam.operations.swap_paths import discard_staging
from resurgam.postgres.connection import Server
from resurgam.settings import DrillRules

FOLDER = ".resurgam-drill_"
_FOLDER = re.compile(re.escape(FOLDER) + r"\d{14}_[0-9a-f]{6}")
_DIED = "Its process ended without a word; the drill says nothing of the backup."


def recover_drills(state: State, live: Server, rules: DrillRules, folder: Path) -> tuple[str, ...]:
    """Settle the dead drills of `folder`; answers what could not be removed yet, a sentence each. StateError."""
    troubles = []
    for drill in state.drills.dead():
        if _elsewhere(drill, folder):
            continue
        try:
            remove_scratch(drill.scratch or {}, live, rules)
        except ResurgamError as error:
            troubles.append(f"What the drill of {drill.backup} left could not be removed yet: {error.message}")
            continue
        state.drills.cleaned(drill.id)
        if drill.outcome is None:
            state.drills.end(drill.id, "died", {"differences": [_DIED]}, "")
    return tuple(troubles)


def remove_scratch(scratch: dict[str, str], live: Server, rules: DrillRules) -> None:
    """Remove a drill's folder, database and login. DatabaseError if one of the last two stays."""
    path = Path(scratch.get("path", ""))
    if _FOLDER.fullmatch(path.name):
        discard_staging(path)
    server = lasting_server(scratch.get("where", ""), rules, live)
    if server is not None and "database" in scratch:
        drop_scratch(server, scratch["database"], scratch.get("role"))


def _elsewhere(drill: Drill, folder: Path) -> bool:
    """Whether another backup folder's run, which shares the state, has to see to it."""
    theirs = Path((drill.scratch or {}).get("path", "")).parent
    return drill.scratch is not None and os.path.realpath(theirs) != os.path.realpath(folder) and theirs.is_dir()
