"""What no archive can rebuild: jobs, pins, the journals of restores under way, and what the service keeps.

Rules:
- What a method wrote is on the disk when it returns (synchronous=FULL).
- The file is never recreated silently (`state_file.py`).
- Secrets never go into a plan, a reason or details.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from resurgam.catalog.alerts import Alerts
from resurgam.catalog.audit import AuditLog
from resurgam.catalog.channels import Channels
from resurgam.catalog.drills import Drills
from resurgam.catalog.history import History
from resurgam.catalog.jobs import Jobs
from resurgam.catalog.liveness import Alive
from resurgam.catalog.moments import from_us
from resurgam.catalog.signs import Signs
from resurgam.catalog.slots import Slots
from resurgam.catalog.sqlite import Database
from resurgam.catalog.state_access import Access, as_json
from resurgam.catalog.state_file import explained, open_state_file
from resurgam.catalog.tokens import Tokens
from resurgam.clock import Clock, SystemClock
from resurgam.errors import StateError


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


_ADD_STEP = "INSERT INTO restore_steps (restore_id, step, data, at_us) VALUES (?, ?, ?, ?)"


class State:
    """The open state. Any thread may use it; other processes may have the same file open.

    Every method raises StateError where the file can not be read or written.
    """

    def __init__(self, database: Database, path: Path, clock: Clock, warnings: tuple[str, ...]) -> None:
        self._access = Access(database, path, clock, Alive(path.parent, f".{path.name}.alive-"))
        self.warnings = warnings
        self.jobs = Jobs(self._access)
        self.alerts = Alerts(self._access)
        self.channels = Channels(self._access)
        self.history = History(self._access)
        self.tokens = Tokens(self._access)
        self.audit = AuditLog(self._access)
        self.slots = Slots(self._access)
        self.signs = Signs(self._access)
        self.drills = Drills(self._access)

    @classmethod
    def open(cls, path: Path, *, catalog_dir: Path | None = None, clock: Clock | None = None) -> State:
        """The state at `path`, created or migrated if need be. `catalog_dir` holds the marker (default: beside it).

        Raises StateError if it is damaged, newer than this Resurgam, on a network file system, or not accessible.
        """
        clock = clock or SystemClock()
        database, warnings = open_state_file(path, catalog_dir or path.parent, clock)
        return cls(database, path, clock, warnings)

    @property
    def path(self) -> Path:
        """The file."""
        return self._access.path

    def close(self) -> None:
        """Close the file. Jobs and restores that this object began and did not end then count as dead."""
        self._access.alive.close()
        self._access.database.close()

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pin(self, name: str) -> None:
        """Keep that backup from retention; again is harmless."""
        row = (name, self._access.now_us())
        with self._access.write() as connection:
            connection.execute("INSERT INTO pins (name, pinned_us) VALUES (?, ?) ON CONFLICT DO NOTHING", row)

    def unpin(self, name: str) -> None:
        """Give it back to retention; harmless if it was not pinned."""
        with self._access.write() as connection:
            connection.execute("DELETE FROM pins WHERE name = ?", (name,))

    def pinned(self) -> frozenset[str]:
        """The names of pinned backups."""
        with self._access.read() as connection:
            return frozenset(str(name) for (name,) in connection.execute("SELECT name FROM pins"))

    def journal_begin(self, restore_id: str, plan: Mapping[str, Any]) -> None:
        """Open a restore's journal, before anything is touched. Raises StateError if that id was used before."""
        with self._access.write() as connection:
            row = (restore_id, as_json(plan), self._access.alive.mark(), self._access.now_us())
            if connection.execute("SELECT id FROM restores WHERE id = ?", (restore_id,)).fetchone() is not None:
                raise StateError(f"The state file {self._access.path} has a restore {restore_id} already.")
            connection.execute("INSERT INTO restores (id, plan, process, started_us) VALUES (?, ?, ?, ?)", row)

    def journal_step(self, restore_id: str, step: str, data: Mapping[str, Any] | None = None) -> None:
        """Note a step, before it is taken. Raises StateError if the journal is not open."""
        row = (restore_id, step, as_json(data), self._access.now_us())
        with self._access.write() as connection:
            self._require_open(connection, restore_id)
            connection.execute(_ADD_STEP, row)

    def journal_end(self, restore_id: str, outcome: str) -> None:
        """Close the journal. Raises StateError if it is not open."""
        with self._access.write() as connection:
            self._require_open(connection, restore_id)
            ended = (self._access.now_us(), outcome, restore_id)
            connection.execute("UPDATE restores SET ended_us = ?, outcome = ? WHERE id = ?", ended)

    def journal_note(self, restore_id: str, step: str, data: Mapping[str, Any]) -> None:
        """Add to the journal of a restore that has ended: what became of what it kept."""
        row = (restore_id, step, as_json(data), self._access.now_us())
        with self._access.write() as connection:
            connection.execute(_ADD_STEP, row)

    def open_journals(self) -> tuple[Journal, ...]:
        """The restores that were begun and not ended, oldest first; those with `alive` false need to be settled."""
        return self._journals("outcome IS NULL")

    def journal(self, restore_id: str) -> Journal | None:
        """One restore's journal, open or ended; None if there is none."""
        found = self._journals("id = ?", restore_id)
        return found[0] if found else None

    def journals(self) -> tuple[Journal, ...]:
        """All journals, oldest first."""
        return self._journals("true")

    def _journals(self, wanted: str, *values: str) -> tuple[Journal, ...]:
        """Those of the restores that are as `wanted`, a condition, says; `values` are for its question marks."""
        heads_query = f"SELECT * FROM restores WHERE {wanted} ORDER BY started_us, id"
        steps_query = f"""
            SELECT restore_id, step, data, at_us FROM restore_steps
            WHERE restore_id IN (SELECT id FROM restores WHERE {wanted}) ORDER BY id
        """
        with self._access.read() as connection:
            heads = connection.execute(heads_query, values).fetchall()
            rows = connection.execute(steps_query, values).fetchall()
        steps: dict[str, list[JournalStep]] = {}
        for restore_id, step, data, at_us in rows:
            steps.setdefault(restore_id, []).append(JournalStep(step, json.loads(data), from_us(at_us)))
        return tuple(
            Journal(
                restore_id=head["id"],
                plan=json.loads(head["plan"]),
                steps=tuple(steps.get(head["id"], ())),
                started_at=from_us(head["started_us"]),
                ended_at=None if head["ended_us"] is None else from_us(head["ended_us"]),
                outcome=head["outcome"],
                alive=head["outcome"] is None and self._access.alive.is_alive(head["process"]),
            )
            for head in heads
        )

    def _require_open(self, connection: sqlite3.Connection, restore_id: str) -> None:
        query = "SELECT id FROM restores WHERE id = ? AND outcome IS NULL"
        if connection.execute(query, (restore_id,)).fetchone() is None:
            raise StateError(f"The state file {self._access.path} has no open restore {restore_id}.")


@contextmanager
def state_to_look_at(path: Path, opened: Callable[[], State], clock: Clock) -> Iterator[State]:
    """The state for whoever changes nothing: the one that `opened` gives, or where its folder can't be written to, a
    copy that goes with the block."""
    if os.access(path.parent, os.W_OK | os.X_OK):
        yield opened()
        return
    with tempfile.TemporaryDirectory(prefix="resurgam-state-") as made:
        copy = Path(made) / path.name
        with explained(path):
            for suffix in ("", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
        with State.open(copy, clock=clock) as state:
            yield state
