"""Jobs: whatever anyone asked for, while it waits, while it runs, and afterwards as history.

Rules:
- A job belongs to the process whose sign of life stands in its row. Dead process, failed job: `settle_dead` says so.
- Of `EXCLUSIVE` kinds one is under way in a state, and one waits at most; `submit` decides that in one transaction. The
  locks of the operations themselves (docs/ordering.md) hold beyond it, also against those who use another state.
- Only whoever runs a job finishes it, once.
- The request holds names and switches, never a secret.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from resurgam.catalog.moments import from_us
from resurgam.catalog.state_access import Access, as_json, as_text
from resurgam.errors import BusyError, NotFoundError, StateError

Outcome = Literal["ok", "failed", "degraded", "refused", "cancelled"]
JobState = Literal["queued", "running", "ok", "failed", "degraded", "refused", "cancelled"]
Origin = Literal["cli", "api", "schedule", "python"]
# They change the backup folder or the application, and so exclude each other.
EXCLUSIVE = frozenset({"backup", "restore", "undo", "prune", "delete"})
_KEPT_LINES = 500
_DIED = "Its process ended without a word: killed, out of memory, or the machine stopped."


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Times are UTC; `begun_at` is None while it is queued, `finished_at` and `outcome` until it has ended.

    `request` is what was asked for; `details` hold `code` and `hint` of a failure, and the `result` of a success;
    `done` and `total` are bytes of the present phase.
    """

    id: int
    kind: str
    target: str
    started_at: datetime
    begun_at: datetime | None
    finished_at: datetime | None
    outcome: Outcome | None
    reason: str
    details: dict[str, Any]
    origin: Origin
    actor: str
    request: dict[str, Any]
    phase: str
    done: int
    total: int | None
    cancel_requested: bool

    @property
    def state(self) -> JobState:
        """Where it stands, in one word."""
        if self.outcome is not None:
            return self.outcome
        return "queued" if self.begun_at is None else "running"


@dataclass(frozen=True, slots=True)
class JobLine:
    """A line of a job's log."""

    at: datetime
    level: str
    text: str


_OPEN = "SELECT * FROM jobs WHERE outcome IS NULL ORDER BY id"
_ADD = """
    INSERT INTO jobs (
        kind, target, started_us, begun_us, reason, details, process, origin, actor, request, phase, done
    ) VALUES (:kind, :target, :started_us, :begun_us, '', '{}', :process, :origin, :actor, :request, '', 0)
"""
# It may have been marked, or taken over by its worker, meanwhile.
_SETTLE = """
    UPDATE jobs SET finished_us = ?, outcome = 'failed', reason = ?
    WHERE id = ? AND process = ? AND outcome IS NULL
"""


class Jobs:
    """The jobs of one state. Every method raises StateError where the file can not be read or written."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def begin(
        self,
        kind: str,
        target: str,
        *,
        origin: Origin = "cli",
        actor: str = "",
        request: Mapping[str, Any] | None = None,
    ) -> int:
        """A job that this process begins at once, whatever else is under way; its id."""
        now = self._access.now_us()
        with self._access.write() as connection:
            return self._insert(connection, kind, target, origin, actor, request, now, begun=now)

    def submit(
        self,
        kind: str,
        target: str,
        *,
        origin: Origin,
        actor: str,
        request: Mapping[str, Any] | None = None,
        wait: bool = False,
        also: Callable[[sqlite3.Connection, int], None] = lambda connection, job_id: None,
    ) -> int:
        """Queue a job, which a worker then takes over by `take_over`; its id.

        BusyError where it is of an exclusive kind and another such job is under way; with `wait` it may stand in line
        behind that one, but not behind one that waits already. `also` belongs to the same transaction: what it raises
        undoes the job.
        """
        self.settle_dead()
        now = self._access.now_us()
        with self._access.write() as connection:
            if kind in EXCLUSIVE:
                others = [row for row in connection.execute(_OPEN) if row["kind"] in EXCLUSIVE]
                if others and (not wait or len(others) > 1):
                    first = _job(others[0])
                    raise BusyError(
                        f"A {first.kind} is under way (job {first.id}); this {kind} was not started.",
                        "Wait until it has ended, or cancel it.",
                    )
            job_id = self._insert(connection, kind, target, origin, actor, request, now, begun=None)
            also(connection, job_id)
            return job_id

    def take_over(self, job_id: int) -> Job:
        """The worker's first act: the job is now this process's, and begun. StateError if it is not queued any more."""
        take = "UPDATE jobs SET process = ?, begun_us = ? WHERE id = ? AND outcome IS NULL AND begun_us IS NULL"
        mine = (self._access.alive.mark(), self._access.now_us(), job_id)
        with self._access.write() as connection:
            if connection.execute(take, mine).rowcount != 1:
                raise StateError(f"Job {job_id} is not waiting to be run.")
        return self.get(job_id)

    def progress(self, job_id: int, phase: str, done: int, total: int | None) -> bool:
        """Note how far it is; answers whether somebody asked for it to be cancelled."""
        told = (as_text(phase), done, total, job_id)
        with self._access.write() as connection:
            connection.execute("UPDATE jobs SET phase = ?, done = ?, total = ? WHERE id = ?", told)
            query = "SELECT id FROM jobs WHERE id = ? AND cancel_us IS NOT NULL"
            return connection.execute(query, (job_id,)).fetchone() is not None

    def say(self, job_id: int, level: str, text: str) -> None:
        """Add a line to its log."""
        row = (job_id, self._access.now_us(), level, as_text(text))
        with self._access.write() as connection:
            connection.execute("INSERT INTO job_lines (job_id, at_us, level, text) VALUES (?, ?, ?, ?)", row)

    def lines(self, job_id: int, limit: int = 100) -> tuple[JobLine, ...]:
        """The last lines of its log, in order."""
        newest = "SELECT at_us, level, text FROM job_lines WHERE job_id = ? ORDER BY id DESC LIMIT ?"
        with self._access.read() as connection:
            rows = connection.execute(newest, (job_id, limit)).fetchall()
        return tuple(JobLine(from_us(at_us), level, text) for at_us, level, text in reversed(rows))

    def request_cancel(self, job_id: int) -> Job:
        """Ask for it to be cancelled. NotFoundError if there is none; one that has ended stays as it is."""
        ask = "UPDATE jobs SET cancel_us = ? WHERE id = ? AND outcome IS NULL AND cancel_us IS NULL"
        with self._access.write() as connection:
            connection.execute(ask, (self._access.now_us(), job_id))
        return self.get(job_id)

    def finish(self, job_id: int, outcome: Outcome, reason: str = "", details: Mapping[str, Any] | None = None) -> None:
        """Note how it ended, with a sentence for the user where it is not `ok`."""
        end = "UPDATE jobs SET finished_us = ?, outcome = ?, reason = ?, details = ? WHERE id = ?"
        ended = (self._access.now_us(), outcome, as_text(reason), as_json(details), job_id)
        with self._access.write() as connection:
            if connection.execute(end, ended).rowcount != 1:
                raise StateError(f"The state file {self._access.path} knows no job {job_id}.")

    def finish_lost(self, job_id: int, reason: str, outcome: Outcome = "failed") -> bool:
        """Note how a job ended whose worker ended without doing so; False if it had ended properly."""
        end = "UPDATE jobs SET finished_us = ?, outcome = ?, reason = ? WHERE id = ? AND outcome IS NULL"
        with self._access.write() as connection:
            ended = (self._access.now_us(), outcome, as_text(reason), job_id)
            return bool(connection.execute(end, ended).rowcount)

    def get(self, job_id: int) -> Job:
        """One job. NotFoundError if there is none of that number."""
        with self._access.read() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise NotFoundError(f"There is no job {job_id}.", "GET /api/jobs lists those there are.")
        return _job(row)

    def latest(self, limit: int = 50, *, kind: str | None = None, before: int | None = None) -> tuple[Job, ...]:
        """The latest jobs, newest first; of one kind, or older than the job `before`, if given."""
        of_kind = "true" if kind is None else "kind = :kind"
        older = "true" if before is None else "id < :before"
        query = f"SELECT * FROM jobs WHERE {of_kind} AND {older} ORDER BY id DESC LIMIT :limit"
        values = {"kind": kind, "before": before, "limit": limit}
        with self._access.read() as connection:
            return tuple(_job(row) for row in connection.execute(query, values))

    def since(self, moment_us: int, kind: str) -> tuple[Job, ...]:
        """The jobs of a kind that were started at or after that microsecond, oldest first."""
        query = "SELECT * FROM jobs WHERE kind = ? AND started_us >= ? ORDER BY id"
        with self._access.read() as connection:
            return tuple(_job(row) for row in connection.execute(query, (kind, moment_us)))

    def unfinished(self) -> tuple[Job, ...]:
        """The jobs queued and under way, oldest first. One whose process is gone is settled first."""
        return self._settled()[0]

    def is_behind(self, job_id: int) -> bool:
        """Whether a job that excludes it was asked for earlier and has not ended."""
        return any(job.id < job_id and job.kind in EXCLUSIVE for job in self.unfinished())

    def settle_dead(self) -> tuple[Job, ...]:
        """Mark the jobs as failed whose process is gone, and return those that were not marked before."""
        return self._settled()[1]

    def unalerted(self) -> tuple[Job, ...]:
        """Jobs that died and of which nobody was told yet."""
        query = "SELECT * FROM jobs WHERE outcome = 'failed' AND reason = ? AND alerted_us IS NULL ORDER BY id"
        with self._access.read() as connection:
            return tuple(_job(row) for row in connection.execute(query, (_DIED,)))

    def lost_in_line(self, job_id: int) -> bool:
        """Whether it came to nothing because whoever queued it died before a worker took it over."""
        query = "SELECT id FROM jobs WHERE id = ? AND begun_us IS NULL AND outcome = 'failed' AND reason = ?"
        with self._access.read() as connection:
            return connection.execute(query, (job_id, _DIED)).fetchone() is not None

    def mark_alerted(self, job_id: int) -> bool:
        """Take it on oneself to tell of a job; False if somebody else has."""
        take = "UPDATE jobs SET alerted_us = ? WHERE id = ? AND alerted_us IS NULL"
        with self._access.write() as connection:
            return bool(connection.execute(take, (self._access.now_us(), job_id)).rowcount)

    def forget_lines(self) -> None:
        """Drop the logs of all but the latest jobs; their rows stay."""
        newest_unkept = "SELECT id FROM jobs ORDER BY id DESC LIMIT 1 OFFSET ?"
        with self._access.write() as connection:
            row = connection.execute(newest_unkept, (_KEPT_LINES,)).fetchone()
            if row is not None:
                connection.execute("DELETE FROM job_lines WHERE job_id <= ?", (row["id"],))

    def _insert(
        self,
        connection: sqlite3.Connection,
        kind: str,
        target: str,
        origin: Origin,
        actor: str,
        request: Mapping[str, Any] | None,
        now: int,
        *,
        begun: int | None,
    ) -> int:
        row = {
            "kind": kind,
            "target": as_text(target),
            "started_us": now,
            "begun_us": begun,
            "process": self._access.alive.mark(),
            "origin": origin,
            "actor": as_text(actor),
            "request": as_json(request),
        }
        return int(connection.execute(_ADD, row).lastrowid or 0)

    def _settled(self) -> tuple[tuple[Job, ...], tuple[Job, ...]]:
        with self._access.read() as connection:
            rows = connection.execute(_OPEN).fetchall()
        dead = {row["id"]: row["process"] for row in rows if not self._access.alive.is_alive(row["process"])}
        if dead:
            now = self._access.now_us()
            with self._access.write() as connection:
                connection.executemany(_SETTLE, [(now, _DIED, job_id, process) for job_id, process in dead.items()])
        return (
            tuple(_job(row) for row in rows if row["id"] not in dead),
            tuple(self.get(job_id) for job_id in dead),
        )


def unkept(kind: str, target: str, outcome: Outcome, reason: str, now: datetime, details: Mapping[str, Any]) -> Job:
    """A job that ended now, and that no state could take: for whoever tells people of it. Its id is 0."""
    return Job(
        id=0,
        kind=kind,
        target=target,
        started_at=now,
        begun_at=now,
        finished_at=now,
        outcome=outcome,
        reason=reason,
        details=dict(details),
        origin="cli",
        actor="",
        request={},
        phase="",
        done=0,
        total=None,
        cancel_requested=False,
    )


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        kind=row["kind"],
        target=row["target"],
        started_at=from_us(row["started_us"]),
        begun_at=None if row["begun_us"] is None else from_us(row["begun_us"]),
        finished_at=None if row["finished_us"] is None else from_us(row["finished_us"]),
        outcome=row["outcome"],
        reason=row["reason"],
        details=json.loads(row["details"]),
        origin=row["origin"],
        actor=row["actor"],
        request=json.loads(row["request"]),
        phase=row["phase"],
        done=row["done"],
        total=row["total"],
        cancel_requested=row["cancel_us"] is not None,
    )
