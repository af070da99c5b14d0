"""A backup's list: records of entries and of the chunks that hold them (docs/repository-format.md, 18 to 20).

A record stands for itself: nothing in it depends on the backup's name or on what stands before it, so that the lists of
two backups consist of the same chunks where nothing changed.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from blake3 import blake3

from resurgam.archive.entry import Entry, Identity
from resurgam.archive.index import MAX_CHUNK, Index
from resurgam.errors import DamagedError, FileSourceError
from resurgam.repository.packs import CHUNK_ID

PRINT = 16
NO_PRINT = bytes(PRINT)
# How long a record may stand for files that nobody read again.
READ_AGAIN_DAYS = 30
_DAY_NS = 86_400 * 1_000_000_000
_HEAD = struct.Struct("<16sII")
_LENGTH = struct.Struct("<I")
_ID = struct.Struct(f"{CHUNK_ID}s")
_MAX_RECORD = 1 << 30
_LARGE = 1 << 20
_64 = (1 << 64) - 1
_IDENTITY = struct.Struct("<cHIIQQQQ")
# A file that was written this shortly before it was read may be written again without a new time.
_SETTLED_NS = 2_000_000_000


@dataclass(slots=True)
class Record:
    """Entries in the stream's order, without chunks of their own, and the ids and lengths of the chunks they lie in."""

    entries: Index
    day: int
    print: bytes = NO_PRINT
    chunks: bytearray = field(default_factory=bytearray)
    lengths: array[int] = field(default_factory=lambda: array("I"))

    def ids(self) -> Iterator[bytes]:
        """The chunks' ids, in the stream's order."""
        return (chunk for (chunk,) in _ID.iter_unpack(self.chunks))

    def encode(self) -> bytes:
        """The record, after its length."""
        lengths = array("I", self.lengths)
        if sys.byteorder == "big":
            lengths.byteswap()
        head = _HEAD.pack(self.print, self.day, len(self.lengths))
        body = b"".join((head, self.chunks, lengths, *self.entries.encode()))
        if len(body) > _MAX_RECORD:
            raise FileSourceError(
                f"One file has {len(self.lengths):,} chunks, more than a repository takes; the backup was not taken.",
                "A dump or file of some 900 GB and more can be kept as an archive: unset BACKUP_REPOSITORY.",
            )
        return framed(body)

    @classmethod
    def decode(cls, body: bytes | memoryview) -> Record:
        """A record without its length. DamagedError if it is none."""
        try:
            mark, day, count = _HEAD.unpack_from(body)
            at = _HEAD.size + count * CHUNK_ID
        except struct.error:
            raise DamagedError("A record of the backup's list is too short.") from None
        if len(body) < at + 4 * count:
            raise DamagedError("A record of the backup's list is too short.")
        lengths = array("I", bytes(body[at : at + 4 * count]))
        if sys.byteorder == "big":
            lengths.byteswap()
        if count and (not min(lengths) or max(lengths) > MAX_CHUNK):
            raise DamagedError("A record of the backup's list gives a chunk an impossible length.")
        entries = Index.decode_part(bytes(body[at + 4 * count :]))
        return cls(entries, day, mark, bytearray(body[_HEAD.size : at]), lengths)


def framed(body: bytes) -> bytes:
    """A record after its length."""
    return _LENGTH.pack(len(body)) + body


def record_head(body: bytes | memoryview) -> tuple[bytes, int]:
    """The print and the day of an encoded record."""
    mark, day, _ = _HEAD.unpack_from(body)
    return mark, day


def bodies(blocks: Iterable[bytes]) -> Iterator[memoryview]:
    """The records of a list, each without its length, as its bytes stream by. DamagedError if it is cut."""
    held = bytearray()
    for block in blocks:
        held += block
        at = 0
        while len(held) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(held, at)
            if not _HEAD.size <= length <= _MAX_RECORD:
                raise DamagedError("A record of the backup's list has an impossible length.")
            if len(held) - at - _LENGTH.size < length:
                break
            start, at = at + _LENGTH.size, at + _LENGTH.size + length
            body = bytes(memoryview(held)[start:at])
            if length > _LARGE:  # a large dump's record has many MiB, and is not held twice
                del held[:at]
                at = 0
            yield memoryview(body)
        del held[:at]
    if held:
        raise DamagedError("The backup's list ends within a record.")


def chunk_ids(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks' ids of a list's records, joined in pieces, as its bytes stream by: a record of millions is not held.

    DamagedError if it is cut, or a record shorter than its chunks.
    """
    held = bytearray()
    ids = rest = 0  # bytes of the present record's ids, and after them, that are still to come
    for block in blocks:
        held += block
        at = 0
        while True:
            have = len(held) - at
            if taken := min(ids, have - have % CHUNK_ID):
                yield bytes(held[at : at + taken])
                at, ids = at + taken, ids - taken
            elif ids:
                break
            elif passed := min(rest, have):
                at, rest = at + passed, rest - passed
            elif rest or have < _LENGTH.size + _HEAD.size:
                break
            else:
                (length,) = _LENGTH.unpack_from(held, at)
                _, _, count = _HEAD.unpack_from(held, at + _LENGTH.size)
                ids, rest = count * CHUNK_ID, length - _HEAD.size - count * CHUNK_ID
                if length > _MAX_RECORD or rest < 4 * count:
                    raise DamagedError("A record of the backup's list has an impossible length.")
                at += _LENGTH.size + _HEAD.size
        del held[:at]
    if held or ids or rest:
        raise DamagedError("The backup's list ends within a record.")


def day_of(moment_ns: int) -> int:
    """Days since 1970; what lies before counts as the first."""
    return max(0, moment_ns // _DAY_NS)


def may_stand(day: int, today: int) -> bool:
    """Whether what was read on `day` needs no reading again `today`; a day ahead of the clock proves nothing."""
    return day <= today < day + READ_AGAIN_DAYS


@lru_cache(maxsize=1024)
def _owners(uname: str, gname: str) -> bytes:
    return f"{uname}\0{gname}\0".encode(errors="surrogatepass")


class Printer:
    """Takes the print of one record, entry by entry. `top`: the length of the backup's name; headers depend on it."""

    def __init__(self, names_key: bytes, top: int) -> None:
        self._key = names_key
        self._parts = [b"print" + _LENGTH.pack(top)]
        self._settled = True

    def add(self, entry: Entry, identity: Identity, read_ns: int) -> None:
        """`read_ns`: the time before the entry is, or would be, read."""
        path, kind, mode, uid, gid, uname, gname, mtime_ns, size, target, _ = entry
        ctime_ns, inode = identity
        fixed = _IDENTITY.pack(
            kind._value_, mode, uid & 0xFFFFFFFF, gid & 0xFFFFFFFF, size, mtime_ns & _64, ctime_ns & _64, inode
        )
        self._parts.append(b"%b%b\0%b\0%b" % (fixed, path, target, _owners(uname, gname)))
        settled = read_ns - _SETTLED_NS
        if mtime_ns > settled or ctime_ns > settled:
            self._settled = False

    def unsettle(self) -> None:
        """Something changed, or vanished, while it was read."""
        self._settled = False

    @property
    def found(self) -> bytes:
        """The print of what was added, whether or not it may be reused."""
        return blake3(b"".join(self._parts), key=self._key).digest(PRINT)

    @property
    def kept(self) -> bytes:
        """The print to store: zeros where a later backup must read again."""
        return self.found if self._settled else NO_PRINT
