"""Durable changes to a local file system: write, fsync, rename, fsync of the folder; in that order, always.

Rules that hold here and nowhere else have to be written again:
- a name appears only when the bytes behind it are on the disk;
- publishing never replaces a file that is already there;
- an error of fsync is an error of the write (a second fsync may lie: PostgreSQL's fsyncgate, 2018);
- every change goes through `system`, so that tests can make each of them fail, or record it and work out what a crash
  leaves behind.

renameat2(2) flags come from Linux's <linux/fs.h>. Where the system or the file system has no renameat2, link(2)
plus unlink(2) publishes, and `exchange` says that it can't.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)

# What a file system answers when it does not know a flag or a call, rather than failing at it.
UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM})


class System:
    """The calls that change a file system, one method each, as `os` has them."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def mkdir(self, path: Path, mode: int) -> None:
        os.mkdir(path, mode)  # noqa: PTH102 - Path.mkdir is no system call of one name

    def rename(self, old: Path, new: Path) -> None:
        os.replace(old, new)  # noqa: PTH105

    def rename2(self, old: Path, new: Path, flags: int) -> None:
        _rename2(old, new, flags)

    def link(self, old: Path, new: Path) -> None:
        os.link(old, new, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        os.unlink(path)  # noqa: PTH108


system = System()


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = system.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        system.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # not known for folders there; PostgreSQL ignores the same
            raise
    finally:
        system.close(fd)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte; write(2) may take fewer than asked (near a full disk it does)."""
    view = memoryview(data).cast("B")
    while view:
        view = view[system.write(fd, view) :]


def _write_temporary(temporary: Path, data: bytes | bytearray | memoryview, mode: int) -> None:
    fd = system.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        write_all(fd, data)
        system.fsync(fd)
    finally:
        system.close(fd)


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path` atomically: readers see the old content or the new, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write_temporary(temporary, data, mode)
        system.rename(temporary, path)
    except BaseException:
        _remove_temporary(temporary)
        raise
    fsync_folder(path.parent)


# What create_file leaves behind in a crash.
PARTIAL_FILE = re.compile(r"\..+\.[0-9a-f]{16}\.partial")


def create_file(path: Path, data: bytes | bytearray | memoryview, mode: int = 0o600) -> None:
    """Make the file `path` with `data`, at once and whole, replacing nothing: FileExistsError if the name is taken.
    Durable on return, given that its folder is. EOPNOTSUPP where the file system can't give a name exclusively."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        _write_temporary(temporary, data, mode)
        # Nobody holds a lock here, so looking first would not do.
        if not _rename_exclusively(temporary, path):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), os.fspath(path))
    except BaseException:
        _remove_temporary(temporary)
        raise
    fsync_folder(path.parent)


def _remove_temporary(path: Path) -> None:
    with suppress(FileNotFoundError):
        system.unlink(path)


def settle_file(path: Path) -> None:
    """Make a file durable that is there already, whoever wrote it: its bytes, then its name."""
    fd = system.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        system.fsync(fd)
    finally:
        system.close(fd)
    fsync_folder(path.parent)


def make_folder(path: Path, mode: int = 0o700) -> None:
    """Make a folder, unless it is there. Durable on return, given that its parent is."""
    with suppress(FileExistsError):
        system.mkdir(path, mode)
    # Also if it was there: whoever made it may have died before it was durable.
    fsync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file; nothing happens if it is not there. Durable on return."""
    with suppress(FileNotFoundError):
        system.unlink(path)
    fsync_folder(path.parent)


def _rename2(old: Path, new: Path, flags: int) -> None:
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), os.fspath(old))
    if _renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(old), None, os.fspath(new))


def rename_new(old: Path, new: Path) -> None:
    """Rename without ever replacing `new`; raises FileExistsError if it is there. Durable on return."""
    if not _rename_exclusively(old, new):
        # No call for that is known here (some FUSE): look first. Our callers hold a lock against each other.
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(new))
        system.rename(old, new)
    fsync_folder(new.parent)
    if old.parent != new.parent:
        fsync_folder(old.parent)


def _rename_exclusively(old: Path, new: Path) -> bool:
    """Rename so that of any number of processes one succeeds. FileExistsError; False if this file system can't."""
    try:
        system.rename2(old, new, _RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    else:
        return True
    try:
        system.link(old, new)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    system.unlink(old)
    return True


def exchange(left: Path, right: Path) -> None:
    """Swap two names atomically. OSError with a code in UNSUPPORTED: this file system can't. Durable on return."""
    system.rename2(left, right, _RENAME_EXCHANGE)
    fsync_folder(left.parent)
    if left.parent != right.parent:
        fsync_folder(right.parent)


# File systems whose locks or shared memory do not reach, or not reliably, every machine that has the file open.
NETWORK_FILE_SYSTEMS = frozenset(
    """9p afs beegfs ceph cifs coda davfs glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs pvfs2 smb smb2 smb3 smbfs
    fuse.afuse fuse.blobfuse fuse.blobfuse2 fuse.ceph fuse.ceph-fuse fuse.curlftpfs fuse.davfs fuse.davfs2 fuse.gcsfuse
    fuse.geesefs fuse.glusterfs fuse.goofys fuse.grpcfuse fuse.juicefs fuse.mount-s3 fuse.mountpoint-s3 fuse.osxfs
    fuse.rclone fuse.s3fs fuse.s3ql fuse.seaweedfs fuse.smbnetfs fuse.sshfs fuse.yas3fs""".split()  # noqa: SIM905
)


def filesystem_type(path: Path) -> str:
    """The type of the file system that holds `path`, or would hold it once created, as Linux names it (`ext4`, `nfs4`,
    `fuse.sshfs`); "" where /proc/self/mountinfo can not tell."""
    place = os.path.realpath(path)
    best, found = "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        # proc(5): the fifth field is the mount point, with blanks, tabs, newlines and backslashes as octal escapes.
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later hides the earlier.
        if inside and len(point) >= len(best):
            best, found = point, after.split(" ")[0]
    return found
