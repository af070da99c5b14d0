"""Moves what is in one folder into another, where a folder can not be renamed as a whole.

That is so for mount points (EBUSY), across mounts (EXDEV, also between two bind mounts of one file system), and for
folders of an image layer under overlayfs (EXDEV, unless redirect_dir is on). Each entry is renamed if that works;
a folder that can't be is made anew and its entries are moved one by one; a file that can't be is copied, made
durable, renamed into place and only then removed, so that it is whole in at least one of the two places.

Moving twice, or from a state that a kill left, ends in the same state. Sockets and devices stay where they are
if they can not be renamed, and so do folders that are mount points, empty then.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resurgam.durable import UNSUPPORTED, fsync_folder, rename_new
from resurgam.sources.excludes import OWN_PREFIX

# A copy on its way; found at the start of a move it is the rest of one that was killed.
_COPYING = f"{OWN_PREFIX}copying"
_NOT_WHOLE = frozenset({errno.EXDEV, errno.EBUSY})


@dataclass(frozen=True, slots=True)
class Look:
    """Mode, owner and time of a folder or file, as a journal holds them."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int

    @staticmethod
    def of(path: Path) -> Look:
        status = path.stat()
        return Look(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)

    def give(self, path: Path) -> None:
        """Make `path`, no symlink, look so, as far as this user may: a volume's top often belongs to root."""
        with contextlib.suppress(PermissionError):
            os.chown(path, self.uid, self.gid)
        with contextlib.suppress(PermissionError):
            path.chmod(self.mode)
        with contextlib.suppress(PermissionError):
            os.utime(path, ns=(self.mtime_ns, self.mtime_ns))


def mount_points() -> frozenset[str]:
    """Where file systems are mounted, as this process sees it; empty where the system does not say (not Linux)."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return frozenset()
    # proc(5): the fifth field; blank, tab, newline and backslash as three octal digits.
    return frozenset(
        os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4]))
        for line in lines
    )


def is_mount(path: Path, mounts: frozenset[str]) -> bool:
    """Whether `path`, without symlinks in it, is a mount point; bind mounts of the same file system count too."""
    return os.fspath(path) in mounts or (path.is_dir() and os.path.ismount(path))


def mounts_below(path: Path, mounts: frozenset[str]) -> bool:
    """Whether anything is mounted inside `path`: renamed, the folder would carry the mount away with it."""
    top = os.fspath(path).rstrip("/") + "/"
    return any(mount.startswith(top) for mount in mounts)


def move_entries(source: Path, target: Path, split: Callable[[Path], None] = lambda path: None) -> None:
    """Move everything in `source` into `target`, except names of ours at the top.

    What is in the way is merged (folders), replaced (files), or set aside under a name of ours. `split` is called
    before a folder of `source` is taken apart. Raises OSError; whatever was not moved is still in `source`.
    """
    mounts = mount_points()
    for name in sorted(os.listdir(source)):  # noqa: PTH208
        if not name.startswith(OWN_PREFIX):
            _move(source / name, target / name, mounts, split)
    _unlink(source / _COPYING)


def _move(source: Path, target: Path, mounts: frozenset[str], split: Callable[[Path], None]) -> None:
    folder = _is_folder(source)
    if not (folder and (is_mount(source, mounts) or mounts_below(source, mounts))):
        try:
            if not (folder and _is_folder(target)):
                _make_room(target, folder)
                source.rename(target)
                return
        except OSError as error:
            if error.errno not in _NOT_WHOLE:
                raise
    if folder:
        _merge(source, target, mounts, split)
    else:
        _copy(source, target)


def _make_room(target: Path, folder: bool) -> None:
    """rename(2) replaces a file by a file; anything else in the way is set aside, as it may be the user's."""
    if os.path.lexists(target) and (folder or _is_folder(target)):
        set_aside(target)


def set_aside(path: Path) -> None:
    """Give `path`, if it is there, a name of ours beside."""
    for number in range(1000):
        if not os.path.lexists(path):
            return
        with contextlib.suppress(FileExistsError):
            rename_free(path, path.with_name(cut_name(f"{OWN_PREFIX}conflict-{number}-", path.name)))


def rename_free(old: Path, new: Path) -> None:
    """Rename without replacing; durable on return. File systems without renameat2's flags can't link folders."""
    try:
        rename_new(old, new)
    except OSError as error:
        if error.errno not in UNSUPPORTED or os.path.lexists(new):
            raise
        old.rename(new)
        fsync_folder(new.parent)
        fsync_folder(old.parent)


def cut_name(prefix: str, name: str) -> str:
    """Prefix and name, cut to fit into NAME_MAX with `.partial` behind it, and unique still."""
    raw, room = os.fsencode(name), 255 - len(prefix) - len(".partial")
    if len(raw) > room:
        digest = hashlib.sha256(raw).hexdigest()[:16]
        raw = raw[: room - 17] + b"-" + digest.encode()
    return prefix + os.fsdecode(raw)


def _merge(source: Path, target: Path, mounts: frozenset[str], split: Callable[[Path], None]) -> None:
    split(source)
    look = Look.of(source)
    if not _is_folder(target):
        set_aside(target)
        target.mkdir(0o700)
    for name in sorted(os.listdir(source)):  # noqa: PTH208
        if name == _COPYING:
            _unlink(source / name)
        else:
            _move(source / name, target / name, mounts, split)
    look.give(target)
    try:
        source.rmdir()
    except OSError as error:
        # A mount point stays, and so does what can not be moved, or was put there meanwhile.
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise


def _copy(source: Path, target: Path) -> None:
    status = source.lstat()
    temporary = target.parent / _COPYING
    _unlink(temporary)
    if stat.S_ISLNK(status.st_mode):
        temporary.symlink_to(source.readlink())
    elif stat.S_ISREG(status.st_mode):
        shutil.copyfile(source, temporary)
    else:
        return
    with contextlib.suppress(PermissionError):
        os.chown(temporary, status.st_uid, status.st_gid, follow_symlinks=False)
    shutil.copystat(source, temporary, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        sync_path(temporary)
    temporary.rename(target)
    sync_path(target.parent)
    source.unlink()


def copy_file(source: Path, target: Path) -> None:
    """Copy a regular file with mode, owner and time to a name of ours; whole and durable once `target` is there."""
    temporary = target.with_name(target.name + ".partial")
    _unlink(temporary)
    shutil.copyfile(source, temporary)
    Look.of(source).give(temporary)
    sync_path(temporary)
    temporary.rename(target)
    sync_path(target.parent)


def sync_path(path: Path) -> None:
    """fsync of a file or folder by its name."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
