"""Faults of the state file, injected in SQLite itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def unwritable(state: Path, table: str, action: str) -> Iterator[None]:
    """While the block lasts, `action` (INSERT, UPDATE) on that table fails as on a full disk, in every process."""
    with closing(sqlite3.connect(state, timeout=30, isolation_level=None)) as connection:
        connection.execute(
            f"CREATE TRIGGER fault BEFORE {action} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
        try:
            yield
        finally:
            connection.execute("DROP TRIGGER fault")
