"""`resurgam schedule`: what runs by itself, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from resurgam.cli import exits
from resurgam.cli.face import Face, JsonOption
from resurgam.cli.wording import columns, printable

_NOTHING = "Nothing is scheduled: BACKUP_SCHEDULE is not set. `0 2 * * *` backs up every day at 02:00."


def schedule(json: JsonOption = False) -> int:
    """Show what `resurgam serve` runs by itself, and when next.

    Whether the service runs or not.
    """
    from resurgam import readiness

    face = Face(json)
    with face.service() as service:
        tasks = readiness.schedule(service)
        enabled = service.settings.backup_enabled
    face.answer(tasks, "" if json else _text(tasks, enabled))
    return exits.OK


def _text(tasks: list[dict[str, Any]], enabled: bool) -> str:
    if not tasks:
        return _NOTHING
    rows = [
        (
            one["task"],
            one["cron"],
            _moment(one["next_run"]) if one["next_run"] else "never: " + ("blackout" if enabled else "disabled"),
            _moment(one["last_slot"]) if one["last_slot"] else "-",
            "-" if one["last_slot"] is None else one["last_outcome"] or "under way",
        )
        for one in tasks
    ]
    table = columns(("TASK", "WHEN", "NEXT RUN", "LAST DUE", "OUTCOME"), rows)
    return "\n".join(map(printable, [*table.splitlines(), f"Times are of the zone {tasks[0]['timezone']}."]))


def _moment(iso: str) -> str:
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M:%S %z}"
