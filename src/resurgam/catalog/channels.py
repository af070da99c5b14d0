"""Whether messages arrive: the latest success and failure of each channel. No URL is kept, only its label."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert as upsert

from resurgam.catalog.models import channels as table
from resurgam.catalog.models import from_us
from resurgam.catalog.state_access import Access, as_text


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """What was last heard of a channel. `problem` is "" if its last message arrived."""

    id: str
    label: str
    ok_at: datetime | None
    failed_at: datetime | None
    problem: str


class Channels:
    """The channels of one state. Every method raises StateError where the file can not be read or written."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def note(self, channel: str, label: str, problem: str = "") -> None:
        """A message to that channel arrived, or did not for that reason. `channel` and `label` hold no secret."""
        told: dict[str, Any] = {"label": label, "problem": as_text(problem)}
        told["failed_us" if problem else "ok_us"] = self._access.now_us()
        with self._access.write() as connection:
            row = upsert(table).values(id=channel, **told)
            connection.execute(row.on_conflict_do_update(index_elements=[table.c.id], set_=told))

    def all(self) -> tuple[ChannelRecord, ...]:
        """Every channel that was ever used, also those that are set no longer."""
        with self._access.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.id)).all()
        return tuple(
            ChannelRecord(row.id, row.label, _moment(row.ok_us), _moment(row.failed_us), row.problem) for row in rows
        )


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
