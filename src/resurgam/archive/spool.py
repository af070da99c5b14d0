"""What must wait before it can be written elsewhere or read: a file without a name, encrypted by a key that only our
memory holds (docs/archive-format.md, sentence 36). It is gone with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from resurgam.durable import UNSUPPORTED, write_all
from resurgam.errors import StorageError

_READ = 1 << 20
_AES_BLOCK = 16


class Spool:
    """Written from the first byte to the last; then read, at any place, by any thread. `size` in bytes."""

    def __init__(self, folder: Path) -> None:
        """`folder` is on the disk that shall hold it. StorageError if no file can be made there."""
        self._folder = folder
        self._key = secrets.token_bytes(32)
        self._encryptor = self._cipher(0).encryptor()
        self._digest = blake3()
        self.size = 0
        try:
            self._fd = _nameless(folder)
        except OSError as error:
            raise self._failed(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        try:
            write_all(self._fd, self._encryptor.update(data))
        except OSError as error:
            raise self._failed(error) from None
        self.size += len(data)

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`: fewer only at the end."""
        skip = offset % _AES_BLOCK
        position, left, pieces = offset - skip, length + skip, []
        decryptor = self._cipher(position // _AES_BLOCK).decryptor()
        try:
            while left > 0 and (piece := os.pread(self._fd, left, position)):
                pieces.append(decryptor.update(piece))
                position += len(piece)
                left -= len(piece)
        except OSError as error:
            raise self._failed(error) from None
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return data[skip:] if skip else data

    def blocks(self) -> Iterator[bytes]:
        """All of it. StorageError, at the end, if it is not what was written."""
        digest, position = blake3(), 0
        while block := self.read(position, _READ):
            digest.update(block)
            position += len(block)
            yield block
        if digest.digest() != self._digest.digest():
            raise StorageError(
                f"The disk of {self._folder} gave back other bytes than were written; the backup was not kept.",
                "Check that disk (dmesg, smartctl) before the next backup.",
            )

    def close(self) -> None:
        """Let it go, and its space with it."""
        os.close(self._fd)

    def _cipher(self, block: int) -> Cipher[modes.CTR]:
        # The key is of this one spool, so the counter may begin at 0; no part of it is written twice.
        return Cipher(algorithms.AES(self._key), modes.CTR(block.to_bytes(_AES_BLOCK, "big")))

    def _failed(self, error: OSError) -> StorageError:
        full = (
            " An encrypted archive needs its dump's compressed size once more." if error.errno == errno.ENOSPC else ""
        )
        return StorageError(
            f"What must wait in {self._folder} meanwhile could not be kept there ({error.strerror}); backups are "
            "untouched.",
            f"Free space there.{full}",
        )


def _nameless(folder: Path) -> int:
    """A new file without a name, open for reading and writing."""
    with contextlib.suppress(AttributeError):
        try:
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (*UNSUPPORTED, errno.EISDIR, errno.ENOENT) or not folder.is_dir():
                raise
    fd, path = tempfile.mkstemp(prefix=".resurgam-spool-", dir=folder)
    os.unlink(path)  # noqa: PTH108  what mkstemp gives is a text
    return fd
