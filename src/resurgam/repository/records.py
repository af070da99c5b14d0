"""A backup's list: records of entries and of the chunks that hold them (docs/repository-format.md, 18 to 20).

A record stands for itself: nothing in it depends on the backup's name or on what stands before it, so that the lists of
two backups consist of the same chunks where nothing changed.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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
_MAX_RECORD = 1 << 30
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
        ids = bytes(self.chunks)
        return (ids[at : at + CHUNK_ID] for at in range(0, len(ids), CHUNK_ID))

    def encode(self) -> bytes:
        """The record, after its length."""
        lengths = struct.pack(f"<{len(self.lengths)}I", *self.lengths)
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
            lengths = array("I", struct.unpack_from(f"<{count}I", body, at))
        except struct.error:
            raise DamagedError("A record of the backup's list is too short.") from None
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
            start = at + _LENGTH.size
            yield memoryview(bytes(held[start : start + length]))
            at = start + length
        del held[:at]
    if held:
        raise DamagedError("The backup's list ends within a record.")


def day_of(moment_ns: int) -> int:
    """Days since 1970; what lies before counts as the first."""
    return max(0, moment_ns // _DAY_NS)


def may_stand(day: int, today: int) -> bool:
    """Whether what was read on `day` needs no reading again `today`; a day ahead of the clock proves nothing."""
    return day <= today < day + READ_AGAIN_DAYS


class Printer:
    """Takes the print of one record, entry by entry. `top`: the length of the backup's name; headers depend on it."""

    def __init__(self, names_key: bytes, top: int) -> None:
        self._hasher = blake3(b"print" + _LENGTH.pack(top), key=names_key)
        self._settled = True

    def add(self, entry: Entry, identity: Identity, read_ns: int) -> None:
        """`read_ns`: the time before the entry is, or would be, read."""
        fixed = _IDENTITY.pack(
            entry.kind.value,
            entry.mode,
            entry.uid & 0xFFFFFFFF,
            entry.gid & 0xFFFFFFFF,
            entry.size,
            entry.mtime_ns & _64,
            identity.ctime_ns & _64,
            identity.inode,
        )
        owners = f"{entry.uname}\0{entry.gname}\0".encode(errors="surrogatepass")
        self._hasher.update(fixed + b"\0".join((entry.path, entry.target, owners)))
        if max(entry.mtime_ns, identity.ctime_ns) > read_ns - _SETTLED_NS:
            self._settled = False

    def unsettle(self) -> None:
        """Something changed, or vanished, while it was read."""
        self._settled = False

    @property
    def found(self) -> bytes:
        """The print of what was added, whether or not it may be reused."""
        return self._hasher.digest(PRINT)

    @property
    def kept(self) -> bytes:
        """The print to store: zeros where a later backup must read again."""
        return self.found if self._settled else NO_PRINT
