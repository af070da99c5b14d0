"""What health asks of the jobs: few, narrow rows, however many jobs there are and however long their results."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from resurgam.catalog.jobs import Outcome
from resurgam.catalog.moments import from_us
from resurgam.catalog.state_access import Access

KINDS = ("backup", "delete", "drill", "prune", "restore", "undo", "verify")
# A backup every ten minutes for 30 days is 4,320.
_LOOKED_AT = 5000


@dataclass(frozen=True, slots=True)
class Run:
    """A job that has ended. `seconds` is how long it ran, by the wall clock; never negative. `code` is its error's."""

    id: int
    kind: str
    target: str
    outcome: Outcome
    started_at: datetime
    finished_at: datetime
    seconds: float
    reason: str
    hint: str = ""
    code: str = ""


class History:
    """The jobs that have ended. Every method raises StateError where the file can not be read."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def counts(self, since_us: int) -> dict[tuple[str, str], int]:
        """How many jobs of each kind and outcome were started at or after that microsecond."""
        counted: dict[tuple[str, str], int] = {}
        query = "SELECT started_us, outcome FROM jobs WHERE kind = ? ORDER BY id DESC LIMIT ?"
        with self._access.read() as connection:
            for kind in KINDS:
                for started, outcome in connection.execute(query, (kind, _LOOKED_AT)):
                    if outcome is not None and started >= since_us:
                        counted[kind, outcome] = counted.get((kind, outcome), 0) + 1
        return counted

    def last(self, kind: str, outcomes: tuple[Outcome, ...], limit: int = 1) -> tuple[Run, ...]:
        """The latest jobs of a kind that ended in one of these ways, newest first."""
        query = f"""
            SELECT id, kind, target, outcome, started_us, begun_us, finished_us, reason, details
            FROM jobs WHERE kind = ? AND outcome IN ({", ".join("?" * len(outcomes))}) ORDER BY id DESC LIMIT ?
        """
        with self._access.read() as connection:
            rows = connection.execute(query, (kind, *outcomes, limit)).fetchall()
        return tuple(_run(row) for row in rows)

    def timings(self, limit: int = 10) -> tuple[tuple[int, float], ...]:
        """Bytes and seconds of the latest restores and drills that went well, newest first."""
        query = """
            SELECT details FROM jobs WHERE kind IN ('restore', 'drill') AND outcome = 'ok' ORDER BY id DESC LIMIT ?
        """
        with self._access.read() as connection:
            rows = connection.execute(query, (limit,)).fetchall()
        results = [json.loads(details).get("result", {}) for (details,) in rows]
        return tuple(
            (result["bytes"], float(result["seconds"]))
            for result in results
            if isinstance(result.get("bytes"), int) and isinstance(result.get("seconds"), int | float)
        )


def _run(row: sqlite3.Row) -> Run:
    # The result of a success can be long, and is not needed.
    details = {} if row["outcome"] == "ok" else json.loads(row["details"])
    # A job that was asked for, and waited, ran from when its worker took it over.
    begun_us = row["begun_us"] or row["started_us"]
    return Run(
        id=row["id"],
        kind=row["kind"],
        target=row["target"],
        outcome=row["outcome"],
        started_at=from_us(begun_us),
        finished_at=from_us(row["finished_us"]),
        seconds=max(0, row["finished_us"] - begun_us) / 1e6,
        reason=row["reason"],
        hint=str(details.get("hint", "")),
        code=str(details.get("code", "")),
    )
