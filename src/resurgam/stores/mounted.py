"""A remote folder: any mounted path, also one that knows no rename, link, chmod or fsync, as S3 mounts do not.

Rules (docs/ordering.md, sentences 12 to 14): a folder without its marker file is never written, since the disk may
not be mounted; archives are flat, `NAME.tar.gz`, written from the first byte to the last; a copy counts when it was
read back and has the bytes of the original.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from resurgam.durable import write_all
from resurgam.errors import NotFoundError, StorageError
from resurgam.stores.listing import PARTIAL, SUFFIXES, FoundArchive, file_name, list_archives, standing_file

MARKER = ".resurgam-remote"
_BLOCK = 4 << 20
# A mount that has no such call, rather than one on which it failed.
_NOT_SUPPORTED = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.EACCES, errno.EXDEV})
_NO_FSYNC = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EROFS})

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """REMOTE_BACKUP_PATH."""

    path: Path
    location = "remote"

    def set_up(self) -> None:
        """Write the marker that says: this is the mounted disk. Once, by `resurgam init`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path / MARKER, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                write_all(fd, b"Resurgam writes its remote copies only where it finds this file.\n")
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageError(
                f"REMOTE_BACKUP_PATH {self.path} can not be set up ({error.strerror}).",
                "Mount it, and make it writable for the user that runs Resurgam.",
            ) from None

    @property
    def is_set_up(self) -> bool:
        # Path.is_file() raises what a dead mount answers (ENOTCONN, ESTALE, EIO), which must not stop a backup.
        return os.path.isfile(self.path / MARKER)  # noqa: PTH113

    def check(self) -> None:
        """StorageError if the marker is missing."""
        if not self.is_set_up:
            raise StorageError(
                f"REMOTE_BACKUP_PATH {self.path} bears no marker file {MARKER}: its disk may not be mounted, so "
                "nothing was written there.",
                "Mount it. If it is mounted and new, run `resurgam init` once.",
            )

    def archives(self) -> list[FoundArchive]:
        """The archives that are there. StorageError if the marker is missing: that is not an empty folder."""
        self.check()
        return list_archives(self.path)

    def archive_path(self, name: str) -> Path:
        """The file of that backup which is there, in whatever form; the plain one's where none is."""
        return standing_file(self.path, name)

    def copy(self, source: Path, name: str, progress: Progress = lambda count: None) -> None:
        """Copy one archive here, in its form, and read it back. Replaces a damaged copy of the same name.

        StorageError if it could not be written, or reads back differently; no copy is left then.
        """
        self.check()
        final = self.path / source.name
        try:
            if self._can_rename():
                partial = self.path / f".{source.name}.partial"
                self._write(source, partial, progress)
                partial.replace(final)
                with contextlib.suppress(OSError):  # not every mount syncs folders
                    _sync(self.path, os.O_RDONLY | os.O_DIRECTORY)
            else:
                self._write(source, final, progress)
        except OSError as error:
            raise StorageError(
                f"The remote copy of {name} failed ({error.strerror}); the local backup is untouched.",
                f"Check space and permissions of {self.path}; the next backup tries again.",
            ) from None

    def sweep(self, app_name: str) -> None:
        """Remove what copies of that application that died left behind; only while its lock is held.

        Others may be writing here at this moment.
        """
        self.check()
        with contextlib.suppress(OSError):  # what can't be removed harms nothing: it is hidden, and never read
            for path in self.path.iterdir():
                if (found := PARTIAL.fullmatch(path.name)) and found["app"] == app_name:
                    path.unlink()

    def delete(self, name: str) -> None:
        """Remove one archive here, in every form. NotFoundError if it is not there."""
        self.check()
        try:
            self.archive_path(name).unlink()
            for form in SUFFIXES:
                (self.path / file_name(name, form)).unlink(missing_ok=True)
        except FileNotFoundError:
            raise NotFoundError(f"There is no backup {name} in {self.path}.") from None
        except OSError as error:
            raise StorageError(f"The remote copy of {name} could not be deleted ({error.strerror}).") from None

    def _write(self, source: Path, target: Path, progress: Progress) -> None:
        with contextlib.suppress(FileNotFoundError):
            target.unlink()  # mounts of object storage create, and do not overwrite
        try:
            written = blake3()
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                for block in _blocks(source):
                    write_all(fd, block)
                    written.update(block)
                    progress(len(block))
                _fsync(fd)
            finally:
                os.close(fd)  # such mounts report a failed upload here
            self._compare(target, written.digest())
        except BaseException:
            with contextlib.suppress(OSError):
                target.unlink()
            raise

    def _compare(self, target: Path, digest: bytes) -> None:
        read = blake3()
        for block in _blocks(target):
            read.update(block)
        if read.digest() != digest:
            raise OSError(errno.EIO, "it reads back differently from what was written")

    def _can_rename(self) -> bool:
        """Try it on two bytes, since no system call tells."""
        name = f".resurgam-probe-{secrets.token_hex(4)}"
        probe, renamed = self.path / name, self.path / f"{name}-renamed"
        try:
            probe.write_bytes(b"ok")
            probe.replace(renamed)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
            return False
        finally:
            for path in (probe, renamed):
                with contextlib.suppress(OSError):
                    path.unlink()
        return True


def _blocks(path: Path) -> Iterator[bytes]:
    """A file's bytes, from the disk and not from the cache where the system lets us ask for that."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        while block := os.read(fd, _BLOCK):
            yield block
    finally:
        os.close(fd)


def _fsync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
