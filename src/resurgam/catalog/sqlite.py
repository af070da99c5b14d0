"""One SQLite file: how it is opened, how transactions begin, and what its errors mean.

Transactions are begun by us and not by Python's sqlite3, whose legacy mode begins them late and ends them before DDL:
a read by BEGIN, a write by BEGIN IMMEDIATE, which waits for other writers at its start, where waiting is safe,
rather than failing in the middle.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from resurgam.stopping import undisturbed

BUSY_SECONDS = 30.0


class Fault(Enum):
    """What an SQLite error says about the file."""

    CORRUPT = "corrupt"
    UNWRITABLE = "unwritable"
    BUSY = "busy"
    OTHER = "other"


_FAULTS = {
    sqlite3.SQLITE_CORRUPT: Fault.CORRUPT,
    sqlite3.SQLITE_NOTADB: Fault.CORRUPT,
    sqlite3.SQLITE_READONLY: Fault.UNWRITABLE,
    sqlite3.SQLITE_FULL: Fault.UNWRITABLE,
    sqlite3.SQLITE_IOERR: Fault.UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: Fault.UNWRITABLE,
    sqlite3.SQLITE_PERM: Fault.UNWRITABLE,
    sqlite3.SQLITE_AUTH: Fault.UNWRITABLE,
    sqlite3.SQLITE_BUSY: Fault.BUSY,
    sqlite3.SQLITE_LOCKED: Fault.BUSY,
    sqlite3.SQLITE_PROTOCOL: Fault.BUSY,
}


def fault_of(error: sqlite3.Error) -> Fault:
    """The kind of an error, by SQLite's primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return _FAULTS.get(code & 0xFF, Fault.OTHER) if isinstance(code, int) else Fault.OTHER


class Database:
    """An open SQLite database. One connection, which any thread may use, one at a time; its rows have their columns
    by name.

    Every method raises sqlite3.Error as SQLite does.
    """

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw
        self._raw.row_factory = sqlite3.Row
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, wal: bool, synchronous: str) -> Database:
        """Open or create the file. `wal`: write-ahead log, else a rollback journal; `synchronous` as the PRAGMA."""
        raw = _connect(path.absolute().as_uri())
        try:
            mode = "wal" if wal else "delete"
            # Asking for the mode it has takes no lock; changing it needs the file alone.
            if raw.execute("PRAGMA journal_mode").fetchone()[0] != mode:
                raw.execute(f"PRAGMA journal_mode = {mode}")
            raw.execute(f"PRAGMA synchronous = {synchronous}")
            raw.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            raw.close()
            raise
        return cls(raw)

    @classmethod
    def in_memory(cls, source: Path | None = None) -> Database:
        """A database that ends with the process, filled from a file that may only be readable, if there is one.

        `immutable` ignores that file's write-ahead log and locks: the copy may be old or torn (sqlite3.Error), so it
        is for a cache alone.
        """
        raw = _connect(None)
        if source is not None:
            try:
                with _Closing(_connect(source.absolute().as_uri() + "?mode=ro&immutable=1")) as file:
                    file.backup(raw)
            except BaseException:
                raw.close()
                raise
        return cls(raw)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the database."""
        with self.alone() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.commit()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start; committed at the end, undone by an exception."""
        with self.alone() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """The connection, for the one thread that begins and commits its own transaction; undone by an exception."""
        with undisturbed(), self._lock:
            try:
                yield self._raw
            except BaseException:
                if self._raw.in_transaction:
                    self._raw.rollback()
                raise

    def pragma(self, name: str) -> int:
        """A PRAGMA's numeric value."""
        with self._lock:
            return int(self._raw.execute(f"PRAGMA {name}").fetchone()[0])

    def tables(self) -> int:
        """How many tables there are."""
        with self._lock:
            return int(self._raw.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])

    def check(self) -> None:
        """Raise sqlite3.DatabaseError where SQLite finds the file's structure damaged; reads all of it."""
        with self._lock:
            told = self._raw.execute("PRAGMA quick_check(1)").fetchone()[0]
        if told != "ok":
            error = sqlite3.DatabaseError(str(told))
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    def copy_to_memory(self) -> Database:
        """What is committed here, as a database in memory."""
        raw = _connect(None)
        with self._lock:
            self._raw.backup(raw)
        return Database(raw)

    def close(self) -> None:
        """Close it; the last to close merges the write-ahead log."""
        with self._lock:
            self._raw.close()


class _Closing:
    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    def __enter__(self) -> sqlite3.Connection:
        return self._raw

    def __exit__(self, *_: object) -> None:
        self._raw.close()


def _connect(uri: str | None) -> sqlite3.Connection:
    # isolation_level None: no transaction that we did not begin.
    return sqlite3.connect(
        uri or ":memory:", uri=uri is not None, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
