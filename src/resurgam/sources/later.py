"""Files of a tree that are read later than the walk sees them, or not at all, if the sink knows them.

The walk has left their folder by then: it is opened anew from the tree's root, name by name, following no link.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from resurgam.archive.entry import Entry, Identity, Kind
from resurgam.sources.entries import GONE, WHOLE_BYTES, Content, Owners, has_holes, open_regular

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeFolders:
    """Folders of the tree whose root is open at `root`, by their paths in the backup, which begin with `top`."""

    def __init__(self, root: int, top: bytes) -> None:
        self._root, self._top = os.dup(root), top
        self._path, self._fd = b"", -1

    def open(self, path: bytes) -> int:
        """The folder's descriptor, until the next call. OSError if it is no longer there, or a link."""
        if path == self._top:
            return self._root
        if path != self._path:
            self._leave()
            fd = os.dup(self._root)
            try:
                for name in path[len(self._top) + 1 :].split(b"/"):
                    inner = os.open(name, FOLDER_FLAGS, dir_fd=fd)
                    os.close(fd)
                    fd = inner
            except BaseException:
                os.close(fd)
                raise
            self._path, self._fd = path, fd
        return self._fd

    def close(self) -> None:
        self._leave()
        os.close(self._root)

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._path, self._fd = b"", -1


@dataclass(frozen=True, slots=True)
class Told:
    """Whom a reading tells what it met: `secret` decides by a stat whether the file must stay out."""

    gone: Callable[[Entry], None]
    failed: Callable[[bytes, str | None], None]
    changed: Callable[[bytes], None]
    grown: Callable[[int], None]
    stopped: Callable[[], bool]
    secret: Callable[[bytes, bytes, os.stat_result], bool]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reading of any file of a tree needs."""

    folders: TreeFolders
    owners: Owners
    told: Told


class LaterFile:
    """One regular file, offered as `entry`, which was `identity` then."""

    __slots__ = ("_changed", "_entry", "_identity", "_reading")

    def __init__(self, entry: Entry, identity: Identity, reading: Reading) -> None:
        self._entry, self._identity, self._reading = entry, identity, reading
        self._changed = False

    def read(self) -> tuple[Entry, Iterable[bytes]] | None:
        """Entry and bytes as they are now; None if it is gone, or anything failed."""
        path, told = self._entry.path, self._reading.told
        folder, _, name = path.rpartition(b"/")
        try:
            fd, status = open_regular(name, self._reading.folders.open(folder))
        except OSError as error:
            if error.errno in GONE:
                told.gone(self._entry)
            else:
                told.failed(path, error.strerror)
            return None
        if told.stopped():  # opened all the same: whatever can't be read is to be named
            os.close(fd)
            return None
        content = Content(fd, status, has_holes(fd, status))
        entry = self._seen(status, content.sparse)
        if told.secret(name, path, status):
            os.close(fd)
            told.gone(self._entry)
            return None
        # Another file of the same size and times: its bytes must never stand for the one that may come back.
        self._changed = (status.st_ctime_ns, status.st_ino) != self._identity
        if entry.size != self._entry.size:
            told.grown(entry.size - self._entry.size)
        if entry.size > WHOLE_BYTES:
            return entry, self._blocks(fd, content)
        try:
            data = content.whole()
            self._settle(content)
        finally:
            os.close(fd)
        return (entry, (data,)) if content.error is None else None

    def changed(self) -> bool:
        """Whether what was read is not the file that was offered, or was altered meanwhile, or could not be read."""
        return self._changed

    def _seen(self, status: os.stat_result, sparse: bool) -> Entry:
        """The entry as the file is now: mostly the one that was offered."""
        entry = self._entry
        now = (status.st_size, status.st_mtime_ns, status.st_mode & 0o7777, status.st_uid, status.st_gid)
        if not sparse and now == (entry.size, entry.mtime_ns, entry.mode, entry.uid, entry.gid):
            return entry
        return self._reading.owners.entry(entry.path, Kind.FILE, status, sparse=sparse)

    def _blocks(self, fd: int, content: Content) -> Iterator[bytes]:
        try:
            yield from content.blocks()
            self._settle(content)
        finally:
            os.close(fd)

    def _settle(self, content: Content) -> None:
        if content.error is not None:
            self._changed = True
            self._reading.told.failed(self._entry.path, content.error.strerror)
        elif content.changed():
            self._changed = True
            self._reading.told.changed(self._entry.path)
