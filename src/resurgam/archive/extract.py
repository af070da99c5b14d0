"""Writes entries of a backup into an empty staging folder; every entry is treated as hostile.

Rules:
- names are checked here (names.py), whatever reader they come from;
- every open is relative to a folder's descriptor, with O_NOFOLLOW, and with O_EXCL for what is made, so the file
  system itself refuses duplicates, clashes of files and folders, and (where it ignores case) names that differ
  in case only;
- links are made last, hard links before symlinks, and none is ever followed: while anything is written, the
  staging folder holds no symlink at all;
- a hard link's target is a regular file written earlier from the same stream. A target outside the prefix, which
  our own backups never have, is written as a copy if the caller gives a way to read it, and hostile otherwise;
- folders are 0700 until all is written; their modes, owners and times are set last, the deepest first.

Owners are restored with `own`, as tar does, by the name if this machine knows it, else by the number, as far as this
user may. The setuid and setgid bits come back only together with the owner they were meant for.

Durability: one syncfs(2) at the end makes all files durable together. An fsync a file would cost a journal commit
each, 20,000 of them for a tree of small files, and nothing refers to the staging folder before this returns.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from resurgam.archive.entry import Entry, Kind, printable
from resurgam.archive.names import MAX_PATH, check_path
from resurgam.durable import write_all
from resurgam.errors import DamagedError, HostileError, StorageError

Outside = Callable[[bytes], tuple[Entry, Iterable[bytes]]]
"""Gives the entry and the bytes of a path in the same backup, outside the prefix."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 4096  # the grain of holes: a page, and the block of most file systems
_ZERO_PIECE = bytes(_PIECE)
_NO_OWNER = (1 << 32) - 1  # (uid_t)-1, which chown(2) takes for "leave it"
_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


@dataclass(frozen=True, slots=True)
class ExtractLimits:
    """The most entries, and bytes of file contents, that may be written."""

    members: int = 10_000_000
    bytes: int = 1 << 50


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """What was written. `owners` says whether every owner was restored; `bytes` counts contents."""

    files: int
    folders: int
    symlinks: int
    hardlinks: int
    bytes: int
    owners: bool


def extract(
    entries: Iterable[tuple[Entry, Iterable[bytes]]],
    prefix: bytes,
    folder: os.PathLike[str],
    *,
    limits: ExtractLimits,
    own: bool,
    progress: Callable[[int], None] = lambda count: None,
    outside: Outside | None = None,
) -> ExtractReport:
    """Write the entries below `prefix` (`files/uploads/`) into the empty `folder`; others are passed over.

    The entry of the prefix itself gives `folder` its mode, owner and time; without one its mode becomes 0755.
    Durable on return. Raises HostileError, DamagedError (bytes missing), StorageError; what was written until
    then stays in `folder`, for the caller to remove. `progress` gets the number of bytes just written.
    """
    if not prefix.endswith(b"/"):
        raise ValueError("a prefix ends with a slash")
    root = os.open(folder, _FOLDER_FLAGS)
    try:
        if os.listdir(root):  # noqa: PTH208 (a descriptor)
            raise StorageError(
                f"The staging folder {os.fspath(folder)} is not empty; nothing was written into it.",
                "Remove it and restore again.",
            )
        staging = _Staging(root, prefix, limits, own, progress)
        try:
            for entry, blocks in entries:
                staging.take(entry, blocks)
            staging.finish(outside)
        finally:
            staging.leave()
        sync_file_system(root)
    except OSError as error:
        raise StorageError(
            f"The staging folder {os.fspath(folder)} could not be filled: {error.strerror}.",
            "Check its space and its file system.",
        ) from error
    finally:
        os.close(root)
    return staging.report()


def sync_file_system(fd: int) -> None:
    """Make everything written to the file system of `fd` durable. Raises OSError."""
    if _syncfs is not None:
        if _syncfs(fd) == 0:
            return
        code = ctypes.get_errno()
        # Sandboxes answer these for calls that they do not know.
        if code not in (errno.ENOSYS, errno.EPERM):
            raise OSError(code, os.strerror(code))
    os.sync()


class _Staging:
    """The folder being filled, and what is to be done at the end."""

    def __init__(
        self, root: int, prefix: bytes, limits: ExtractLimits, own: bool, progress: Callable[[int], None]
    ) -> None:
        self._root, self._prefix, self._limits, self._progress = root, prefix, limits, progress
        self._own = self._owners_set = own
        self._users: dict[str, int | None] = {}
        self._groups: dict[str, int | None] = {}
        self._stack: list[tuple[bytes, int]] = []
        self._entered: bytes | None = b""  # the path that the stack leads to
        self._folders: dict[bytes, Entry | None] = {}
        self._hardlinks: list[Entry] = []
        self._symlinks: list[Entry] = []
        self._files = self._members = self._bytes = 0

    def report(self) -> ExtractReport:
        folders = sum(1 for entry in self._folders.values() if entry is not None)
        return ExtractReport(
            self._files, folders, len(self._symlinks), len(self._hardlinks), self._bytes, self._owners_set
        )

    def take(self, entry: Entry, blocks: Iterable[bytes]) -> None:
        """Write a file or make a folder now; keep links for the end."""
        path = entry.path
        if entry.kind is Kind.FOLDER:
            path = path.removesuffix(b"/")
        top = path == self._prefix[:-1] and entry.kind is Kind.FOLDER
        if not top and not path.startswith(self._prefix):
            return
        check_path(path)
        self._count(entry)
        if entry.kind is Kind.FOLDER:
            self._folder(b"" if top else path[len(self._prefix) :], entry)
            return
        path = path[len(self._prefix) :]
        if entry.kind is Kind.FILE:
            self._file(path, entry, blocks)
        elif entry.kind is Kind.HARDLINK:
            check_path(entry.target)
            if entry.target.startswith(self._prefix):
                self._regular(entry.target[len(self._prefix) :], path)
            self._hardlinks.append(entry)
        else:
            if not entry.target or b"\0" in entry.target or len(entry.target) > MAX_PATH:
                raise HostileError(f"The symbolic link {printable(path)!r} has an impossible target.")
            self._symlinks.append(entry)

    def _count(self, entry: Entry) -> None:
        self._members += 1
        if self._members > self._limits.members:
            raise HostileError(f"The backup holds more than {self._limits.members} files, folders and links.")
        if entry.size < 0 or self._bytes + entry.size > self._limits.bytes:
            raise HostileError(f"The backup's files hold more than the {self._limits.bytes} bytes allowed.")
        if not 0 <= entry.uid < _NO_OWNER or not 0 <= entry.gid < _NO_OWNER:
            raise HostileError(f"The owner of {printable(entry.path)!r} is no possible user or group.")

    def _enter(self, path: bytes) -> int:
        """A descriptor of the folder `path`, made if it is not there; valid until the next call."""
        if path == self._entered:
            return self._stack[-1][1] if self._stack else self._root
        parts = path.split(b"/") if path else []
        self._entered = None  # nowhere yet, should anything fail here
        same = 0
        while same < len(parts) and same < len(self._stack) and self._stack[same][0] == parts[same]:
            same += 1
        while len(self._stack) > same:
            os.close(self._stack.pop()[1])
        fd = self._stack[-1][1] if self._stack else self._root
        for depth in range(same, len(parts)):
            here = b"/".join(parts[: depth + 1])
            try:
                if here not in self._folders:
                    os.mkdir(parts[depth], 0o700, dir_fd=fd)
                    self._folders[here] = None
                fd = os.open(parts[depth], _FOLDER_FLAGS, dir_fd=fd)
            except OSError as error:
                raise _clash(error, here) from error
            self._stack.append((parts[depth], fd))
        self._entered = path
        return fd

    def leave(self) -> None:
        while self._stack:
            os.close(self._stack.pop()[1])

    def _folder(self, path: bytes, entry: Entry) -> None:
        if self._folders.get(path) is not None:
            raise HostileError(f"The folder {printable(path)!r} occurs twice.")
        self._enter(path)
        self._folders[path] = entry

    def _file(self, path: bytes, entry: Entry, blocks: Iterable[bytes]) -> None:
        parent, _, name = path.rpartition(b"/")
        folder = self._enter(parent)
        try:
            # The folder's 0700 protects the file until its owner is set.
            fd = os.open(name, _FILE_FLAGS, entry.mode & 0o777, dir_fd=folder)
        except OSError as error:
            raise _clash(error, path) from error
        try:
            written = self._write_holes(fd, entry, blocks) if entry.sparse else self._write(fd, entry, blocks)
            if written < entry.size:
                raise DamagedError(f"The file {printable(path)!r} ends after {written} of {entry.size} bytes.")
            self._attributes(fd, entry)
            if _syncfs is None:
                os.fsync(fd)
        finally:
            os.close(fd)
        self._files += 1
        self._bytes += entry.size

    def _write(self, fd: int, entry: Entry, blocks: Iterable[bytes]) -> int:
        written = 0
        for block in blocks:
            written += len(block)
            if written > entry.size:
                raise HostileError(f"The file {printable(entry.path)!r} holds more bytes than it announced.")
            write_all(fd, block)
            self._progress(len(block))
        return written

    def _write_holes(self, fd: int, entry: Entry, blocks: Iterable[bytes]) -> int:
        """Like `_write`, and pages of zeros become holes."""
        offset = 0
        for block in blocks:
            end = offset + len(block)
            if end > entry.size:
                raise HostileError(f"The file {printable(entry.path)!r} holds more bytes than it announced.")
            position = 0
            if block != bytes(len(block)):
                while position < len(block):
                    # Pieces end at multiples of a page of the file, however the blocks are cut.
                    stop = min(position + _PIECE - (offset + position) % _PIECE, len(block))
                    piece = block[position:stop]
                    if piece != _ZERO_PIECE[: len(piece)]:
                        os.lseek(fd, offset + position, os.SEEK_SET)
                        write_all(fd, piece)
                    position = stop
            offset = end
            self._progress(len(block))
        os.ftruncate(fd, offset)
        return offset

    def _attributes(self, fd: int, entry: Entry) -> None:
        """Owner, then mode (chown clears setuid), then time, of an open file or folder."""
        # Each chown and chmod is a journal transaction, and most files have their owner and mode already.
        status = os.fstat(fd)
        mode = entry.mode & (0o1777 if entry.kind is Kind.FOLDER else 0o777)
        if self._own:
            owner = self._owner(entry)
            try:
                if owner != (status.st_uid, status.st_gid):
                    os.fchown(fd, *owner)
                mode = entry.mode & 0o7777
            except OSError as error:
                self._owner_refused(error)
        if mode != status.st_mode & 0o7777:
            os.fchmod(fd, mode)
        _set_time(fd, entry)

    def _owner_refused(self, error: OSError) -> None:
        # Not root; a user namespace without that id; NFS that squashes root; a file system without owners.
        if error.errno not in (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP):
            raise error
        self._owners_set = False

    def _owner(self, entry: Entry) -> tuple[int, int]:
        if entry.uname not in self._users:
            try:
                self._users[entry.uname] = pwd.getpwnam(entry.uname).pw_uid if entry.uname else None
            except (KeyError, ValueError):
                self._users[entry.uname] = None
        if entry.gname not in self._groups:
            try:
                self._groups[entry.gname] = grp.getgrnam(entry.gname).gr_gid if entry.gname else None
            except (KeyError, ValueError):
                self._groups[entry.gname] = None
        uid, gid = self._users[entry.uname], self._groups[entry.gname]
        return (entry.uid if uid is None else uid, entry.gid if gid is None else gid)

    def _regular(self, target: bytes, path: bytes) -> None:
        """HostileError unless `target` is a regular file that was written already."""
        parent, _, name = target.rpartition(b"/")
        found = False
        if not parent or parent in self._folders:
            try:
                status = os.stat(name, dir_fd=self._enter(parent), follow_symlinks=False)
                found = stat.S_ISREG(status.st_mode)
            except FileNotFoundError:
                pass
        if not found:
            raise HostileError(f"The hard link {printable(path)!r} names no earlier file of this backup.")

    def finish(self, outside: Outside | None) -> None:
        """Make the links, then set what folders are to look like."""
        for entry in self._hardlinks:
            self._hardlink(entry, outside)
        for entry in self._symlinks:
            self._symlink(entry)
        # A folder's path sorts before those below it; reversed, the deepest come first.
        for path in sorted(self._folders, key=lambda path: path.split(b"/"), reverse=True):
            if path:
                self._folder_attributes(self._enter(path), self._folders[path])
        self._folder_attributes(self._root, self._folders.get(b""))

    def _folder_attributes(self, fd: int, entry: Entry | None) -> None:
        if entry is None:
            os.fchmod(fd, 0o755)
        else:
            self._attributes(fd, entry)

    def _hardlink(self, entry: Entry, outside: Outside | None) -> None:
        path, target = entry.path[len(self._prefix) :], entry.target
        if not target.startswith(self._prefix):
            self._copy(path, target, outside)
            return
        parent, _, name = path.rpartition(b"/")
        target_parent, _, target_name = target[len(self._prefix) :].rpartition(b"/")
        # Entering the second folder closes the first one's descriptor, so keep a duplicate.
        source = os.dup(self._enter(target_parent))
        try:
            os.link(target_name, name, src_dir_fd=source, dst_dir_fd=self._enter(parent), follow_symlinks=False)
        except OSError as error:
            raise _clash(error, path) from error
        finally:
            os.close(source)

    def _copy(self, path: bytes, target: bytes, outside: Outside | None) -> None:
        if outside is None:
            raise HostileError(f"The hard link {printable(path)!r} leads to {printable(target)!r}, outside its tree.")
        entry, blocks = outside(target)
        if entry.kind is not Kind.FILE:
            raise HostileError(f"The hard link {printable(path)!r} leads to something that is not a file.")
        entry = entry._replace(path=path)
        self._count(entry)
        self._file(path, entry, blocks)

    def _symlink(self, entry: Entry) -> None:
        path = entry.path[len(self._prefix) :]
        parent, _, name = path.rpartition(b"/")
        folder = self._enter(parent)
        try:
            os.symlink(entry.target, name, dir_fd=folder)
        except OSError as error:
            raise _clash(error, path) from error
        if self._own:
            try:
                os.chown(name, *self._owner(entry), dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                self._owner_refused(error)
        _set_time(name, entry, folder)


def _set_time(file: int | bytes, entry: Entry, folder: int | None = None) -> None:
    times = (entry.mtime_ns, entry.mtime_ns)
    try:
        if isinstance(file, int):
            os.utime(file, ns=times)
        else:
            os.utime(file, ns=times, dir_fd=folder, follow_symlinks=False)
    except OverflowError as error:
        raise HostileError(f"The time of {printable(entry.path)!r} is impossible.") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise HostileError(f"The time of {printable(entry.path)!r} is impossible.") from error


def _clash(error: OSError, path: bytes) -> OSError | HostileError:
    """What an open or a link that failed says about the backup rather than about the disk."""
    if error.errno == errno.EEXIST:
        return HostileError(f"The name {printable(path)!r} occurs twice, or differs from another in case only.")
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return HostileError(f"{printable(path)!r} stands below something that is not a folder.")
    return error
