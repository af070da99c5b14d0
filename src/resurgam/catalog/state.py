"""What no archive can rebuild: the history of runs, pins, and the journals of restores under way.

Rules:
- What a method wrote is on the disk when it returns (synchronous=FULL).
- The file is never recreated silently (`state_file.py`).
- Secrets never go into a plan, a reason or details.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from resurgam.catalog import models
from resurgam.catalog.liveness import Alive
from resurgam.catalog.models import from_us, to_us
from resurgam.catalog.sqlite import Database
from resurgam.catalog.state_file import explained, open_state_file
from resurgam.clock import Clock, SystemClock
from resurgam.errors import StateError

Outcome = Literal["ok", "failed", "degraded", "refused"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the history; `outcome` and `finished_at` are None while it is under way. Times are UTC."""

    id: int
    kind: str
    target: str
    started_at: datetime
    finished_at: datetime | None
    outcome: Outcome | None
    reason: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class JournalStep:
    """A step of a restore, written before it is taken."""

    step: str
    data: dict[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class Journal:
    """A restore's plan and steps in order. `outcome` is None while open; `alive`: open, and its process still runs."""

    restore_id: str
    plan: dict[str, Any]
    steps: tuple[JournalStep, ...]
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    alive: bool


class State:
    """The open state. Any thread may use it; other processes may have the same file open.

    Every method raises StateError where the file can not be read or written.
    """

    def __init__(self, database: Database, path: Path, clock: Clock, warnings: tuple[str, ...]) -> None:
        self._database = database
        self._path = path
        self._clock = clock
        self._alive = Alive(path.parent, f".{path.name}.alive-")
        self.warnings = warnings

    @classmethod
    def open(cls, path: Path, *, catalog_dir: Path | None = None, clock: Clock | None = None) -> State:
        """The state at `path`, created or migrated if need be. `catalog_dir` holds the marker (default: beside it).

        Raises StateError if it is damaged, newer than this Resurgam, on a network file system, or not accessible.
        """
        clock = clock or SystemClock()
        database, warnings = open_state_file(path, catalog_dir or path.parent, clock)
        return cls(database, path, clock, warnings)

    def close(self) -> None:
        """Close the file. Runs and restores that this object began and did not end then count as dead."""
        self._alive.close()
        self._database.close()

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin_run(self, kind: str, target: str) -> int:
        """Note that a run of that kind (`backup`, `restore`, `prune`, …) begins, and return its id."""
        with self._write() as connection:
            row = {"kind": kind, "target": target, "started_us": self._now(), "process": self._alive.mark()}
            result = connection.execute(insert(models.runs).values(**row, reason="", details="{}"))
            return int(result.inserted_primary_key[0])

    def finish_run(
        self, run_id: int, outcome: Outcome, reason: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        """Note how a run ended, with a sentence for the user where it is not `ok`."""
        values = {"finished_us": self._now(), "outcome": outcome, "reason": _text(reason), "details": _json(details)}
        with self._write() as connection:
            found = connection.execute(update(models.runs).where(models.runs.c.id == run_id).values(**values))
            if found.rowcount != 1:
                raise StateError(f"The state file {self._path} knows no run {run_id}.")

    def runs(self, limit: int = 50, *, kind: str | None = None) -> tuple[Run, ...]:
        """The latest runs, newest first; those of one kind if given."""
        query = select(models.runs).order_by(models.runs.c.id.desc()).limit(limit)
        with self._read() as connection:
            rows = connection.execute(query if kind is None else query.where(models.runs.c.kind == kind)).all()
        return tuple(_run(row) for row in rows)

    def unfinished_runs(self) -> tuple[Run, ...]:
        """The runs under way, oldest first. One whose process is gone is marked failed first, and is not among them."""
        return self._settled()[0]

    def dead_runs(self) -> tuple[Run, ...]:
        """Mark the runs as failed whose process is gone, and return those that were not marked before."""
        return self._settled()[1]

    def _settled(self) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
        query = select(models.runs).where(models.runs.c.outcome.is_(None)).order_by(models.runs.c.id)
        with self._read() as connection:
            rows = connection.execute(query).all()
        dead = [row.id for row in rows if not self._alive.is_alive(row.process)]
        if dead:
            reason = "Its process ended without a word: killed, out of memory, or the machine stopped."
            values = {"finished_us": self._now(), "outcome": "failed", "reason": reason}
            with self._write() as connection:
                # It may have been marked meanwhile.
                open_ones = models.runs.c.id.in_(dead) & models.runs.c.outcome.is_(None)
                connection.execute(update(models.runs).where(open_ones).values(**values))
        return (
            tuple(_run(row) for row in rows if row.id not in dead),
            tuple(_run(row) for row in rows if row.id in dead),
        )

    def pin(self, name: str) -> None:
        """Keep that backup from retention; again is harmless."""
        row = {"name": name, "pinned_us": self._now()}
        with self._write() as connection:
            connection.execute(upsert(models.pins).values(**row).on_conflict_do_nothing())

    def unpin(self, name: str) -> None:
        """Give it back to retention; harmless if it was not pinned."""
        with self._write() as connection:
            connection.execute(delete(models.pins).where(models.pins.c.name == name))

    def pinned(self) -> frozenset[str]:
        """The names of pinned backups."""
        with self._read() as connection:
            return frozenset(connection.execute(select(models.pins.c.name)).scalars())

    def journal_begin(self, restore_id: str, plan: Mapping[str, Any]) -> None:
        """Open a restore's journal, before anything is touched. Raises StateError if that id was used before."""
        with self._write() as connection:
            row = {"id": restore_id, "plan": _json(plan), "process": self._alive.mark(), "started_us": self._now()}
            if connection.execute(select(models.restores.c.id).where(models.restores.c.id == restore_id)).first():
                raise StateError(f"The state file {self._path} has a restore {restore_id} already.")
            connection.execute(insert(models.restores).values(**row))

    def journal_step(self, restore_id: str, step: str, data: Mapping[str, Any] | None = None) -> None:
        """Note a step, before it is taken. Raises StateError if the journal is not open."""
        row = {"restore_id": restore_id, "step": step, "data": _json(data), "at_us": self._now()}
        with self._write() as connection:
            self._require_open(connection, restore_id)
            connection.execute(insert(models.restore_steps).values(**row))

    def journal_end(self, restore_id: str, outcome: str) -> None:
        """Close the journal. Raises StateError if it is not open."""
        with self._write() as connection:
            self._require_open(connection, restore_id)
            ended = {"ended_us": self._now(), "outcome": outcome}
            connection.execute(update(models.restores).where(models.restores.c.id == restore_id).values(**ended))

    def open_journals(self) -> tuple[Journal, ...]:
        """The restores that were begun and not ended, oldest first; those with `alive` false need to be settled."""
        return self._journals(lambda table: table.c.outcome.is_(None))

    def journal(self, restore_id: str) -> Journal | None:
        """One restore's journal, open or ended; None if there is none."""
        found = self._journals(lambda table: table.c.id == restore_id)
        return found[0] if found else None

    def journals(self) -> tuple[Journal, ...]:
        """All journals, oldest first."""
        return self._journals(lambda table: table.c.id.is_not(None))

    def _journals(self, wanted: Callable[[Any], Any]) -> tuple[Journal, ...]:
        restores, steps = models.restores, models.restore_steps
        with self._read() as connection:
            chosen = wanted(restores)
            heads = connection.execute(
                select(restores).where(chosen).order_by(restores.c.started_us, restores.c.id)
            ).all()
            ids = select(restores.c.id).where(chosen)
            rows = connection.execute(select(steps).where(steps.c.restore_id.in_(ids)).order_by(steps.c.id)).all()
        of: dict[str, list[JournalStep]] = {}
        for row in rows:
            of.setdefault(row.restore_id, []).append(JournalStep(row.step, json.loads(row.data), from_us(row.at_us)))
        return tuple(
            Journal(
                restore_id=head.id,
                plan=json.loads(head.plan),
                steps=tuple(of.get(head.id, ())),
                started_at=from_us(head.started_us),
                ended_at=None if head.ended_us is None else from_us(head.ended_us),
                outcome=head.outcome,
                alive=head.outcome is None and self._alive.is_alive(head.process),
            )
            for head in heads
        )

    def _require_open(self, connection: Any, restore_id: str) -> None:
        restores = models.restores
        query = select(restores.c.id).where((restores.c.id == restore_id) & restores.c.outcome.is_(None))
        if connection.execute(query).first() is None:
            raise StateError(f"The state file {self._path} has no open restore {restore_id}.")

    def _now(self) -> int:
        return to_us(self._clock.now())

    @contextmanager
    def _read(self) -> Iterator[Any]:
        with explained(self._path), self._database.read() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Any]:
        with explained(self._path), self._database.write() as connection:
            yield connection


def _run(row: Any) -> Run:
    return Run(
        id=row.id,
        kind=row.kind,
        target=row.target,
        started_at=from_us(row.started_us),
        finished_at=None if row.finished_us is None else from_us(row.finished_us),
        outcome=row.outcome,
        reason=row.reason,
        details=json.loads(row.details),
    )


def _json(data: Mapping[str, Any] | None) -> str:
    return json.dumps(dict(data or {}))


def _text(text: str) -> str:
    # A file name that is not UTF-8 comes as lone surrogates, which SQLite does not take.
    return text.encode("utf-8", "backslashreplace").decode()
