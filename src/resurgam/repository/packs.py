"""Packs: many blobs in one object, with a directory at its end (repository-format.md, sentences 10 to 14).

A blob is a chunk's gzip member, padded and sealed under the number of its offset in the pack. Whatever is read back is
named anew: a chunk is what its name says, or it is damage.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from resurgam.errors import DamagedError
from resurgam.pipeline.codec import MIN_STORED, open_member
from resurgam.repository.layout import new_id, pack_key
from resurgam.repository.sealing import (
    HEADER,
    TAG,
    Header,
    Kind,
    Opener,
    Sealer,
    about,
    nonce,
    refuse,
    shared_cipher,
)
from resurgam.stores.objects import ObjectStore

CHUNK_ID = 32
MAX_CHUNK = 16 << 20
MAX_PACK = 1 << 30
PADDED = 128
_MAX_MEMBER = 2 * MAX_CHUNK
_DIRECTORY = 1 << 32  # the directory frame's number: no offset is as large
_ROW = struct.Struct("<32s4I")
_TRAILER = struct.Struct("<II8s")
_END = b"RSGMPACK"
_LENGTH = struct.Struct("<I")
_BLOB = struct.Struct("<BQ32s")
_ZEROS = [bytes(n) for n in range(PADDED)]
# Read from a pack's end at once: 2,700 blobs, more than one of 16 MiB has of ordinary data.
_TAIL = 128 << 10


class PackEntry(NamedTuple):
    """Where a chunk lies in a pack: `sealed` bytes from `offset`; `length` of the chunk, `member` of its gzip member.

    A tuple, because a backup makes one for each of millions of chunks.
    """

    chunk: bytes
    offset: int
    sealed: int
    length: int
    member: int


def sealed_size(member: int) -> int:
    """How long the blob of a member is (sentence 11)."""
    return (_LENGTH.size + member + PADDED - 1) // PADDED * PADDED + TAG


def blob_bytes(size: int, blobs: int) -> int:
    """The bytes of a pack's blobs, without its header, directory and trailer."""
    return size - HEADER - TAG - _TRAILER.size - blobs * _ROW.size


class PackBuilder:
    """One pack that is being filled, by one thread at a time. Its memory is that of its chunks' members.

    `add` only notes where things will lie; whichever thread calls `finish` does the work of sealing.
    """

    def __init__(self, sealer: Sealer) -> None:
        self.id = new_id()
        self.entries: list[PackEntry] = []
        self.size = HEADER  # bytes so far, without the directory
        self._sealer = sealer
        self._members: deque[bytes | memoryview] = deque()

    @property
    def whole_size(self) -> int:
        """Bytes of the pack if it were finished now."""
        return self.size + len(self.entries) * _ROW.size + TAG + _TRAILER.size

    def add(self, chunk: bytes, length: int, member: bytes | memoryview) -> PackEntry:
        """Take a chunk of `length` bytes, whose gzip member this is."""
        entry = PackEntry(chunk, self.size, sealed_size(len(member)), length, len(member))
        self.size += entry.sealed
        self.entries.append(entry)
        self._members.append(member)
        return entry

    def finish(self) -> bytearray:
        """The whole pack, sealed; it must be verified before it is put. Nothing may be added any more."""
        data = bytearray(self.whole_size)
        cipher = self._sealer.blob_key(self.id)
        for chunk, offset, sealed, _, size in self.entries:
            padding = _ZEROS[-(_LENGTH.size + size) % PADDED]
            # Each is let go of as its sealed form comes to be: a pack is not in memory twice.
            plain = b"".join((_LENGTH.pack(size), self._members.popleft(), padding))
            data[offset : offset + sealed] = cipher.encrypt(nonce(offset), plain, _BLOB.pack(Kind.PACK, offset, chunk))
        rows = b"".join(_ROW.pack(*entry) for entry in self.entries)
        directory = shared_cipher(self._sealer.keys, self.id).encrypt(
            nonce(_DIRECTORY), rows, about(Kind.PACK, _DIRECTORY)
        )
        end = directory + _TRAILER.pack(len(directory), len(self.entries), _END)
        data[self.size :] = end
        data[:HEADER] = self._sealer.header(Kind.PACK, self.id, blake3(end).digest())
        return data


@dataclass(frozen=True, slots=True)
class CheckedPack:
    """What a pack holds, as read from all its bytes; `damaged` are the entries whose blobs are not what they should."""

    author: int
    entries: Sequence[PackEntry]
    damaged: Sequence[PackEntry]


def verify_pack(pack: bytes, data: bytes | bytearray | memoryview, opener: Opener) -> CheckedPack:
    """Read every blob of a whole pack as a restore would (sentence 13). DamagedError if one does not give its chunk."""
    checked = check_pack(pack, data, opener)
    if checked.damaged:
        refuse(Kind.PACK, pack, f"{len(checked.damaged)} of its {len(checked.entries)} chunks do not open")
    return checked


def check_pack(pack: bytes, data: bytes | bytearray | memoryview, opener: Opener) -> CheckedPack:
    """The same, telling the damaged chunks. DamagedError where header or directory are: then nothing is known."""
    view = memoryview(data)
    header = opener.header(Kind.PACK, pack, view)
    entries = _directory(opener, header, view, len(view))
    cipher, names = opener.blob_key(header), opener.keys.names
    damaged = []
    for entry in entries:
        chunk, offset, sealed, length, member = entry
        try:
            found, _ = open_blob(view[offset : offset + sealed], cipher, offset, chunk, length, names)
        except DamagedError:
            damaged.append(entry)
        else:
            if len(found) != member:
                damaged.append(entry)
    return CheckedPack(header.author, entries, damaged)


def open_blob(
    sealed: bytes | memoryview, cipher: AESGCM, offset: int, chunk: bytes, length: int, names: bytes
) -> tuple[memoryview, bytes]:
    """Member and bytes of the chunk whose blob stands at `offset` (sentences 11, 14). DamagedError if it is not."""
    try:
        plain = cipher.decrypt(nonce(offset), sealed, _BLOB.pack(Kind.PACK, offset, chunk))
        (size,) = _LENGTH.unpack_from(plain)
    except (InvalidTag, struct.error):
        raise DamagedError(f"The chunk {chunk.hex()} does not open.") from None
    end = _LENGTH.size + size
    padding = len(plain) - end
    if not 0 <= padding < PADDED or len(plain) % PADDED or not plain.endswith(_ZEROS[padding]):
        raise DamagedError(f"The chunk {chunk.hex()} is not padded as it should be.")
    member = memoryview(plain)[_LENGTH.size : end]
    content = open_member(member, length)
    if blake3(content, key=names).digest() != chunk:
        raise DamagedError(f"The chunk {chunk.hex()} holds other bytes.")
    return member, content


def read_directory(opener: Opener, store: ObjectStore, pack: bytes, size: int) -> tuple[int, list[PackEntry]]:
    """Author and entries of a pack of `size` bytes in a store, by two small reads (a third where its blobs are tiny).

    DamagedError if it is not sound, ObjectMissing if it is gone.
    """
    if size >= MAX_PACK:
        refuse(Kind.PACK, pack, "it is longer than any that is written")
    key = pack_key(pack)
    header = opener.header(Kind.PACK, pack, store.get(key, 0, HEADER))
    begin = max(HEADER, size - _TAIL)
    tail = store.get(key, begin, size - begin)
    needed = _end_size(header, memoryview(tail))
    if needed > len(tail):
        begin = max(HEADER, size - needed)
        tail = store.get(key, begin, size - begin)
    return header.author, _directory(opener, header, memoryview(tail), size)


def _end_size(header: Header, tail: memoryview) -> int:
    """Bytes of directory and trailer together, as the trailer says."""
    if len(tail) < _TRAILER.size:
        refuse(Kind.PACK, header.object_id, "it is cut off")
    sealed, count, end = _TRAILER.unpack_from(tail, len(tail) - _TRAILER.size)
    if end != _END or not count or sealed != count * _ROW.size + TAG:
        refuse(Kind.PACK, header.object_id, "it has no proper end")
    return int(sealed) + _TRAILER.size


def _directory(opener: Opener, header: Header, tail: memoryview, size: int) -> list[PackEntry]:
    """The entries by the pack's last bytes, all checked; `size` is the whole pack's."""
    pack = header.object_id
    needed = _end_size(header, tail)
    if size >= MAX_PACK or needed > min(len(tail), size - HEADER):
        refuse(Kind.PACK, pack, "it has not the size that its end gives")
    end = tail[len(tail) - needed :]
    if blake3(end).digest() != header.digest:
        refuse(Kind.PACK, pack, "its directory is not what its header says")
    try:
        rows = shared_cipher(opener.keys, pack).decrypt(
            nonce(_DIRECTORY), end[: needed - _TRAILER.size], about(Kind.PACK, _DIRECTORY)
        )
    except InvalidTag:
        refuse(Kind.PACK, pack, "its directory does not open")
    entries = list(_entries(pack, rows, size - needed))
    if len({entry.chunk for entry in entries}) != len(entries):
        refuse(Kind.PACK, pack, "its directory names a chunk twice")
    return entries


def _entries(pack: bytes, rows: bytes, end: int) -> Iterator[PackEntry]:
    """Blobs must lie one after the other from the header to `end`, with lengths that can be."""
    expected = HEADER
    for row in _ROW.iter_unpack(rows):
        _, offset, sealed, length, member = row
        possible = MIN_STORED <= member <= _MAX_MEMBER and 0 < length <= MAX_CHUNK
        if offset != expected or sealed != sealed_size(member) or not possible:
            refuse(Kind.PACK, pack, "its directory is impossible")
        expected += sealed
        yield PackEntry(*row)
    if expected != end:
        refuse(Kind.PACK, pack, "its directory does not cover it")
