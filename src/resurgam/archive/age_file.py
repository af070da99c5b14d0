"""The payload of an age file: 64 KiB chunks under ChaCha20-Poly1305, numbered, the last one marked (C2SP, age.md).

Written as a stream and read at any place (docs/archive-format.md, sentences 34 and 37).
"""

from __future__ import annotations

import contextlib
import os
import secrets

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from resurgam.archive.age_header import MAX_HEADER, Header, check_mac, parse_header, payload_key, unwrap
from resurgam.archive.readback import ReadBack, Span
from resurgam.archive.sealing import ArchiveKeys
from resurgam.archive.sinks import sync, write
from resurgam.archive.stored import StoredFile
from resurgam.errors import DamagedError, StorageError

CHUNK = 64 << 10
_TAG = 16
_SEALED = CHUNK + _TAG
NONCE = 16
# What is encrypted in one go: enough to make calls rare, little enough for a span that is held in memory.
_BATCH = 16 * CHUNK


class AgeWriter:
    """Encrypts a stream into an open file; `finish` checks what the disk holds."""

    def __init__(self, fd: int, header: bytes, file_key: bytes) -> None:
        """The header must lead to the file key: the caller has tried."""
        nonce = secrets.token_bytes(NONCE)
        self._fd, self._header, self._file_key = fd, header, file_key
        self._chunks = _Chunks(payload_key(file_key, nonce), len(header) + NONCE)
        self._readback = ReadBack(fd, self._chunks.open)
        self._held = bytearray()
        self._number = 0
        write(fd, header + nonce)

    def write(self, data: bytes) -> None:
        self._held += data
        # The last byte is kept, for the last chunk may not be empty.
        while len(self._held) > _BATCH:
            self._seal(bytes(memoryview(self._held)[:_BATCH]), last=False)
            del self._held[:_BATCH]

    def finish(self) -> int:
        """End the file, sync it, read it back, decrypt it. Answers its size; StorageError if it is not as written."""
        self._seal(bytes(self._held), last=True)
        sync(self._fd)
        self._check_header()
        self._readback.finish()
        size = os.fstat(self._fd).st_size
        if size != self._chunks.end:
            raise StorageError("The archive's file is not as long as what was written to it; the backup was not kept.")
        return size

    def close(self) -> None:
        self._readback.close()

    def _seal(self, data: bytes, *, last: bool) -> None:
        offset = self._chunks.offset(self._number)
        sealed, self._number = self._chunks.seal(self._number, data, last=last)
        # Before it can be read back, so that the end is known as the end.
        self._chunks.end = offset + len(sealed) if last else 0
        write(self._fd, sealed)
        self._readback.add(Span(offset, len(sealed), blake3(data).digest()))

    def _check_header(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # advice, which a file system may not take
            os.posix_fadvise(self._fd, 0, MAX_HEADER, os.POSIX_FADV_DONTNEED)
        try:
            stored = os.pread(self._fd, len(self._header), 0)
        except OSError as error:
            raise StorageError(f"The archive could not be read back ({error.strerror}).") from error
        if stored != self._header:
            raise StorageError("The disk gave back another header than was written; the backup was not kept.")
        check_mac(parse_header(stored), self._file_key)


class AgeFile:
    """The plain bytes of an age file, read at any offset by any thread. `size` is theirs, in bytes."""

    def __init__(self, file: StoredFile, keys: ArchiveKeys) -> None:
        """Takes the file over. KeyRefused if the keys do not open it, DamagedError if header or end are damaged."""
        self.path = file.path
        self._file = file
        header = read_header(file)
        nonce = file.read(header.length, NONCE)
        payload = file.size - header.length - len(nonce)
        last, rest = divmod(payload - 1, _SEALED)
        if payload < _TAG or rest + 1 < _TAG or (last and rest + 1 == _TAG):
            raise DamagedError(
                f"{self.path.name} was cut off.", "Take another backup, or the copy of this one in the remote folder."
            )
        self.size = payload - (last + 1) * _TAG
        self._chunks = _Chunks(payload_key(file_key_of(header, keys), nonce), header.length + NONCE)
        self._chunks.end = file.size
        self._last = last
        self._open(last, last + 1)

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`: fewer only at the end. DamagedError if any of them was changed."""
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        first = offset // CHUNK
        data = self._open(first, (end - 1) // CHUNK + 1)
        skip = offset - first * CHUNK
        return data[skip : skip + end - offset] if skip or len(data) > end - offset else data

    def close(self) -> None:
        self._file.close()

    def _open(self, first: int, last: int) -> bytes:
        start = self._chunks.offset(first)
        stored = self._file.read(start, (last - first) * _SEALED)
        if len(stored) < min(self._chunks.offset(last), self._chunks.end) - start:
            raise DamagedError(f"{self.path.name} was cut off while it was read.")
        return self._chunks.open(start, stored)


class _Chunks:
    """The chunks of one payload: `start` is the first one's offset in the file, `end` the last one's end, or 0."""

    def __init__(self, key: bytes, start: int) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._start = start
        self.end = 0

    def offset(self, number: int) -> int:
        return self._start + number * _SEALED

    def seal(self, number: int, data: bytes, *, last: bool) -> tuple[bytes, int]:
        """The chunks of `data`, of which the first has that number, and the number after them."""
        view, sealed = memoryview(data), []
        for position in range(0, max(len(data), 1), CHUNK):
            final = last and position + CHUNK >= len(data)
            sealed.append(self._cipher.encrypt(_nonce(number, final), view[position : position + CHUNK], None))
            number += 1
        return b"".join(sealed), number

    def open(self, offset: int, stored: bytes) -> bytes:
        """What whole chunks that begin at an offset of the file hold. DamagedError if they were changed."""
        number, view, opened = (offset - self._start) // _SEALED, memoryview(stored), []
        for position in range(0, len(stored), _SEALED):
            piece = view[position : position + _SEALED]
            final = offset + position + len(piece) == self.end
            try:
                opened.append(self._cipher.decrypt(_nonce(number, final), piece, None))
            except InvalidTag:
                raise DamagedError(
                    f"The encrypted archive was changed, damaged or cut in the block at byte {offset + position:,}.",
                    "Take another backup, or the copy of this one in the remote folder.",
                ) from None
            number += 1
        return opened[0] if len(opened) == 1 else b"".join(opened)


def read_header(file: StoredFile) -> Header:
    """The header of an age file. DamagedError if it has none."""
    return parse_header(file.read(0, MAX_HEADER))


def file_key_of(header: Header, keys: ArchiveKeys) -> bytes:
    """`unwrap`, once for each header: a passphrase costs a second, and copies have the header of the original."""
    known = keys.known.get(header.mac)
    if known is None:
        known = keys.known[header.mac] = unwrap(header, keys.passphrase, keys.identities)
    else:
        check_mac(header, known)
    return known


def _nonce(number: int, final: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([final])
