"""Signs: what the service last saw of itself, by name; the latest only.

`loop`: its loop is alive. `clock_jump`: the clock was set. `schedule TASK`: since when a task is scheduled as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert as upsert

from resurgam.catalog.models import from_us
from resurgam.catalog.models import signs as table
from resurgam.catalog.state_access import Access, as_json


@dataclass(frozen=True, slots=True)
class Sign:
    """What was put last under a name, and when."""

    at: datetime
    data: dict[str, Any]


class Signs:
    """The signs of one state. Every method raises StateError where the file can not be read or written."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def put(self, name: str, data: Mapping[str, Any] | None = None) -> None:
        """Replace the sign of that name, with the present time."""
        values = {"at_us": self._access.now_us(), "data": as_json(data)}
        row = upsert(table).values(name=name, **values)
        with self._access.write() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=[table.c.name], set_=values))

    def get(self, name: str) -> Sign | None:
        """The sign of that name; None if there never was one."""
        with self._access.read() as connection:
            row = connection.execute(select(table).where(table.c.name == name)).first()
        return None if row is None else Sign(from_us(row.at_us), json.loads(row.data))
