"""The index of an archive: what stands where, in columns (docs/archive-format.md, sentences 16 and 17).

Columns and not objects, because a backup may hold millions of entries: about 115 bytes each in memory and, stored,
under 50.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.headers import BLOCK, padding
from resurgam.errors import DamagedError
from resurgam.pipeline.codec import MIN_STORED

MAGIC = b"RSIX"
VERSION = 1
# Digests of entries and chunks guard against accidents: whoever can change an archive can write a new index, too. 16
# bytes keep the index small, and the memory of a backup nearly the same at any size.
DIGEST = 16
NO_DIGEST = bytes(DIGEST)
_KIND_OF = {kind.value[0]: kind for kind in Kind}
_COLUMNS = "HIqQH"  # modes, owners, mtimes, sizes, headers
MAX_CHUNK = 16 << 20
_SECTIONS = 15
_FOLDER = Kind.FOLDER.value[0]


class IndexedEntry(NamedTuple):
    """An entry, where its content begins in the tar stream, and the digest of that content (zeros: no file)."""

    entry: Entry
    offset: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between two entries: the next one's position, and where its names begin."""

    position: int
    path: int
    target: int


@dataclass(frozen=True, slots=True)
class Sums:
    """How many entries, how many of them files, and the bytes of these."""

    entries: int
    files: int
    content: int


class Index:
    """Entries and chunks of one archive, appended in the stream's order."""

    def __init__(self, backup_name: str) -> None:
        self.backup_name = backup_name
        self._owners: dict[tuple[int, int, str, str], int] = {}
        self._kinds, self._flags = bytearray(), bytearray()
        self._modes, self._owner_ids, self._mtimes, self._sizes, self._headers = (array(c) for c in _COLUMNS)
        self._digests, self._paths, self._targets = bytearray(), bytearray(), bytearray()
        self.chunk_lengths, self.chunk_stored, self.chunk_checks = array("I"), array("I"), array("I")
        self._chunk_digests = bytearray()

    def add_entry(self, entry: Entry, header_blocks: int, digest: bytes = NO_DIGEST) -> int:
        """Append an entry; answers its position, for `set_late`."""
        path, kind, mode, uid, gid, uname, gname, mtime_ns, size, target, sparse = entry
        self._kinds += kind._value_
        self._flags.append(sparse)
        self._modes.append(mode & 0o7777)
        self._owner_ids.append(self._owners.setdefault((uid, gid, uname, gname), len(self._owners)))
        self._mtimes.append(mtime_ns)
        self._sizes.append(size)
        self._headers.append(header_blocks)
        self._digests += digest
        self._paths += path + b"\0"
        self._targets += target + b"\0"
        return len(self._kinds) - 1

    def set_late(self, position: int, digest: bytes, size: int | None = None) -> None:
        """Complete an entry whose digest (and size) were known only after its content."""
        self._digests[position * DIGEST : (position + 1) * DIGEST] = digest
        if size is not None:
            self._sizes[position] = size

    def add_chunk(self, length: int, stored: int, digest: bytes = NO_DIGEST, check: int = 0) -> int:
        """Append a chunk; `check` is the CRC-32 of its stored bytes. Answers its position, for `set_chunk`."""
        self.chunk_lengths.append(length)
        self.chunk_stored.append(stored)
        self.chunk_checks.append(check)
        self._chunk_digests += digest
        return len(self.chunk_lengths) - 1

    def set_chunk(self, position: int, digest: bytes, check: int) -> None:
        """Complete a chunk that was written late."""
        self.chunk_checks[position] = check
        self._chunk_digests[position * DIGEST : (position + 1) * DIGEST] = digest

    def chunk_digest(self, position: int) -> bytes:
        return bytes(self._chunk_digests[position * DIGEST : (position + 1) * DIGEST])

    def __len__(self) -> int:
        return len(self._kinds)

    def mark(self) -> Mark:
        """Where the next entry will stand, in the columns; its offset in the stream is the caller's to know."""
        return Mark(len(self._kinds), len(self._paths), len(self._targets))

    def entries(self, since: Mark | None = None, offset: int = 0) -> Iterator[IndexedEntry]:
        """All entries in the stream's order, made one at a time; or those from a mark on, which stands at `offset`."""
        owners = list(self._owners)
        first, path_at, target_at = (since.position, since.path, since.target) if since else (0, 0, 0)
        kinds, flags, modes, owner_ids, mtimes = self._kinds, self._flags, self._modes, self._owner_ids, self._mtimes
        sizes, headers, digests, paths, targets = self._sizes, self._headers, self._digests, self._paths, self._targets
        for i in range(first, len(kinds)):
            path_end, target_end = paths.index(0, path_at), targets.index(0, target_at)
            uid, gid, uname, gname = owners[owner_ids[i]]
            size = sizes[i]
            entry = Entry(
                bytes(paths[path_at:path_end]),
                _KIND_OF[kinds[i]],
                modes[i],
                uid,
                gid,
                uname,
                gname,
                mtimes[i],
                size,
                bytes(targets[target_at:target_end]),
                flags[i] & 1 == 1,
            )
            offset += headers[i] * BLOCK
            yield IndexedEntry(entry, offset, bytes(digests[i * DIGEST : (i + 1) * DIGEST]))
            offset += size + padding(size)
            path_at, target_at = path_end + 1, target_end + 1

    def sums(self) -> Sums:
        """How many entries and files, and the files' bytes."""
        return Sums(len(self), self._kinds.count(Kind.FILE.value), sum(self._sizes))

    def encode(self) -> Iterator[bytes]:
        """The sections, in order; joined they are the index's bytes."""
        head = {"backup_name": self.backup_name, "owners": list(self._owners)}
        yield struct.pack("<4sHHQQ", MAGIC, VERSION, 0, len(self), len(self.chunk_lengths))
        columns = (self._modes, self._owner_ids, self._mtimes, self._sizes, self._headers)
        chunks = (self.chunk_lengths, self.chunk_stored, self.chunk_checks)
        for section in (
            json.dumps(head).encode(),
            self._kinds,
            self._flags,
            *(_little(column) for column in columns),
            self._digests,
            self._paths,
            self._targets,
            *(_little(column) for column in chunks),
            self._chunk_digests,
        ):
            yield struct.pack("<Q", len(section))
            yield bytes(section)

    def extend(self, part: Index) -> None:
        """Append the entries of another index, whose chunks are left out."""
        places = [self._owners.setdefault(owner, len(self._owners)) for owner in part._owners]
        self._owner_ids.extend(map(places.__getitem__, part._owner_ids))
        self._kinds += part._kinds
        self._flags += part._flags
        self._modes.extend(part._modes)
        self._mtimes.extend(part._mtimes)
        self._sizes.extend(part._sizes)
        self._headers.extend(part._headers)
        self._digests += part._digests
        self._paths += part._paths
        self._targets += part._targets

    def check(self) -> None:
        """DamagedError unless this can be the index of a whole backup."""
        self._check_entries(len(self))
        # The only empty path is the first one, the top folder's: a later one would stand behind another NUL.
        if not self._kinds or self._paths[0] or self._kinds[0] != _FOLDER or b"\0\0" in self._paths:
            raise DamagedError("The archive's index does not begin with its top folder.")
        if not self.chunk_lengths or max(self.chunk_lengths) > MAX_CHUNK or not min(self.chunk_lengths):
            raise DamagedError("The archive's index gives a chunk an impossible length.")

    @classmethod
    def decode(cls, data: bytes) -> Index:
        """Read an index whose digest has been checked; every count in it is checked still. DamagedError if not so."""
        index = cls.decode_part(data)
        index.check()
        if min(index.chunk_stored) < MIN_STORED or max(index.chunk_stored) > 2 * MAX_CHUNK:
            raise DamagedError("The archive's index gives a chunk an impossible stored length.")
        return index

    @classmethod
    def decode_part(cls, data: bytes | bytearray | memoryview) -> Index:
        """Read an index that may be a part of one: it need not begin with the top folder, nor have chunks."""
        try:
            magic, version, _, n, m = struct.unpack_from("<4sHHQQ", data)
        except struct.error:
            raise DamagedError("The archive's index is too short.") from None
        if magic != MAGIC or version != VERSION:
            raise DamagedError(f"The archive's index has an unknown form (version {version}).")
        sections: list[memoryview] = []
        position = struct.calcsize("<4sHHQQ")
        while position + 8 <= len(data) and len(sections) <= _SECTIONS:
            (size,) = struct.unpack_from("<Q", data, position)
            sections.append(memoryview(data)[position + 8 : position + 8 + size])
            position += 8 + size
        columns = (n, n, 2 * n, 4 * n, 8 * n, 8 * n, 2 * n, DIGEST * n)
        expected = (None, *columns, None, None, 4 * m, 4 * m, 4 * m, DIGEST * m)
        if position != len(data) or len(sections) != len(expected):
            raise DamagedError("The archive's index does not have the sections it should have.")
        if any(size is not None and len(part) != size for part, size in zip(sections, expected, strict=True)):
            raise DamagedError("A section of the archive's index has the wrong length.")
        index = cls("")
        index._fill(sections)
        index._check_entries(n)
        return index

    def _fill(self, sections: list[memoryview]) -> None:
        head = _decode_head(bytes(sections[0]))
        self.backup_name = head["backup_name"]
        # Positions must survive equal owners, so the list is kept even if two are the same.
        self._owners = {tuple(owner): i for i, owner in enumerate(head["owners"])}
        self._kinds, self._flags = bytearray(sections[1]), bytearray(sections[2])
        columns = [_column(code, part) for code, part in zip(_COLUMNS, sections[3:8], strict=True)]
        self._modes, self._owner_ids, self._mtimes, self._sizes, self._headers = columns
        self._digests, self._paths, self._targets = (bytearray(part) for part in sections[8:11])
        self.chunk_lengths, self.chunk_stored, self.chunk_checks = (_column("I", part) for part in sections[11:14])
        self._chunk_digests = bytearray(sections[14])

    def _check_entries(self, n: int) -> None:
        if self._paths.count(0) != n or self._targets.count(0) != n:
            raise DamagedError("The archive's index has the wrong number of names.")
        if any(part and part[-1] for part in (self._paths, self._targets)):
            raise DamagedError("A name in the archive's index has no end.")
        if set(self._kinds) - set(_KIND_OF) or (n and max(self._owner_ids) >= len(self._owners)):
            raise DamagedError("The archive's index holds an unknown kind or owner.")
        if n and max(self._sizes) >= 1 << 62:
            raise DamagedError("The archive's index gives an entry an impossible size.")


def _decode_head(raw: bytes) -> dict[str, Any]:
    try:
        head = json.loads(raw)
        name, owners = head["backup_name"], head["owners"]
        sound = isinstance(name, str) and all(
            [type(v) for v in owner] == [int, int, str, str]
            and max(owner[0], owner[1]) < 1 << 32
            and min(owner[:2]) >= 0
            for owner in owners
        )
        unique = len({tuple(owner) for owner in owners}) == len(owners)
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = unique = False
        head = {}
    if not sound or not unique:
        raise DamagedError("The head of the archive's index is malformed.")
    return dict(head)


def _little(column: array[int]) -> bytes:
    if struct.pack("=H", 1) != struct.pack("<H", 1):
        column = array(column.typecode, column)
        column.byteswap()
    return column.tobytes()


def _column(code: str, part: memoryview) -> array[int]:
    column = array(code)
    column.frombytes(part)
    if struct.pack("=H", 1) != struct.pack("<H", 1):
        column.byteswap()
    return column
