"""Drills: what each restore for practice found, and what must be removed after one that died.

Rules:
- `begin` notes what a drill will make before it makes it; `cleaned` says that it is gone. In between, whoever finds the
  drill's process dead removes it (docs/ordering.md, "Drills").
- A drill ends once. One whose process died ends as `died`; it says nothing of the backup.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from resurgam.catalog.moments import from_us, to_us
from resurgam.catalog.state_access import Access, as_json

DrillOutcome = Literal["passed", "failed", "error", "died"]


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill. `failed`: the backup, or an assertion, is not as it should be; `error`: it could not be carried out;
    `outcome` and `finished_at` are None while it runs. Times are UTC, `rto` and `rpo` seconds.

    `report` is the evidence, `digest` its SHA-256; `scratch` what is yet to be removed.
    """

    id: int
    backup: str
    started_at: datetime
    finished_at: datetime | None
    outcome: DrillOutcome | None
    rto: float | None
    rpo: float | None
    report: dict[str, Any]
    digest: str
    scratch: dict[str, Any] | None


_BEGIN = """
    INSERT INTO drills (backup, process, started_us, report, digest, scratch)
    VALUES (:backup, :process, :started_us, '{}', '', :scratch)
"""
_END = """
    UPDATE drills
    SET outcome = :outcome, finished_us = :finished_us, report = :report, digest = :digest,
        rto_us = :rto_us, rpo_us = :rpo_us
    WHERE id = :id AND outcome IS NULL
"""


class Drills:
    """The drills of one state. Every method raises StateError where the file can not be read or written."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def begin(self, backup: str, scratch: Mapping[str, Any]) -> int:
        """A drill begins, and will make `scratch`; its number."""
        row = {
            "backup": backup,
            "process": self._access.alive.mark(),
            "started_us": self._access.now_us(),
            "scratch": as_json(scratch),
        }
        with self._access.write() as connection:
            return int(connection.execute(_BEGIN, row).lastrowid or 0)

    def cleaned(self, drill: int) -> None:
        """What it had made is gone."""
        with self._access.write() as connection:
            connection.execute("UPDATE drills SET scratch = NULL WHERE id = ?", (drill,))

    def end(
        self,
        drill: int,
        outcome: DrillOutcome,
        report: Mapping[str, Any],
        digest: str,
        *,
        finished_at: datetime | None = None,
        rto: float | None = None,
        rpo: float | None = None,
    ) -> None:
        """How it ended; later calls for the same drill change nothing."""
        row = {
            "id": drill,
            "outcome": outcome,
            "finished_us": self._access.now_us() if finished_at is None else to_us(finished_at),
            "report": as_json(report),
            "digest": digest,
            "rto_us": None if rto is None else round(rto * 1e6),
            "rpo_us": None if rpo is None else round(rpo * 1e6),
        }
        with self._access.write() as connection:
            connection.execute(_END, row)

    def dead(self) -> tuple[Drill, ...]:
        """The drills whose process is gone, and which have not ended or have something to be removed."""
        query = "SELECT * FROM drills WHERE outcome IS NULL OR scratch IS NOT NULL ORDER BY id"
        with self._access.read() as connection:
            rows = connection.execute(query).fetchall()
        return tuple(_drill(row) for row in rows if not self._access.alive.is_alive(row["process"]))

    def last(self) -> Drill | None:
        """The latest drill that came to a result; one that died has none."""
        query = "SELECT * FROM drills WHERE outcome IN ('passed', 'failed', 'error') ORDER BY id DESC LIMIT 1"
        with self._access.read() as connection:
            row = connection.execute(query).fetchone()
        return None if row is None else _drill(row)

    def between(self, since: datetime, until: datetime) -> tuple[Drill, ...]:
        """The drills that were begun from `since` on and before `until` and have ended, oldest first."""
        query = "SELECT * FROM drills WHERE started_us >= ? AND started_us < ? AND outcome IS NOT NULL ORDER BY id"
        with self._access.read() as connection:
            return tuple(_drill(row) for row in connection.execute(query, (to_us(since), to_us(until))))

    def verdicts(self) -> dict[str, DrillOutcome]:
        """What the latest drill that passed or failed said of each backup."""
        query = "SELECT backup, outcome FROM drills WHERE outcome IN ('passed', 'failed') ORDER BY id"
        with self._access.read() as connection:
            return {str(name): outcome for name, outcome in connection.execute(query)}


def _drill(row: sqlite3.Row) -> Drill:
    return Drill(
        id=row["id"],
        backup=row["backup"],
        started_at=from_us(row["started_us"]),
        finished_at=None if row["finished_us"] is None else from_us(row["finished_us"]),
        outcome=row["outcome"],
        rto=None if row["rto_us"] is None else row["rto_us"] / 1e6,
        rpo=None if row["rpo_us"] is None else row["rpo_us"] / 1e6,
        report=json.loads(row["report"]),
        digest=row["digest"],
        scratch=None if row["scratch"] is None else json.loads(row["scratch"]),
    )
