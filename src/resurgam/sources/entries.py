"""What the sources of files share: the sink they write to, entries made from a stat, and the reading of one file.

Rules:
- a regular file is opened with O_NOFOLLOW and O_NONBLOCK and looked at again by fstat, so that something put in
  its place meanwhile (a symlink, a FIFO, a device) is neither followed nor waited for;
- the stream gets exactly as many bytes as the entry announced: a file that shrank is filled up with zeros, one
  that grew is cut, and both are reported as changed;
- holes are not read; their zeros are supplied;
- where this user may, a file is read without a new time of access.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from resurgam.archive.entry import Entry, Kind, Offer, printable

# Up to this size a file is read at once and closed before the sink sees it; beyond it, in blocks.
WHOLE_BYTES = 1 << 20
_ZEROS = bytes(WHOLE_BYTES)
_NAMES_KEPT = 1000
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# A new time of access is a write to the disk for each file that is read.
_NO_TRACE = getattr(os, "O_NOATIME", 0)

# The name is still there but something else than the regular file that was listed: a symlink (ELOOP), a socket
# (ENXIO), a folder on its way (ENOTDIR); ESTALE is NFS's way to say that it is gone.
GONE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ESTALE})

Progress = Callable[[int], None]
"""Called with the number of bytes captured since the last call."""


def no_progress(count: int) -> None:
    """For callers that show nothing."""


class EntrySink(Protocol):
    """Where a source puts what it captures."""

    def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None:
        """Take one entry; the blocks sum up to `entry.size` exactly."""

    def offer(self, offered: Offer) -> None:
        """Take what need not be read if it is known; it may be read later, at the latest by `settle`."""

    def settle(self) -> None:
        """Read now what was offered and is not known."""


@dataclass(frozen=True, slots=True)
class Names:
    """How many there were, and the first thousand of them, printable."""

    count: int = 0
    names: tuple[str, ...] = ()


NO_NAMES = Names()


@dataclass(slots=True)
class NameList:
    """Collects names with bounded memory."""

    count: int = 0
    kept: list[str] = field(default_factory=list)

    def add(self, path: bytes, reason: str = "") -> None:
        self.count += 1
        if len(self.kept) < _NAMES_KEPT:
            self.kept.append(f"{printable(path)}: {reason}" if reason else printable(path))

    def frozen(self) -> Names:
        return Names(self.count, tuple(self.kept))


class Owners:
    """Names of users and groups, each looked up once: a lookup may ask LDAP."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._names: dict[tuple[int, int], tuple[str, str]] = {}

    def user(self, uid: int) -> str:
        name = self._users.get(uid)
        if name is None:
            try:
                name = pwd.getpwuid(uid).pw_name
            except KeyError:
                name = ""
            self._users[uid] = name
        return name

    def group(self, gid: int) -> str:
        name = self._groups.get(gid)
        if name is None:
            try:
                name = grp.getgrgid(gid).gr_name
            except KeyError:
                name = ""
            self._groups[gid] = name
        return name

    def entry(
        self, path: bytes, kind: Kind, status: os.stat_result, target: bytes = b"", sparse: bool = False
    ) -> Entry:
        """The entry of what `status` describes; only a FILE has a size."""
        uid, gid = status.st_uid, status.st_gid
        names = self._names.get((uid, gid))
        if names is None:
            names = self._names[uid, gid] = (self.user(uid), self.group(gid))
        return Entry(
            path,
            kind,
            status.st_mode & 0o7777,
            uid,
            gid,
            *names,
            status.st_mtime_ns,
            status.st_size if kind is Kind.FILE else 0,
            target,
            sparse,
        )


def open_regular(name: bytes, folder_fd: int | None) -> tuple[int, os.stat_result]:
    """Open a regular file for reading without following a link or waiting.

    Raises OSError; with ENOENT also where something else stands there now.
    """
    try:
        fd = os.open(name, _READING | _NO_TRACE, dir_fd=folder_fd)
    except PermissionError as error:
        if error.errno != errno.EPERM:  # somebody else's file, which this user may read all the same
            raise
        fd = os.open(name, _READING, dir_fd=folder_fd)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "no longer a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def has_holes(fd: int, status: os.stat_result) -> bool:
    """Whether a file has holes; fewer blocks than bytes alone may be compression (btrfs, ZFS)."""
    if status.st_blocks * 512 >= status.st_size:
        return False
    try:
        return os.lseek(fd, 0, os.SEEK_HOLE) < status.st_size
    except OSError:
        return False


class Content:
    """The bytes of one open regular file, exactly `size` of them whatever happens to it meanwhile.

    After the reading, `changed` says whether the file was altered while it was read, and `error` holds what
    the disk answered if it could not be read; the rest is zeros then, and the caller has to fail the run.
    """

    def __init__(self, fd: int, status: os.stat_result, sparse: bool) -> None:
        self._fd = fd
        self._before = status
        self.sparse = sparse
        self._short = False
        self.error: OSError | None = None

    def whole(self) -> bytes:
        """Everything at once, for small files."""
        size = self._before.st_size
        try:
            # Not read(2): asking for holes has moved the descriptor's offset.
            data = os.pread(self._fd, size, 0) if size else b""
        except OSError as error:
            self.error, data = error, b""
        if len(data) == size:
            return data
        return b"".join(self._rest(bytearray(data)))

    def _rest(self, start: bytearray) -> Iterator[bytes]:
        yield bytes(start)
        yield from self._span(len(start), self._before.st_size)

    def blocks(self) -> Iterator[bytes]:
        """The file in blocks, reading data and supplying the zeros of holes."""
        size = self._before.st_size
        if not self.sparse:
            yield from self._span(0, size)
            return
        offset = 0
        while offset < size:
            start, end = self._next_data(offset, size)
            yield from _zeros(start - offset)
            yield from self._span(start, end)
            offset = end

    def _next_data(self, offset: int, size: int) -> tuple[int, int]:
        try:
            start = min(os.lseek(self._fd, offset, os.SEEK_DATA), size)
            return start, min(os.lseek(self._fd, start, os.SEEK_HOLE), size) if start < size else size
        except OSError as error:
            # ENXIO: nothing but a hole up to the end. Anything else: the system can not say, so read it all.
            return (size, size) if error.errno == errno.ENXIO else (offset, size)

    def _span(self, offset: int, end: int) -> Iterator[bytes]:
        while offset < end and self.error is None:
            try:
                data = os.pread(self._fd, min(end - offset, WHOLE_BYTES), offset)
            except OSError as error:
                self.error = error
                break
            if not data:
                self._short = True
                break
            offset += len(data)
            yield data
        yield from _zeros(end - offset)

    def changed(self) -> bool:
        """Whether size, mtime or ctime differ from before the reading."""
        after, before = os.fstat(self._fd), self._before
        return (
            self._short
            or after.st_ctime_ns != before.st_ctime_ns
            or after.st_mtime_ns != before.st_mtime_ns
            or after.st_size != before.st_size
        )


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        step = min(count, WHOLE_BYTES)
        yield _ZEROS if step == WHOLE_BYTES else _ZEROS[:step]
        count -= step
