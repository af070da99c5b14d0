"""Whether messages arrive: the latest success and failure of each channel. No URL is kept, only its label."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from resurgam.catalog.moments import from_us
from resurgam.catalog.state_access import Access, as_text


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """What was last heard of a channel. `problem` is "" if its last message arrived."""

    id: str
    label: str
    ok_at: datetime | None
    failed_at: datetime | None
    problem: str


_ARRIVED = """
    INSERT INTO channels (id, label, ok_us, problem) VALUES (:id, :label, :now, :problem)
    ON CONFLICT (id) DO UPDATE SET label = :label, ok_us = :now, problem = :problem
"""
_FAILED = """
    INSERT INTO channels (id, label, failed_us, problem) VALUES (:id, :label, :now, :problem)
    ON CONFLICT (id) DO UPDATE SET label = :label, failed_us = :now, problem = :problem
"""


class Channels:
    """The channels of one state. Every method raises StateError where the file can not be read or written."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def note(self, channel: str, label: str, problem: str = "") -> None:
        """A message to that channel arrived, or did not for that reason. `channel` and `label` hold no secret."""
        told = {"id": channel, "label": label, "problem": as_text(problem), "now": self._access.now_us()}
        with self._access.write() as connection:
            connection.execute(_FAILED if problem else _ARRIVED, told)

    def all(self) -> tuple[ChannelRecord, ...]:
        """Every channel that was ever used, also those that are set no longer."""
        query = "SELECT id, label, ok_us, failed_us, problem FROM channels ORDER BY id"
        with self._access.read() as connection:
            rows = connection.execute(query).fetchall()
        return tuple(
            ChannelRecord(channel, label, _moment(ok_us), _moment(failed_us), problem)
            for channel, label, ok_us, failed_us, problem in rows
        )


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
