"""Signs: what the service last saw of itself, by name; the latest only.

`loop`: its loop is alive. `clock_jump`: the clock was set. `schedule TASK`: since when a task is scheduled as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resurgam.catalog.moments import from_us
from resurgam.catalog.state_access import Access, as_json


@dataclass(frozen=True, slots=True)
class Sign:
    """What was put last under a name, and when."""

    at: datetime
    data: dict[str, Any]


_PUT = """
    INSERT INTO signs (name, at_us, data) VALUES (:name, :at_us, :data)
    ON CONFLICT (name) DO UPDATE SET at_us = :at_us, data = :data
"""


class Signs:
    """The signs of one state. Every method raises StateError where the file can not be read or written."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def put(self, name: str, data: Mapping[str, Any] | None = None) -> None:
        """Replace the sign of that name, with the present time."""
        row = {"name": name, "at_us": self._access.now_us(), "data": as_json(data)}
        with self._access.write() as connection:
            connection.execute(_PUT, row)

    def get(self, name: str) -> Sign | None:
        """The sign of that name; None if there never was one."""
        with self._access.read() as connection:
            row = connection.execute("SELECT at_us, data FROM signs WHERE name = ?", (name,)).fetchone()
        return None if row is None else Sign(from_us(row["at_us"]), json.loads(row["data"]))
