"""Slots: which moments of the schedule were taken, and by which job (docs/ordering.md, "The schedule's slots").

The primary key (task, slot) decides who of many schedulers takes one. A slot is taken in the transaction that makes its
job, so none is lost between the two. One without a job was passed over, on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from resurgam.catalog.models import from_us, to_us
from resurgam.catalog.models import slots as table
from resurgam.catalog.state_access import Access
from resurgam.errors import BusyError

# The history of jobs tells of older runs. The latest slot of a task is kept whatever its age.
_KEPT = timedelta(days=60)
# A slot further ahead was taken by a clock that had gone wrong; in its way it would keep the run from its real time.
_AHEAD = timedelta(days=1)


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

    def taking(self, task: str, slot: datetime, *, instead_of: int | None = None) -> Callable[[Any, int], None]:
        """What `Jobs.submit` is to do in its transaction so that the job has the slot; SlotTaken undoes both.

        `instead_of` is the job that has the slot now and came to nothing.
        """

        def take(connection: Any, job_id: int) -> None:
            if instead_of is not None:
                same = (table.c.task == task) & (table.c.slot_us == to_us(slot)) & (table.c.job_id == instead_of)
                taken = connection.execute(update(table).where(same).values(job_id=job_id)).rowcount
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
        query = select(table).where(table.c.task == task).order_by(table.c.slot_us.desc()).limit(1)
        if until is not None:
            query = query.where(table.c.slot_us <= to_us(until))
        with self._access.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else Slot(row.task, from_us(row.slot_us), from_us(row.claimed_us), row.job_id)

    def forget(self, task: str, now: datetime) -> None:
        """Drop slots of long ago, but not the latest, and those that a clock gone wrong took far ahead."""
        of = table.c.task == task
        with self._access.write() as connection:
            connection.execute(delete(table).where(of & (table.c.slot_us > to_us(now + _AHEAD))))
            newest = select(table.c.slot_us).where(of).order_by(table.c.slot_us.desc()).limit(1)
            last = connection.execute(newest).scalar()
            if last is not None:
                old = (table.c.slot_us < to_us(now - _KEPT)) & (table.c.slot_us < last)
                connection.execute(delete(table).where(of & old))

    def _insert(self, connection: Any, task: str, slot: datetime, job_id: int | None) -> int:
        row = {"task": task, "slot_us": to_us(slot), "claimed_us": self._access.now_us(), "job_id": job_id}
        return int(connection.execute(upsert(table).values(**row).on_conflict_do_nothing()).rowcount)
