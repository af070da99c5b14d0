"""The backup folder: partial files, publication, exclusion, deletion (docs/ordering.md, sentences 1, 2, 5, 8, 10)."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resurgam.durable import fsync_folder, rename_new
from resurgam.errors import BusyError, NotFoundError, StorageError
from resurgam.stores.listing import (
    PARTIAL,
    SUFFIXES,
    FoundArchive,
    file_name,
    list_archives,
    standing_file,
)

_LOCK = ".resurgam.lock"
EVIDENCE = ".drill.json"


@dataclass(slots=True)
class PartialArchive:
    """An archive under way; it becomes a backup by `publish`, and otherwise leaves no trace."""

    fd: int
    path: Path
    final: Path
    published: bool = False

    def publish(self) -> None:
        """Give it its name, replacing nothing; durable on return. The caller has synced the content."""
        try:
            rename_new(self.path, self.final)
        except FileExistsError:
            raise StorageError(f"{self.final.name} came into being meanwhile; it was not replaced.") from None
        except OSError as error:
            raise StorageError(f"{self.final.name} could not be published ({error.strerror}).") from error
        self.published = True


@dataclass(frozen=True, slots=True)
class BackupFolder:
    """BACKUP_DIR."""

    path: Path
    location = "local"

    @property
    def is_writable(self) -> bool:
        return os.access(self.path, os.W_OK | os.X_OK)

    def prepare(self) -> None:
        """Make it if it is not there, and check that we may write. StorageError says what to do otherwise."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"BACKUP_DIR {self.path} is not there and can not be made ({error.strerror}).",
                f"mkdir -p {self.path}, and give it to the user that runs Resurgam (chown).",
            ) from None
        if not self.is_writable:
            raise StorageError(*not_writable(self.path))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one run. BusyError if another holds it; it ends with the process."""
        try:
            fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(
                f"BACKUP_DIR {self.path} is not writable ({error.strerror}).",
                f"chown -R {os.geteuid()}:{os.getegid()} {self.path} && chmod 755 {self.path}",
            ) from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise StorageError(f"{self.path / _LOCK} can not be locked ({error.strerror}).") from None
                raise BusyError(
                    f"Another run is at work in {self.path}; this one was not started.", "Wait until it has ended."
                ) from None
            yield
        finally:
            os.close(fd)

    @contextmanager
    def create(self, name: str, form: str = "") -> Iterator[PartialArchive]:
        """A partial archive, open for writing; removed at the end of the block unless it was published."""
        final = self.path / file_name(name, form)
        path = final.with_name(f".{final.name}.partial")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(
                f"No file can be made in BACKUP_DIR {self.path} ({error.strerror}).",
                "`resurgam doctor` checks space and permissions.",
            ) from None
        partial = PartialArchive(fd, path, final)
        try:
            yield partial
        finally:
            os.close(fd)
            if not partial.published:
                path.unlink(missing_ok=True)

    def sweep(self) -> tuple[str, ...]:
        """Remove what dead runs left behind; only while the lock is held. Answers the names removed."""
        swept = sorted(path for path in self.path.iterdir() if PARTIAL.fullmatch(path.name))
        for path in swept:
            path.unlink(missing_ok=True)
        return tuple(path.name for path in swept)

    def archive_path(self, name: str) -> Path:
        """The file of that backup which is there, in whatever form; the plain one's where none is."""
        return standing_file(self.path, name)

    def evidence_path(self, name: str) -> Path:
        """Where the result of a backup's latest drill is kept, beside it."""
        return self.path / f"{name}{EVIDENCE}"

    def archives(self) -> list[FoundArchive]:
        """The archives that are there; none if the folder is not."""
        return list_archives(self.path) if self.path.exists() else []

    def delete(self, name: str) -> int:
        """Remove one archive in every form, and its drill's evidence; answers its size in bytes. Durable on return.

        NotFoundError if it is not there.
        """
        path = self.archive_path(name)
        try:
            size = path.stat().st_size
            path.unlink()
            for form in SUFFIXES:
                (self.path / file_name(name, form)).unlink(missing_ok=True)
            self.evidence_path(name).unlink(missing_ok=True)
        except FileNotFoundError:
            raise NotFoundError(f"There is no backup {name} in {self.path}.") from None
        except OSError as error:
            raise StorageError(f"{path} could not be deleted ({error.strerror}).") from None
        fsync_folder(self.path)
        return size

    def time(self) -> float:
        """The folder's own clock, which on a mount is another machine's: seconds since 1970, of a file made now."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=".resurgam-clock-") as probe:
                return os.fstat(probe.fileno()).st_mtime
        except OSError as error:
            raise StorageError(f"No file can be made in BACKUP_DIR {self.path} ({error.strerror}).") from None

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free


def not_writable(path: Path) -> tuple[str, str]:
    """Why nothing can be written to BACKUP_DIR, and what to do."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return (
            f"BACKUP_DIR {path} is not writable: it is mounted read-only.",
            "list, show and verify work as it is. To restore, mount it writable, or set BACKUP_DIR to another folder "
            "and copy the archive there.",
        )
    owner = f"chown -R {os.geteuid()}:{os.getegid()} {path} && chmod 755 {path}"
    return f"BACKUP_DIR {path} is not writable: permission denied.", owner
