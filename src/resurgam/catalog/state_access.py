"""What every part of the state works with: its file, its clock, and its process's sign of life."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resurgam.catalog.liveness import Alive
from resurgam.catalog.moments import to_us
from resurgam.catalog.sqlite import Database
from resurgam.catalog.state_file import explained
from resurgam.clock import Clock


@dataclass(frozen=True, slots=True)
class Access:
    """Shared by the parts of one open state. What fails comes out as StateError."""

    database: Database
    path: Path
    clock: Clock
    alive: Alive

    def now_us(self) -> int:
        """Microseconds from 1970, as the tables keep moments."""
        return to_us(self.clock.now())

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the file."""
        with explained(self.path), self.database.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A connection that is alone in writing; durable when the block has ended."""
        with explained(self.path), self.database.write() as connection:
            yield connection


def as_json(data: Mapping[str, Any] | None) -> str:
    """A column's text for a mapping; nothing is an empty one."""
    return json.dumps(dict(data or {}))


def as_text(text: str) -> str:
    """Text that SQLite takes: a file name that is not UTF-8 comes as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()
