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


class LaterFile:
    """One regular file, offered as `entry`, which was `identity` then."""

    def __init__(self, entry: Entry, identity: Identity, folders: TreeFolders, owners: Owners, told: Told) -> None:
        self._entry, self._identity = entry, identity
        self._folders, self._owners, self._told = folders, owners, told
        self._changed = False

    def read(self) -> tuple[Entry, Iterable[bytes]] | None:
        """Entry and bytes as they are now; None if it is gone, or anything failed."""
        path = self._entry.path
        folder, _, name = path.rpartition(b"/")
        try:
            fd, status = open_regular(name, self._folders.open(folder))
        except OSError as error:
            if error.errno in GONE:
                self._told.gone(self._entry)
            else:
                self._told.failed(path, error.strerror)
            return None
        if self._told.stopped():  # opened all the same: whatever can't be read is to be named
            os.close(fd)
            return None
        content = Content(fd, status, has_holes(fd, status))
        entry = self._owners.entry(path, Kind.FILE, status, sparse=content.sparse)
        if self._told.secret(name, path, status):
            os.close(fd)
            self._told.gone(self._entry)
            return None
        # Another file of the same size and times: its bytes must never stand for the one that may come back.
        self._changed = Identity(status.st_ctime_ns, status.st_ino) != self._identity
        self._told.grown(entry.size - self._entry.size)
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

    def _blocks(self, fd: int, content: Content) -> Iterator[bytes]:
        try:
            yield from content.blocks()
            self._settle(content)
        finally:
            os.close(fd)

    def _settle(self, content: Content) -> None:
        if content.error is not None:
            self._changed = True
            self._told.failed(self._entry.path, content.error.strerror)
        elif content.changed():
            self._changed = True
            self._told.changed(self._entry.path)
