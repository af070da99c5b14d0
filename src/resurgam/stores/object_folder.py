"""Objects as files in a folder, on a local disk or whatever is mounted there (docs/ordering.md, sentence 41).

`packs/ab/…` is the file of that name. Files appear whole, under their name, or not at all; other names, links and what
dead writers left are not objects. All changes go through durable.py.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

from resurgam.durable import (
    NETWORK_FILE_SYSTEMS,
    PARTIAL_FILE,
    create_file,
    filesystem_type,
    make_folder,
    remove_file,
    settle_file,
)
from resurgam.errors import ObjectExists, ObjectMissing, StorageError
from resurgam.stores.objects import KEY, StoredObject, checked

_NETWORK_STALENESS = 60.0  # attribute caches of NFS and SMB clients last up to 60 s
_DAY = 86400
_READ = 1 << 30  # Linux reads less than 2 GiB at a call
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class FolderStore:
    """An ObjectStore in the folder `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Folders whose name is known to be durable. Threads may look twice; nothing is lost by that.
        self._durable: set[Path] = {path}

    @property
    def url(self) -> str:
        return os.fspath(self.path)

    @property
    def staleness(self) -> float:
        return _NETWORK_STALENESS if filesystem_type(self.path) in NETWORK_FILE_SYSTEMS else 0.0

    def prepare(self) -> None:
        with self._told("be made"):
            for folder in reversed((self.path, *self.path.parents)):
                if not folder.is_dir():
                    make_folder(folder)

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        file = self._file(key)
        with self._told(f"take {key}"):
            self._keep_folder(file.parent)
            try:
                create_file(file, data)
            except FileExistsError:
                self._settle(key, file, data)
            except FileNotFoundError:
                self._durable = {self.path}  # somebody removed a folder; the next put makes it again
                raise

    def _settle(self, key: str, file: Path, data: bytes | bytearray | memoryview) -> None:
        """The key is taken: fine if by the same bytes, which then are made durable, whoever wrote them."""
        if file.is_symlink() or not file.is_file() or file.stat().st_size != len(data) or self.get(key) != data:
            raise ObjectExists(f"There is another {key} in {self.url} already; nothing was overwritten.")
        settle_file(file)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        file = self._file(key)
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            self._refuse_missing_root()
            raise ObjectMissing(f"There is no {key} in {self.url}.") from None
        except OSError as error:
            raise StorageError(f"{file} can not be read ({error.strerror}).") from None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise StorageError(f"{file} is not a regular file.")
            end = found.st_size if length is None else min(found.st_size, offset + length)
            return _read(fd, offset, end)
        except OSError as error:
            raise StorageError(f"{file} can not be read ({error.strerror}).") from None
        finally:
            os.close(fd)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        begin, _, _ = prefix.rpartition("/")
        found: list[StoredObject] = []
        with self._told("be listed"):
            for name, entry in self._walk(begin):
                if name.startswith(prefix) and KEY.fullmatch(name):
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # deleted meanwhile
                    found.append(StoredObject(name, status.st_size, status.st_mtime))
        found.sort(key=attrgetter("key"))
        return iter(found)

    def delete(self, key: str) -> None:
        file = self._file(key)
        with self._told(f"lose {key}"):
            if file.parent.is_dir():
                remove_file(file)
            else:
                self._refuse_missing_root()

    def time(self) -> float:
        with (
            self._told("be written to"),
            tempfile.NamedTemporaryFile(
                dir=self.path, prefix=".clock.", suffix=f".{os.urandom(8).hex()}.partial"
            ) as probe,
        ):
            return os.fstat(probe.fileno()).st_mtime

    def sweep(self) -> int:
        now, swept = self.time(), 0
        with self._told("be swept"):
            for name, entry in self._walk(""):
                if PARTIAL_FILE.fullmatch(entry.name):
                    try:
                        old = now - entry.stat(follow_symlinks=False).st_mtime > _DAY
                    except FileNotFoundError:
                        continue
                    if old:
                        remove_file(self.path / name)
                        swept += 1
        return swept

    def free_bytes(self) -> int | None:
        with self._told("be measured"):
            return shutil.disk_usage(self.path).free

    def close(self) -> None:
        pass

    def _file(self, key: str) -> Path:
        return self.path / checked(key)

    def _keep_folder(self, folder: Path) -> None:
        """Make `folder` and what is above it, as far as the root, durable. The root itself is never made here."""
        if folder in self._durable:
            return
        self._keep_folder(folder.parent)
        # One fsync settles all that are there: a pack's folder is one of 256.
        beside = [Path(entry) for entry in os.scandir(folder.parent) if entry.is_dir(follow_symlinks=False)]
        make_folder(folder)
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise StorageError(f"{folder} is not a folder; nothing was written.")
        self._durable.update(beside, (folder,))

    def _walk(self, begin: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """All regular files below the folder `begin`, with names from the root. OSError if a folder can't be read."""
        pending = [begin]
        while pending:
            folder = pending.pop()
            try:
                entries = os.scandir(f"{self.path}/{folder}")
            except FileNotFoundError:
                self._refuse_missing_root()
                if folder == begin:
                    return  # nothing was put there yet
                raise
            above = f"{folder}/" if folder else ""
            with entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        yield above + entry.name, entry
                    elif entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                        pending.append(above + entry.name)

    def _refuse_missing_root(self) -> None:
        if not self.path.is_dir():
            raise StorageError(
                f"The folder {self.path} is not there; nothing was touched.",
                "Is its disk mounted? `resurgam init` makes it.",
            )

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """System errors as ours: `what` the folder could not do."""
        try:
            yield
        except OSError as error:
            self._refuse_missing_root()
            hint = ""
            if error.errno in _FULL:
                hint = "Free some space, or let `resurgam prune` do it; the next run goes on by itself."
            elif error.errno == errno.EOPNOTSUPP:
                hint = "Two writers could overwrite each other there. If it is a bucket's mount, use its s3:// address."
            elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                hint = f"chown -R {os.geteuid()}:{os.getegid()} {self.path}, or mount it writable."
            raise StorageError(f"{self.path} could not {what} ({error.strerror}).", hint) from error


def _read(fd: int, offset: int, end: int) -> bytes:
    parts: list[bytes] = []
    while offset < end and (part := os.pread(fd, min(end - offset, _READ), offset)):
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
