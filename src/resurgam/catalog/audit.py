"""The audit log: who did what, or was refused it; entries are only ever added.

Rules:
- Each entry bears a digest over all its fields and the digest of the one before it. `audit_head` has the last one's,
  and SQLite's own sequence the last id, so that a missing end shows too.
- Numbers go up by one. After tampering `append` goes on behind all that ever was and mends nothing, so that `verify`
  still finds it.
- No secret goes into details.

It shows what was changed by hand or by a fault. Who may write state.sqlite, and recomputes every digest after a change,
can not be seen in the file alone: keep the last id and digest, which `verify` answers, elsewhere.
"""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from resurgam.catalog.audit_chain import FIRST, AuditCheck, ChainCheck, Head, digest_of
from resurgam.catalog.jobs import Origin
from resurgam.catalog.moments import from_us
from resurgam.catalog.roles import Role
from resurgam.catalog.state_access import Access, as_text
from resurgam.errors import (
    AuthError,
    BusyError,
    ForbiddenError,
    NotFoundError,
    RestoreRefused,
    ResurgamError,
    StateError,
    UsageError,
)
from resurgam.stopping import UNDONE, note_became, what_became

AuditOutcome = Literal["accepted", "ok", "degraded", "refused", "failed", "cancelled"]
_LONGEST_TEXT = 1_000
_LONGEST_DETAILS = 10_000
# Errors that say that nothing was begun.
_REFUSALS = (AuthError, ForbiddenError, BusyError, NotFoundError, RestoreRefused, UsageError)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a name (`token:ci`, `jwt:alice`, a user of the system), the role, and the way in."""

    name: str
    role: Role | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry; `at` is UTC, `digest` in hexadecimal."""

    id: int
    at: datetime
    actor: str
    role: str
    origin: str
    action: str
    target: str
    outcome: str
    details: dict[str, Any]
    digest: str

    def to_json(self) -> dict[str, Any]:
        fields = ("id", "actor", "role", "origin", "action", "target", "outcome", "details", "digest")
        return {**{name: getattr(self, name) for name in fields}, "at": self.at.isoformat()}


def local_actor() -> Actor:
    """Whoever runs this process, as the system knows them: it may do everything. Not from the environment, where
    anyone can write any name."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # in a container started as some number
        name = str(uid)
    return Actor(name, "admin", "cli")


_ADD = """
    INSERT INTO audit (id, at_us, actor, role, origin, action, target, outcome, details, previous, digest)
    VALUES (:id, :at_us, :actor, :role, :origin, :action, :target, :outcome, :details, :previous, :digest)
"""
_PUT_HEAD = """
    INSERT INTO audit_head (only, id, digest) VALUES (1, :id, :digest)
    ON CONFLICT (only) DO UPDATE SET id = :id, digest = :digest
"""


class AuditLog:
    """The audit log of a state."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def append(
        self,
        actor: str,
        role: Role | None,
        origin: Origin,
        action: str,
        target: str,
        outcome: AuditOutcome,
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """Add an entry; its id. It is on the disk when this returns. Long texts are cut, whatever they hold."""
        entry: dict[str, Any] = {
            "actor": _cut(actor),
            "role": role or "",
            "origin": origin,
            "action": _cut(action),
            "target": _cut(target),
            "outcome": outcome,
            "details": _details(details),
        }
        with self._access.write() as connection:
            head, sequence = _head(connection), _sequence(connection)
            newest = connection.execute("SELECT max(id) FROM audit").fetchone()[0] or 0
            entry["id"] = max(head.id if head else 0, sequence, newest) + 1
            # Under the lock, so that moments are in the entries' order as long as the clock is.
            entry["at_us"] = self._access.now_us()
            entry["previous"] = head.digest if head else FIRST
            entry["digest"] = digest_of(entry)
            connection.execute(_ADD, entry)
            connection.execute(_PUT_HEAD, entry)
        return int(entry["id"])

    @contextmanager
    def noting(self, actor: Actor, action: str, target: str) -> Iterator[dict[str, Any]]:
        """Run the block and note how it ended, whatever it raises; what it puts into the given dict are the details."""
        details: dict[str, Any] = {}
        note_became(UNDONE)
        try:
            yield details
        except BaseException as raised:
            if isinstance(raised, ResurgamError):
                details["code"] = raised.code
            how: AuditOutcome = "refused" if isinstance(raised, _REFUSALS) else "failed"
            if isinstance(raised, KeyboardInterrupt) and what_became().complete:
                how = "degraded"
            # It must not hide what the block failed for, which may be the same: a full disk.
            with suppress(StateError):
                self.append(actor.name, actor.role, actor.origin, action, target, how, details)
            raise
        self.append(actor.name, actor.role, actor.origin, action, target, "ok", details)

    def page(self, limit: int = 100, *, before: int | None = None) -> tuple[AuditEntry, ...]:
        """The latest entries, newest first; those older than the entry `before`, if given."""
        older = "true" if before is None else "id < :before"
        query = f"SELECT * FROM audit WHERE {older} ORDER BY id DESC LIMIT :limit"
        with self._access.read() as connection:
            return tuple(_entry(row) for row in connection.execute(query, {"before": before, "limit": limit}))

    def last(self) -> Head | None:
        """The last entry's number and digest, as the head notes them; None before the first."""
        with self._access.read() as connection:
            return _head(connection)

    def verify(self) -> AuditCheck:
        """Read all of it and say what was edited, deleted, reordered or inserted."""
        check = ChainCheck()
        with self._access.read() as connection:
            for row in connection.execute("SELECT * FROM audit ORDER BY id"):
                check.see(dict(row))
            return check.result(_head(connection), _sequence(connection))


def _head(connection: sqlite3.Connection) -> Head | None:
    row = connection.execute("SELECT id, digest FROM audit_head WHERE only = 1").fetchone()
    return None if row is None else Head(row["id"], row["digest"])


def _sequence(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    return int(row["seq"]) if row is not None else 0


def _cut(text: str) -> str:
    # A NUL ends a text for SQLite's own tools.
    return as_text(text[:_LONGEST_TEXT]).replace("\0", "\\x00")[:_LONGEST_TEXT]


def _details(details: Mapping[str, Any] | None) -> str:
    text = json.dumps(_plain(dict(details or {})), allow_nan=False)
    return text if len(text) <= _LONGEST_DETAILS else json.dumps({"left_out": f"{len(text)} characters"})


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, Mapping):
        return {_cut(str(key)): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _entry(row: sqlite3.Row) -> AuditEntry:
    """An entry as it is now: `verify` says whether it was edited, and the log must still be readable if it was."""
    try:
        at, details = from_us(row["at_us"]), json.loads(row["details"])
    except (ValueError, TypeError, OverflowError):
        at, details = from_us(0), {}
    texts = {name: str(row[name]) for name in ("actor", "role", "origin", "action", "target", "outcome", "digest")}
    return AuditEntry(id=row["id"], at=at, details=details if isinstance(details, dict) else {}, **texts)
