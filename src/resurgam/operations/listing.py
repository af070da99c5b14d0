"""One listing of the backups for all of a process's askers, which costs them next to nothing while nothing changes.

Rules:
- BACKUP_DIR is read again when its mtime has changed, and every few seconds in case an archive changed in place. The
  catalog is asked only where that showed something else than before.
- The remote folder is read in the background alone, at most once a minute: a mount that hangs keeps one thread, and
  nobody waiting. What was known of it before stays.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.moments import to_us
from resurgam.clock import Clock
from resurgam.errors import NotFoundError, ResurgamError, StateError, UsageError
from resurgam.operations.inventory import Inventory
from resurgam.stores.listing import FoundArchive, split_name

_SECONDS = 5.0
_REMOTE_SECONDS = 60.0
# A catalog that shows thousands of files as they were need not be asked about each; it is all the same now and then.
_WHOLE_SECONDS = 900.0
# A mount of object storage takes some seconds for thousands of archives; one that takes longer than this hangs.
_HANGS_SECONDS = 30.0
# Two changes within one tick of the file system's clock leave one mtime.
_TICK_NS = 50_000_000
_CURSOR = re.compile(r"(\d{1,20})-(-?\d{1,20})-(.{1,200})")


@dataclass(frozen=True, slots=True)
class Listed:
    """The backups, newest first."""

    records: tuple[BackupRecord, ...] = ()
    by_name: dict[str, BackupRecord] = field(default_factory=dict)


class Listing:
    """Any thread may ask. Raises StorageError where BACKUP_DIR can't be read, as `Inventory` does."""

    def __init__(self, inventory: Inventory, clock: Clock) -> None:
        """`inventory` is this listing's alone; its catalog may be shared."""
        self._inventory, self._clock = inventory, clock
        self._lock = threading.Lock()
        self._listed = Listed()
        self._mtime_ns = -1
        self._found: list[FoundArchive] | None = None
        self._read_at = self._whole_at = float("-inf")
        self._stale = True
        self._remote_at = float("-inf")
        self._remote_begun = float("-inf")
        self._remote_thread: threading.Thread | None = None
        self.remote_problem = ""

    def records(self) -> tuple[BackupRecord, ...]:
        """All backups, newest first."""
        return self._current().records

    def find(self, name: str) -> BackupRecord:
        """The backup of that name (with or without the file's ending). NotFoundError if there is none, KeyRefused
        where none can be seen."""
        record = self._current().by_name.get(split_name(name)[0])
        if record is None:
            self._inventory.holdings.require_readable()
            shown = "".join(c if c.isprintable() else "?" for c in name[:100])
            raise NotFoundError(f"There is no backup named {shown!r}.", "The list of backups shows those there are.")
        return record

    def page(self, limit: int, cursor: str | None) -> tuple[Sequence[BackupRecord], str | None]:
        """At most `limit` backups, newest first, from where the page that gave `cursor` ended; the next page's cursor.

        A cursor stays good when its backup is deleted. UsageError if it is none.
        """
        records = self._current().records
        begin = 0
        if cursor is not None:
            after = _place_in(cursor)
            begin = bisect_left(records, True, key=lambda record: _place(record) < after)
        page = records[begin : begin + limit]
        more = page and begin + limit < len(records)
        return page, "-".join(map(str, _place(page[-1]))) if more else None

    def summary(self, record: BackupRecord) -> dict[str, Any]:
        """The manual's entry of a list (`Inventory.summary`)."""
        return self._inventory.summary(record)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What the last look met, beside the backups, that somebody must know."""
        return self._inventory.holdings.troubles

    def changed(self) -> None:
        """Something was done to the backups by this process: the next answer is read anew."""
        with self._lock:
            self._stale = True

    def watch_remote(self) -> None:
        """Look at the remote folder in the background, unless that was done within a minute or is under way."""
        now = self._clock.monotonic()
        with self._lock:
            if self._inventory.remote is None or self._remote_thread is not None:
                return
            if now - self._remote_at < _REMOTE_SECONDS:
                return
            self._remote_begun = now
            thread = threading.Thread(target=self._look_at_remote, name="resurgam-remote", daemon=True)
            thread.start()  # before others can see it and wait for it
            self._remote_thread = thread

    def remote_trouble(self, patience: float) -> str:
        """Why the remote folder can't be seen, "" if it can. Waits for the first look at it, for `patience` seconds."""
        thread, seen = self._remote_thread, self._remote_at > float("-inf")
        if thread is not None and not seen:
            thread.join(patience)
        remote = self._inventory.remote
        with self._lock:
            waited = self._clock.monotonic() - self._remote_begun
            if remote is not None and self._remote_thread is not None and (not seen or waited >= _HANGS_SECONDS):
                return f"REMOTE_BACKUP_PATH {remote.path} has not answered for {waited:.0f} s: its mount may hang."
            return self.remote_problem

    def _current(self) -> Listed:
        self.watch_remote()
        with self._lock:
            now = self._clock.monotonic()
            mtime_ns = self._inventory.holdings.changed_at()
            if self._stale or mtime_ns != self._mtime_ns or now - self._read_at >= _SECONDS:
                self._read(now)
                settled = self._clock.now().timestamp() * 1e9 - mtime_ns > _TICK_NS
                self._mtime_ns, self._read_at, self._stale = mtime_ns if settled else -1, now, False
            return self._listed

    def _read(self, now: float) -> None:
        found = self._inventory.holdings.found()
        if found == self._found and not self._stale and now - self._whole_at < _WHOLE_SECONDS:
            return
        try:
            self._inventory.refresh_held(found)
        except StateError:
            self._inventory.refresh_held(found)  # a damaged catalog was thrown away; now it is made anew
        records = tuple(self._inventory.records())
        self._listed = Listed(records, {record.name: record for record in records})
        self._found, self._whole_at = found, now

    def _look_at_remote(self) -> None:
        problem = ""
        try:
            self._inventory.refresh_remote()
        except ResurgamError as error:
            problem = error.message
        finally:
            with self._lock:
                self.remote_problem = problem
                self._remote_at = self._clock.monotonic()
                self._remote_thread = None
                self._stale = True


def _place(record: BackupRecord) -> tuple[int, int, str]:
    """What backups are ordered by, as `Catalog.backups` does it."""
    return record.sequence, to_us(record.taken_at), record.name


def _place_in(cursor: str) -> tuple[int, int, str]:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise UsageError("The cursor is none that a page of this list gave.", "Begin again without a cursor.")
    return int(match[1]), int(match[2]), match[3]
