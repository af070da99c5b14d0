"""Whether retention may go on: a backup that is suspicious must not push out those before it.

Suspicious is a backup whose drill or verification failed, and one whose database has fewer rows or bytes than the last
unsuspicious backup before it, by more than a set share. Small databases come and go: below `LEAST_BYTES` and
`LEAST_ROWS` nothing is judged. What somebody accepted, and all before it, is not looked at again; the accepted newest
one is what the next is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

LEAST_BYTES = 1 << 20
LEAST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Standing:
    """A backup as the interlock sees it: its database's dump in bytes and rows (None: unknown), and what spoke against
    it ("" for nothing)."""

    name: str
    sequence: int
    taken_at: datetime
    size: int | None = None
    rows: int | None = None
    failed: str = ""

    @property
    def order(self) -> tuple[int, datetime, str]:
        """Retention's order, the newest last."""
        return self.sequence, self.taken_at, self.name


def suspicions(backups: Iterable[Standing], limit: int, accepted: tuple[int, datetime, str] | None) -> dict[str, str]:
    """What is suspicious, oldest first, with a sentence each. `limit` in percent; `accepted`: the order of the newest
    backup when somebody last looked."""
    found: dict[str, str] = {}
    before: Standing | None = None
    for one in sorted(backups, key=lambda backup: backup.order):
        if accepted is not None and one.order <= accepted:
            before = one
            continue
        why = one.failed or (_shrunk(one, before, limit) if before is not None else "")
        if why:
            found[one.name] = why
        else:
            before = one
    return found


def _shrunk(one: Standing, before: Standing, limit: int) -> str:
    pairs = (
        (one.rows, before.rows, LEAST_ROWS, "rows"),
        (one.size, before.size, LEAST_BYTES, "bytes"),
    )
    for now, then, least, what in pairs:
        if now is None or then is None or then < least:
            continue
        if now == 0 or now * 100 < then * (100 - limit):
            share = 100 * (then - now) / then
            return f"{one.name} has {now:,} {what} in its database, {share:.0f} % fewer than {before.name} ({then:,})."
    return ""
