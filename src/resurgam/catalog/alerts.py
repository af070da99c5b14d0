"""Which troubles people were told of. Several processes may find the same one; one of them tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, update

from resurgam.catalog.models import alerts as table
from resurgam.catalog.models import from_us, to_us
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


class Alerts:
    """The alerts of one state. Every method raises StateError where the file can not be read or written."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get(self, key: str) -> Alert | None:
        """One alert; None if there is no such trouble."""
        with self._access.read() as connection:
            row = connection.execute(select(table).where(table.c.key == key)).first()
        return None if row is None else _alert(row)

    def of(self, prefix: str) -> tuple[Alert, ...]:
        """Those whose key begins so, in the order of their keys."""
        query = select(table).where(table.c.key.startswith(prefix, autoescape=True)).order_by(table.c.key)
        with self._access.read() as connection:
            return tuple(_alert(row) for row in connection.execute(query).all())

    def replace(self, key: str, known: Alert | None, wanted: Alert | None) -> bool:
        """Put `wanted` (None: nothing) in the place of `known`; False if it is no longer what stands there."""
        with self._access.write() as connection:
            row = connection.execute(select(table).where(table.c.key == key)).first()
            if (None if row is None else _alert(row)) != known:
                return False
            if wanted is None:
                connection.execute(delete(table).where(table.c.key == key))
            elif known is None:
                connection.execute(insert(table).values(key=key, **_columns(wanted)))
            else:
                connection.execute(update(table).where(table.c.key == key).values(**_columns(wanted)))
            return True


def _columns(alert: Alert) -> dict[str, Any]:
    return {
        "severity": alert.severity,
        "message": as_text(alert.message),
        "since_us": to_us(alert.since),
        "sent_us": to_us(alert.sent_at),
        "count": alert.count,
    }


def _alert(row: Any) -> Alert:
    return Alert(row.key, row.severity, row.message, from_us(row.since_us), from_us(row.sent_us), row.count)
