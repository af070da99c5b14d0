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


def recover_drills(state: State, live: Server, rules: DrillRules, folder: Path) -> tuple[tuple[str, ...], bool]:
    """Settle the dead drills of `folder`; a sentence on each whose left-overs stay, and whether to try again.

    Raises StateError.
    """
    troubles, again = [], False
    for drill in state.drills.dead():
        if _elsewhere(drill, folder):
            continue
        try:
            remove_scratch(drill.scratch or {}, live, rules)
        except ResurgamError as error:
            troubles.append(f"What the drill of {drill.backup} left could not be removed yet: {error.message}")
            again = True
            continue
        if moved := _left_elsewhere(drill, live, rules):
            troubles.append(moved)
        state.drills.cleaned(drill.id)
        if drill.outcome is None:
            state.drills.end(drill.id, "died", {"differences": [_DIED]}, "")
    return tuple(troubles), again


def remove_scratch(scratch: dict[str, str], live: Server, rules: DrillRules) -> None:
    """Remove a drill's folder, database and login. DatabaseError if one of the last two stays."""
    path = Path(scratch.get("path", ""))
    if _FOLDER.fullmatch(path.name):
        discard_staging(path)
    server = lasting_server(scratch.get("where", ""), rules, live)
    if server is not None and "database" in scratch:
        drop_scratch(server, scratch["database"], scratch.get("role"))


def _left_elsewhere(drill: Drill, live: Server, rules: DrillRules) -> str:
    """What can't be looked after any more, since the settings name another server by now; told once."""
    scratch = drill.scratch or {}
    noted = scratch.get("server")
    present = lasting_server(scratch.get("where", ""), rules, live)
    if noted is None or (present is not None and present.describe() == noted):
        return ""
    return (
        f"A drill of {drill.backup} died on the server of {noted}, which the settings do not name any more. Drop there "
        f'by hand what it left: the database "{scratch.get("database")}", then the role of the same name.'
    )


def _elsewhere(drill: Drill, folder: Path) -> bool:
    """Whether another backup folder's run, which shares the state, has to see to it."""
    theirs = Path((drill.scratch or {}).get("path", "")).parent
    return drill.scratch is not None and os.path.realpath(theirs) != os.path.realpath(folder) and theirs.is_dir()
