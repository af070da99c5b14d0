"""Which troubles people were told of. Several processes may find the same one; one of them tells."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resurgam.catalog.moments import from_us, to_us
from resurgam.catalog.state_access import Access, as_text
from resurgam.settings.service_model import Severity


@dataclass(frozen=True, slots=True)
class Alert:
    """A trouble that lasts. `count`: how often it was told since it last could not be; 0 where it reached nobody yet,
    and then `sent_at` is the moment of the attempt."""

    key: str
    severity: Severity
    message: str
    since: datetime
    sent_at: datetime
    count: int


_PUT = """
    INSERT INTO alerts (key, severity, message, since_us, sent_us, count)
    VALUES (:key, :severity, :message, :since_us, :sent_us, :count)
    ON CONFLICT (key) DO UPDATE
    SET severity = :severity, message = :message, since_us = :since_us, sent_us = :sent_us, count = :count
"""


class Alerts:
    """The alerts of one state. Every method raises StateError where the file can not be read or written."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get(self, key: str) -> Alert | None:
        """One alert; None if there is no such trouble."""
        with self._access.read() as connection:
            row = _row(connection, key)
        return None if row is None else _alert(row)

    def of(self, prefix: str) -> tuple[Alert, ...]:
        """Those whose key begins so, in the order of their keys."""
        query = "SELECT * FROM alerts WHERE substr(key, 1, length(:prefix)) = :prefix ORDER BY key"
        with self._access.read() as connection:
            return tuple(_alert(row) for row in connection.execute(query, {"prefix": prefix}))

    def replace(self, key: str, known: Alert | None, wanted: Alert | None) -> bool:
        """Put `wanted` (None: nothing) in the place of `known`; False if it is no longer what stands there."""
        with self._access.write() as connection:
            row = _row(connection, key)
            if (None if row is None else _alert(row)) != known:
                return False
            if wanted is None:
                connection.execute("DELETE FROM alerts WHERE key = ?", (key,))
            else:
                connection.execute(_PUT, {"key": key, **_columns(wanted)})
            return True


def _columns(alert: Alert) -> dict[str, Any]:
    return {
        "severity": alert.severity,
        "message": as_text(alert.message),
        "since_us": to_us(alert.since),
        "sent_us": to_us(alert.sent_at),
        "count": alert.count,
    }


def _row(connection: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute("SELECT * FROM alerts WHERE key = ?", (key,)).fetchone()
    return row


def _alert(row: sqlite3.Row) -> Alert:
    since, sent = from_us(row["since_us"]), from_us(row["sent_us"])
    return Alert(row["key"], row["severity"], row["message"], since, sent, row["count"])
