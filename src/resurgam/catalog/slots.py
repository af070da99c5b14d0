"""Slots: which moments of the schedule were taken, and by which job (docs/ordering.md, "The schedule's slots").

The primary key (task, slot) decides who of many schedulers takes one. A slot is taken in the transaction that makes its
job, so none is lost between the two. One without a job was passed over, on purpose.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from resurgam.catalog.moments import from_us, to_us
from resurgam.catalog.state_access import Access
from resurgam.errors import BusyError

# The history of jobs tells of older runs. The latest slot of a task is kept whatever its age.
_KEPT = timedelta(days=60)
# A slot further ahead was taken by a clock that had gone wrong; in its way it would keep the run from its real time.
_AHEAD = timedelta(days=1)


_TAKE = """
    INSERT INTO slots (task, slot_us, claimed_us, job_id) VALUES (?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""


class SlotTaken(BusyError):
    """Another scheduler has taken the slot, and made the job for it."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that was taken; without a job it was passed over."""

    task: str
    at: datetime
    claimed_at: datetime
    job_id: int | None


class Slots:
    """The slots of one state. Every method raises StateError where the file can not be read or written."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def taking(
        self, task: str, slot: datetime, *, instead_of: int | None = None
    ) -> Callable[[sqlite3.Connection, int], None]:
        """What `Jobs.submit` is to do in its transaction so that the job has the slot; SlotTaken undoes both.

        `instead_of` is the job that has the slot now and came to nothing.
        """

        def take(connection: sqlite3.Connection, job_id: int) -> None:
            if instead_of is not None:
                same = "UPDATE slots SET job_id = ? WHERE task = ? AND slot_us = ? AND job_id = ?"
                taken = connection.execute(same, (job_id, task, to_us(slot), instead_of)).rowcount
            else:
                taken = self._insert(connection, task, slot, job_id)
            if not taken:
                raise SlotTaken(f"Another scheduler has started the {task} of {slot.isoformat()}.")

        return take

    def claim(self, task: str, slot: datetime) -> bool:
        """Take a slot without a job: it is passed over. False if it is taken; of many, one gets True."""
        with self._access.write() as connection:
            return bool(self._insert(connection, task, slot, None))

    def last(self, task: str, until: datetime | None = None) -> Slot | None:
        """The latest slot taken of a task, or the latest not later than `until`."""
        earlier = "true" if until is None else "slot_us <= :until"
        query = f"SELECT * FROM slots WHERE task = :task AND {earlier} ORDER BY slot_us DESC LIMIT 1"
        values = {"task": task, "until": None if until is None else to_us(until)}
        with self._access.read() as connection:
            row = connection.execute(query, values).fetchone()
        if row is None:
            return None
        return Slot(row["task"], from_us(row["slot_us"]), from_us(row["claimed_us"]), row["job_id"])

    def forget(self, task: str, now: datetime) -> None:
        """Drop slots of long ago, but not the latest, and those that a clock gone wrong took far ahead."""
        with self._access.write() as connection:
            connection.execute("DELETE FROM slots WHERE task = ? AND slot_us > ?", (task, to_us(now + _AHEAD)))
            last = connection.execute("SELECT max(slot_us) FROM slots WHERE task = ?", (task,)).fetchone()[0]
            if last is not None:
                kept = min(to_us(now - _KEPT), last)
                connection.execute("DELETE FROM slots WHERE task = ? AND slot_us < ?", (task, kept))

    def _insert(self, connection: sqlite3.Connection, task: str, slot: datetime, job_id: int | None) -> int:
        row = (task, to_us(slot), self._access.now_us(), job_id)
        return connection.execute(_TAKE, row).rowcount
