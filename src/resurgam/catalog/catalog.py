"""What is known of the backups in each location: a cache, which deleting costs nothing but time.

Rules:
- Nothing in it is the only copy of anything. A corrupt file, one of another version, a torn one: thrown away, and the
  next `refresh` describes every backup again.
- It never stands in the way of listing: where it can not be written (a folder for reading only, a full disk, a user
  who may only read), it goes on in memory.
- It is never migrated; `schema.CATALOG_VERSION` says when to throw away.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from resurgam.catalog.facts import LARGEST_SEQUENCE, facts_of
from resurgam.catalog.moments import from_us
from resurgam.catalog.schema import CATALOG, CATALOG_ID, CATALOG_VERSION
from resurgam.catalog.sealed_place import placed
from resurgam.catalog.sqlite import Database, Fault, fault_of
from resurgam.durable import NETWORK_FILE_SYSTEMS, filesystem_type
from resurgam.errors import StateError

Condition = Literal["good", "foreign", "sealed", "damaged"]
T = TypeVar("T")
# Rows of one transaction: few enough that other processes' waits stay short, and that a kill loses little.
_BATCH = 500
_RANK = {"good": 0, "foreign": 1, "sealed": 2, "damaged": 3}


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An archive as a location shows it. `location` is "local" or "remote", `name` the backup's, without .tar.gz.

    A file is described again when size, mtime or inode differ; where inodes do not last, give 0. `form` is "" for a
    plain archive, else how it is encrypted.
    """

    location: str
    name: str
    size: int
    mtime_ns: int
    inode: int
    form: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """What reading an archive told: `problem` is "" or a sentence, `metadata` the content of backup_metadata.json. Of
    one that is `sealed` nothing was read.

    Not `lasting`: it says more about the disk or our rights than about the file, which is described again next time.
    """

    condition: Condition
    problem: str = ""
    metadata: Mapping[str, Any] | None = None
    lasting: bool = True


@dataclass(frozen=True, slots=True)
class BackupCopy:
    """One location's copy of a backup; `size` in bytes."""

    location: str
    size: int
    condition: Condition
    problem: str
    form: str = ""


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """A backup, wherever it lies. `copies` are ordered best first (good, foreign, sealed, damaged; then by location's
    name, so that local comes before remote), and condition, problem and size are the first one's.

    `sequence` is 0 for an archive without one, and for a sealed one that of the backup before it; `taken_at` is UTC;
    `size` and `database_size` are bytes.
    """

    name: str
    sequence: int
    taken_at: datetime
    condition: Condition
    problem: str
    size: int
    database_size: int | None
    copies: tuple[BackupCopy, ...]

    @property
    def locations(self) -> tuple[str, ...]:
        """Where it lies, the best copy first."""
        return tuple(copy.location for copy in self.copies)


_ADD_COPY = """
    INSERT INTO copies (
        name, location, size, mtime_ns, inode, condition, problem, sequence, taken_us, database_size, form
    ) VALUES (
        :name, :location, :size, :mtime_ns, :inode, :condition, :problem, :sequence, :taken_us, :database_size, :form
    )
"""
_ADD_DESCRIPTION = "INSERT INTO descriptions (name, location, metadata) VALUES (?, ?, ?)"


class Catalog:
    """The open catalog. Any thread may use it; other processes may have the same file open."""

    def __init__(self, database: Database, path: Path | None) -> None:
        self._database = database
        self._path = path

    @classmethod
    def open(cls, path: Path) -> Catalog:
        """The catalog at `path`, made anew if need be; in memory where nothing can be written there."""
        for attempt in (1, 2):
            try:
                database = _open_file(path)
            except sqlite3.Error as error:
                if attempt == 1 and fault_of(error) is Fault.CORRUPT and _throw_away(path):
                    continue
            except (OSError, _NotOurs):
                pass
            else:
                if database is not None:
                    return cls(database, path)
                if attempt == 1 and _throw_away(path):
                    continue
            break
        return cls(_open_memory(path), None)

    @property
    def persistent(self) -> bool:
        """Whether what it learns is kept for the next process."""
        return self._path is not None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(
        self, location: str, present: Iterable[StoredFile], describe: Callable[[StoredFile], Description]
    ) -> int:
        """Make the catalog agree with what `location` holds, and return how many files were described.

        Calls `describe` for new and changed files only, outside of any transaction; what it raises passes through,
        with everything described before it kept, except FileNotFoundError: that file is gone. A name that is
        not UTF-8 is none of ours and is left out.
        """
        found = {file.name: file for file in present if file.location == location and _encodable(file.name)}
        known = self._retrying(lambda database: _known(database, location))
        gone = [name for name in known if name not in found]
        changed = [file for file in found.values() if known.get(file.name) != (file.size, file.mtime_ns, file.inode)]
        described: list[tuple[StoredFile, Description]] = []
        count = 0
        try:
            for file in changed:
                try:
                    description = describe(file)
                    # No file has that inode, so the next refresh finds it changed.
                    described.append((file if description.lasting else replace(file, inode=-1), description))
                except FileNotFoundError:
                    gone.append(file.name)
                count += 1
                if len(described) >= _BATCH:
                    self._store(location, described)
                    described = []
        finally:
            self._store(location, described, gone)
        return count

    def learn(self, location: str, name: str, description: Description) -> None:
        """Take what was found out about a file that is known already and did not change since."""
        query = "SELECT size, mtime_ns, inode, form FROM copies WHERE location = ? AND name = ?"
        for row in self._retrying(lambda database: _all(database, query, location, name)):
            self._store(location, [(StoredFile(location, name, *row), description)])

    def backups(self) -> list[BackupRecord]:
        """Every backup once, ordered by sequence, then time, then name: the newest last."""
        rows = self._retrying(lambda database: _rows(database, None))
        grouped: dict[str, list[Any]] = {}
        for row in rows:
            grouped.setdefault(row[0], []).append(row)
        groups = placed([_best_first(group) for group in grouped.values()])
        ordered = sorted(groups, key=lambda group: group[0][5:7] + group[0][:1])
        return [_record(group) for group in ordered]

    def get(self, name: str) -> BackupRecord | None:
        """The backup of that name, or None."""
        rows = self._retrying(lambda database: _rows(database, name)) if _encodable(name) else []
        if any(row[3] == "sealed" for row in rows):  # its place is among the others
            return next((record for record in self.backups() if record.name == name), None)
        return _record(_best_first(list(rows))) if rows else None

    def metadata(self, name: str) -> dict[str, Any] | None:
        """The metadata of the backup's best copy; None if there is no such backup or it could not be read."""
        record = self.get(name)
        if record is None:
            return None
        query = "SELECT location, metadata FROM descriptions WHERE name = ?"
        texts = dict(self._retrying(lambda database: _all(database, query, name)))
        for location in record.locations:
            if location in texts:
                loaded: dict[str, Any] = json.loads(texts[location])
                return loaded
        return None

    def next_sequence(self) -> int:
        """One more than the highest sequence number of any copy anywhere, 1 if there is none."""
        rows = self._retrying(lambda database: _all(database, "SELECT max(sequence) FROM copies"))
        return min(int(rows[0][0] or 0) + 1, LARGEST_SEQUENCE)

    def forget(self, location: str, *names: str) -> None:
        """Drop what is known of these copies, after they were deleted."""
        self._store(location, [], names)

    def _store(self, location: str, described: list[tuple[StoredFile, Description]], gone: Iterable[str] = ()) -> None:
        replaced = [file.name for file, _ in described]
        names = [(location, name) for name in {*replaced, *gone} if _encodable(name)]
        if not names:
            return
        rows, texts = [], []
        for file, description in described:
            facts = facts_of(file.name, file.mtime_ns, description.metadata)
            rows.append(
                {
                    "name": file.name,
                    "location": location,
                    "size": file.size,
                    "mtime_ns": file.mtime_ns,
                    "inode": file.inode,
                    "form": file.form,
                    "condition": description.condition,
                    "problem": description.problem.encode("utf-8", "backslashreplace").decode(),
                    "sequence": facts.sequence,
                    "taken_us": facts.taken_us,
                    "database_size": facts.database_size,
                }
            )
            if description.metadata is not None:
                text = json.dumps(dict(description.metadata))
                texts.append((file.name, location, text))

        def write(database: Database) -> None:
            with database.write() as connection:
                connection.executemany("DELETE FROM copies WHERE location = ? AND name = ?", names)
                connection.executemany("DELETE FROM descriptions WHERE location = ? AND name = ?", names)
                connection.executemany(_ADD_COPY, rows)
                connection.executemany(_ADD_DESCRIPTION, texts)

        self._retrying(write)

    def _retrying(self, act: Callable[[Database], T]) -> T:
        """Do it; where the file can not be written, go on in memory; where it is corrupt, throw it away and say so."""
        try:
            return act(self._database)
        except sqlite3.Error as error:
            fault = fault_of(error)
            if self._path is None or fault is Fault.OTHER:
                raise
            path, self._path = self._path, None
            if fault is Fault.CORRUPT:
                self._database.close()
                _throw_away(path)
                self._database = _new_memory()
                raise StateError(
                    f"The catalog {path} was damaged and has been thrown away. No backup is affected.",
                    "Run the command again: the catalog is rebuilt from the archives.",
                ) from error
            old, self._database = self._database, self._database.copy_to_memory()
            old.close()
            return act(self._database)


class _NotOurs(Exception):
    """A database of someone else stands in the catalog's place; it is left alone."""


def _open_file(path: Path) -> Database | None:
    """The file, with its tables made if it is new; None where it is not of this version."""
    if not path.exists():
        # SQLite would apply the log of a catalog that someone deleted to the new one.
        _throw_away(path)
    # Created by us rather than by SQLite, for the mode: the metadata names tables and folders.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    kind = filesystem_type(path)
    # A write-ahead log needs memory shared by all who have the file open, which network file systems do not give.
    wal = kind not in NETWORK_FILE_SYSTEMS and not kind.startswith("fuse")
    database = Database.open(path, wal=wal, synchronous="NORMAL")
    try:
        if database.pragma("user_version") == 0:
            _create(database)
        if database.pragma("application_id") != CATALOG_ID:
            raise _NotOurs
        if database.pragma("user_version") == CATALOG_VERSION:
            return database
    except BaseException:
        database.close()
        raise
    database.close()
    return None


def _create(database: Database) -> None:
    with database.write() as connection:
        # Another process may have done it while we waited for the lock.
        if database.pragma("user_version") == 0 and database.tables() == 0:
            for statement in CATALOG:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {CATALOG_ID}")
            connection.execute(f"PRAGMA user_version = {CATALOG_VERSION}")


def _throw_away(path: Path) -> bool:
    """Remove the file, so that it is made anew; processes that have it open keep what they have."""
    try:
        for suffix in ("-journal", "-wal", "-shm", ""):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _open_memory(path: Path) -> Database:
    """A catalog in memory that knows what the file knew, if that can be read."""
    with contextlib.suppress(sqlite3.Error, OSError):
        if path.stat().st_size:
            database = Database.in_memory(path)
            if database.pragma("application_id") == CATALOG_ID and database.pragma("user_version") == CATALOG_VERSION:
                return database
            database.close()
    return _new_memory()


def _new_memory() -> Database:
    database = Database.in_memory()
    _create(database)
    return database


def _all(database: Database, query: str, *values: str) -> list[Any]:
    with database.read() as connection:
        return connection.execute(query, values).fetchall()


def _known(database: Database, location: str) -> dict[str, tuple[int, int, int]]:
    query = "SELECT name, size, mtime_ns, inode FROM copies WHERE location = ?"
    return {name: (size, mtime_ns, inode) for name, size, mtime_ns, inode in _all(database, query, location)}


def _rows(database: Database, name: str | None) -> list[Any]:
    """(name, location, size, condition, problem, sequence, taken_us, database_size, form) of every copy, or of one
    name's."""
    query = "SELECT name, location, size, condition, problem, sequence, taken_us, database_size, form FROM copies"
    return _all(database, query) if name is None else _all(database, f"{query} WHERE name = ?", name)


def _best_first(group: list[Any]) -> list[Any]:
    return group if len(group) == 1 else sorted(group, key=lambda row: (_RANK[row[3]], row[1]))


def _record(group: list[Any]) -> BackupRecord:
    name, _, size, condition, problem, sequence, taken_us, database_size, _ = group[0]
    return BackupRecord(
        name,
        sequence,
        from_us(taken_us),
        condition,
        problem,
        size,
        database_size,
        tuple([BackupCopy(row[1], row[2], row[3], row[4], row[8]) for row in group]),
    )


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
