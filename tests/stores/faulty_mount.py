"""A file system in user space that refuses what it is told to: a stand-in for S3 mounts and dying disks.

Run as a program: `python -m tests.stores.faulty_mount BACKING MOUNTPOINT FAULT...`. A fault is a call that answers
ENOSYS (`rename`, `link`, `fsync`, `chmod`), `flip` (what is read has one bit flipped), `close` (the upload fails at
the end), `full=BYTES` (no space beyond), or `append` (only sequential writes to new files).
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import mfusepy as fuse


class FaultyMount(fuse.Operations):  # type: ignore[misc]
    """Passes everything through to a folder, but for its faults."""

    def __init__(self, backing: str, faults: set[str]) -> None:
        self._backing = backing
        self._faults = faults
        self._room = next((int(f.removeprefix("full=")) for f in faults if f.startswith("full=")), None)
        self._ends: dict[str, int] = {}

    def _path(self, path: str) -> str:
        return self._backing + path

    def _refused(self, name: str) -> None:
        if name in self._faults:
            raise fuse.FuseOSError(errno.ENOSYS)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.lstat(self._path(path))
        names = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid")
        return {name: getattr(status, name) for name in names}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._path(path))]

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._path(path), mode)
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._path(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        self._refused("rename")
        os.rename(self._path(old), self._path(new))
        return 0

    def link(self, target: str, source: str) -> int:
        self._refused("link")
        os.link(self._path(source), self._path(target))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._refused("chmod")
        os.chmod(self._path(path), mode)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._refused("append")
        os.truncate(self._path(path), length)
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._ends[path] = 0
        return os.open(self._path(path), os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            self._refused("append")
        return os.open(self._path(path), flags & ~os.O_DIRECT)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        data = os.pread(fh, size, offset)
        if "flip" in self._faults and path.endswith((".gz", ".partial")) and len(data) > 100:
            data = data[:99] + bytes([data[99] ^ 1]) + data[100:]
        return data

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if "append" in self._faults and offset != self._ends.get(path):
            raise fuse.FuseOSError(errno.EOPNOTSUPP)
        if self._room is not None and offset + len(data) > self._room:
            raise fuse.FuseOSError(errno.ENOSPC)
        self._ends[path] = offset + len(data)
        return os.pwrite(fh, data, offset)

    def flush(self, path: str, fh: int) -> int:
        if "close" in self._faults and path.endswith((".gz", ".partial")):
            raise fuse.FuseOSError(errno.EIO)
        return 0

    def fsync(self, path: str, datasync: bool, fh: int) -> int:
        self._refused("fsync")
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0


if __name__ == "__main__":
    fuse.FUSE(FaultyMount(sys.argv[1], set(sys.argv[3:])), sys.argv[2], foreground=True, nothreads=True, direct_io=True)
