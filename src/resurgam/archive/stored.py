"""An archive's file, open for reading at any offset by any thread; what the system answers becomes our errors."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from resurgam.errors import DamagedError, NotFoundError, StorageError


class ArchiveFile(Protocol):
    """An archive's bytes, wherever they come from. `size` is their number, `path` the file that they are kept in."""

    path: Path
    size: int

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`: fewer only at the end. Any thread may call it."""

    def close(self) -> None: ...


class StoredFile:
    """A regular file. `size` is its length in bytes when it was opened."""

    def __init__(self, path: Path) -> None:
        """NotFoundError if it is not there, DamagedError if it is no file, StorageError if it can't be opened."""
        self.path = path
        try:
            # Without O_NONBLOCK, a fifo of that name would hold us for ever.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise NotFoundError(
                f"There is no archive {path}.", "`resurgam list` shows the backups there are."
            ) from None
        except OSError as error:
            raise StorageError(f"{path} can not be read ({error.strerror}).", "Check its owner and mode.") from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise DamagedError(f"{path.name} is not a regular file.")
        self.size = status.st_size

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`: fewer only at the file's end. StorageError if the disk fails."""
        pieces = []
        try:
            while length > 0 and (piece := os.pread(self._fd, length, offset)):
                pieces.append(piece)
                offset += len(piece)
                length -= len(piece)
        except OSError as error:
            raise StorageError(
                f"{self.path} can not be read at byte {offset:,} ({error.strerror}).", "Check the disk that it is on."
            ) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def rewound(self) -> int:
        """Its descriptor at the first byte, for a program that reads it to its end."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        return self._fd

    def close(self) -> None:
        os.close(self._fd)
