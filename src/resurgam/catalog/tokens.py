"""Tokens: who may call the API, and as what.

Rules:
- A token's text, `rsg_<id>_<secret>`, leaves this module once, when it is made; the file has its SHA-256
  (docs/adr/0011-tokens-are-hashed-by-sha-256.md).
- A revoked token keeps its row, for what the audit log says of it.
- A bootstrap token is made only where no token ever was, and ends when another admin token is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from resurgam.catalog.moments import from_us
from resurgam.catalog.roles import Role
from resurgam.catalog.state_access import Access
from resurgam.errors import NotFoundError, StateError, UsageError

PREFIX = "rsg_"
BOOTSTRAP = "bootstrap"
Status = Literal["active", "expired", "revoked"]
Verdict = Literal["good", "malformed", "wrong", "expired", "revoked"]
_TEXT = re.compile(r"rsg_([0-9a-f]{12})_[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{12}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,63}")
_LONGEST = timedelta(days=36525)
# A write for each request would cost an fsync.
_USE_NOTED_EVERY_US = 60_000_000
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token without its secret. Times are UTC; `used_at` is exact to a minute."""

    id: str
    name: str
    role: Role
    bootstrap: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None

    def status(self, now: datetime) -> Status:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"

    def to_json(self, now: datetime) -> dict[str, Any]:
        moments = {
            name: None if moment is None else moment.isoformat()
            for name, moment in (
                ("created_at", self.created_at),
                ("expires_at", self.expires_at),
                ("revoked_at", self.revoked_at),
                ("last_used_at", self.used_at),
            )
        }
        return {"id": self.id, "name": self.name, "role": self.role, "status": self.status(now), **moments}


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a token that someone showed. `token` is set where its secret was right."""

    verdict: Verdict
    token: TokenInfo | None = None


_ADD = """
    INSERT INTO tokens (id, name, role, digest, bootstrap, created_us, expires_us)
    VALUES (:id, :name, :role, :digest, :bootstrap, :created_us, :expires_us)
"""


class Tokens:
    """The tokens of a state."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def create(self, name: str, role: Role, expires: timedelta | None) -> tuple[str, TokenInfo]:
        """Make a token that ends after `expires` (None: never); its text, and what is known of it.

        A bootstrap token ends where this one is an admin's. UsageError where an active token has that name already, or
        the name or the duration is none.
        """
        _check_name(name)
        with self._access.write() as connection:
            now_us = self._access.now_us()
            now = from_us(now_us)
            others = [_info(row) for row in connection.execute("SELECT * FROM tokens WHERE name = ?", (name,))]
            if any(other.status(now) == "active" for other in others):
                raise UsageError(
                    f"There is an active token {name} already; none was made.", "Give another --name, or revoke it."
                )
            if role == "admin":
                first = "UPDATE tokens SET revoked_us = ? WHERE bootstrap = 1 AND revoked_us IS NULL"
                connection.execute(first, (now_us,))
            return self._insert(connection, name, role, expires, now_us, bootstrap=False)

    def create_bootstrap(self, expires: timedelta, deliver: Callable[[str], None]) -> TokenInfo | None:
        """An admin token, where no token was ever made; else None.

        `deliver` is given its text before it counts, while nobody can make or end a token: if it raises, or we die in
        it, there is still none.
        """
        with self._access.write() as connection:
            if connection.execute("SELECT id FROM tokens LIMIT 1").fetchone() is not None:
                return None
            text, made = self._insert(connection, BOOTSTRAP, "admin", expires, self._access.now_us(), bootstrap=True)
            deliver(text)
            return made

    def unless_bootstrap(self, act: Callable[[], None]) -> None:
        """Do it while nobody can make or end a token, unless a bootstrap token is active now."""
        with self._access.write() as connection:
            rows = connection.execute("SELECT * FROM tokens WHERE bootstrap = 1 AND revoked_us IS NULL").fetchall()
            now = from_us(self._access.now_us())
            if all(_info(row).status(now) != "active" for row in rows):
                act()

    def check(self, text: str) -> Checked:
        """Is it one of ours, and does it count now? Takes the same time for an id that is not there."""
        shown = _TEXT.fullmatch(text)
        if shown is None:
            return Checked("malformed")
        with self._access.read() as connection:
            row = connection.execute("SELECT * FROM tokens WHERE id = ?", (shown[1],)).fetchone()
        if not hmac.compare_digest(_digest(text), row["digest"] if row is not None else _NO_DIGEST) or row is None:
            return Checked("wrong")
        token = _info(row)
        status = token.status(from_us(self._access.now_us()))
        if status != "active":
            return Checked(status, token)
        self._note_use(row)
        return Checked("good", token)

    def revoke(self, wanted: str) -> TokenInfo:
        """End the token of that id, or the active one of that name; harmless again. NotFoundError if there is none."""
        with self._access.write() as connection:
            now_us = self._access.now_us()
            query = "SELECT * FROM tokens WHERE id = :wanted OR name = :wanted ORDER BY created_us"
            found = [_info(row) for row in connection.execute(query, {"wanted": wanted})]
            if not found:
                raise NotFoundError(f"There is no token {wanted}.", "`resurgam token list` shows those there are.")
            active = [token for token in found if token.status(from_us(now_us)) == "active"]
            token = (active or found)[-1]
            if token.revoked_at is None:
                connection.execute("UPDATE tokens SET revoked_us = ? WHERE id = ?", (now_us, token.id))
            return _info(connection.execute("SELECT * FROM tokens WHERE id = ?", (token.id,)).fetchone())

    def all(self) -> tuple[TokenInfo, ...]:
        """Every token there was, oldest first."""
        with self._access.read() as connection:
            return tuple(_info(row) for row in connection.execute("SELECT * FROM tokens ORDER BY created_us, id"))

    def _insert(
        self,
        connection: sqlite3.Connection,
        name: str,
        role: Role,
        expires: timedelta | None,
        now_us: int,
        *,
        bootstrap: bool,
    ) -> tuple[str, TokenInfo]:
        if expires is not None and not timedelta(0) < expires <= _LONGEST:
            raise UsageError("A token lasts more than nothing and at most 100 years; none was made.", "--expires 90d")
        token_id = secrets.token_hex(6)
        text = f"{PREFIX}{token_id}_{secrets.token_hex(32)}"
        row = {
            "id": token_id,
            "name": name,
            "role": role,
            "digest": _digest(text),
            "bootstrap": int(bootstrap),
            "created_us": now_us,
            "expires_us": None if expires is None else now_us + expires // timedelta(microseconds=1),
        }
        connection.execute(_ADD, row)
        return text, _info(connection.execute("SELECT * FROM tokens WHERE id = ?", (token_id,)).fetchone())

    def _note_use(self, row: sqlite3.Row) -> None:
        now_us = self._access.now_us()
        if row["used_us"] is not None and abs(now_us - row["used_us"]) < _USE_NOTED_EVERY_US:
            return
        # On a full disk an administrator must still get in, to delete what fills it.
        with contextlib.suppress(StateError), self._access.write() as connection:
            connection.execute("UPDATE tokens SET used_us = ? WHERE id = ?", (now_us, row["id"]))


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None or _ID.fullmatch(name) is not None or name == BOOTSTRAP:
        raise UsageError(
            "A token's name begins with a letter or digit and has at most 64 letters, digits, blanks and `._@+-`; "
            "it is neither an id nor `bootstrap`. No token was made.",
            "Give another --name.",
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _info(row: sqlite3.Row) -> TokenInfo:
    expires, revoked, used = (
        None if row[name] is None else from_us(row[name]) for name in ("expires_us", "revoked_us", "used_us")
    )
    created, bootstrap = from_us(row["created_us"]), bool(row["bootstrap"])
    return TokenInfo(row["id"], row["name"], row["role"], bootstrap, created, expires, revoked, used)
