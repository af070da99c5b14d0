"""Where chunks lie, as sorted rows of fixed width that are searched in place (repository-format.md, sentence 15).

No Python object is made for a row until it is asked for: a table may lie in a file of any size. Ids are uniformly
distributed, so a table of where each prefix begins leaves about eight rows to look at; hostile ids only make it slower,
by a binary search.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice, pairwise, repeat
from mmap import mmap
from operator import add, and_, eq, le, lt, rshift, sub
from pathlib import Path
from typing import Any, NamedTuple

from resurgam.errors import DamagedError
from resurgam.keys.secrets import ID
from resurgam.pipeline.codec import MIN_STORED
from resurgam.repository.packs import CHUNK_ID, MAX_CHUNK, MAX_PACK, PackEntry
from resurgam.repository.sealing import FULL, HEADER, WRITE_ONLY, Kind, Opener, Sealer

ROW = 52
# An index of ours has no more rows: 13 MiB, so that reading one takes little memory, whatever the repository's size.
MAX_ROWS = 1 << 18
DROPPED = 0xFFFFFFFF
# Rows handled at once where all of a table is gone through.
BATCH = 1 << 14

_ROW = struct.Struct("<32s5I")
_WORDS = ROW // 4
_NUMBER, _OFFSET, _SEALED, _LENGTH, _MEMBER = range(8, 13)
_DROPPED_ROW = struct.pack("<I", DROPPED)
_HEAD = struct.Struct("<I")
_prefix_of = struct.Struct(">I").unpack_from
_PER_BUCKET = 3  # as a power of two
_LARGE_BUCKET = 64


class TablePack(NamedTuple):
    """A pack that rows point to; `source` is the author of the index that says so, or 0: the pack's own directory."""

    pack: bytes
    size: int
    author: int
    blobs: int
    source: int


DIRECTORY = 0


class IndexTable:
    """Sorted rows and what their pack numbers mean. Nothing changes after it is made: any thread may search it.

    `indexes` are the ids of the index objects whose content it has. The rows begin at `begin` in `buffer`, which is
    mapped from `file` if that has a name.
    """

    __slots__ = ("_begin", "_buffer", "_fan", "_shift", "count", "file", "in_memory", "indexes", "packs")

    def __init__(
        self,
        packs: Sequence[TablePack],
        indexes: frozenset[bytes],
        buffer: bytes | mmap,
        begin: int,
        fan: array[int] | memoryview,
        file: Path | None = None,
    ) -> None:
        self.packs = tuple(packs)
        self.indexes = indexes
        self.count = fan[-1]
        self.file = file
        self.in_memory = isinstance(buffer, bytes)
        self._buffer, self._begin, self._fan = buffer, begin, fan
        self._shift = 32 - (len(fan) - 1).bit_length() + 1

    def find(self, chunk: bytes) -> int:
        """Where the first row of a chunk stands, for `row` and `following`; -1 if it has none."""
        (prefix,) = _prefix_of(chunk)
        bucket = prefix >> self._shift
        fan = self._fan
        low, high = fan[bucket], fan[bucket + 1]
        if high - low > _LARGE_BUCKET:
            low, high = self._narrow(chunk, low, high)
        start = self._begin + low * ROW
        rows = self._buffer[start : self._begin + high * ROW]
        at = rows.find(chunk)
        while at % ROW and at >= 0:
            at = rows.find(chunk, at + 1)
        return at if at < 0 else start + at

    def following(self, chunk: bytes, at: int) -> int:
        """The next row of the same chunk after the one at `at`, or -1."""
        at += ROW
        there = at < self._begin + self.count * ROW and self._buffer[at : at + CHUNK_ID] == chunk
        return at if there else -1

    def find_all(self, ids: Sequence[bytes], prefixes: array[int]) -> tuple[list[int], list[bool]]:
        """For each id the number of a row, and whether it is the id's first one; `prefixes` are this table's.

        Each step goes through all ids in C. Of two ids with one prefix only the lower is found: ask `find` of the rest.
        """
        firsts = _words(b"".join(ids), swapped=True)[:: CHUNK_ID // 4]
        buckets = list(map(rshift, firsts, repeat(self._shift)))
        fan, count, begin = self._fan, self.count, self._begin
        lows, highs = map(fan.__getitem__, buckets), map(fan.__getitem__, map((1).__add__, buckets))
        rows = list(map(bisect_left, repeat(prefixes), firsts, lows, highs))
        starts = [begin + row * ROW for row in rows]
        found = map(eq, map(self._buffer.find, ids, starts, map(CHUNK_ID.__add__, starts)), starts)
        return rows, [there and row < count for there, row in zip(found, rows, strict=True)]

    def row(self, at: int) -> tuple[bytes, int, int, int, int, int]:
        """Chunk, pack's place in `packs`, offset, sealed length, chunk's length, member's length."""
        return _ROW.unpack_from(self._buffer, at)

    def number(self, at: int) -> int:
        """Which row stands at `at`."""
        return (at - self._begin) // ROW

    def rows(self, low: int, high: int) -> bytes:
        """The bytes of rows `low` up to, not including, `high`."""
        return self._buffer[self._begin + low * ROW : self._begin + high * ROW]

    def lower(self, prefix: int) -> int:
        """The number of the first row whose first four bytes are not less; `prefix` may be 2^32."""
        if prefix >> 32:
            return self.count
        bucket = prefix >> self._shift
        low, high = self._fan[bucket], self._fan[bucket + 1]
        wanted = prefix.to_bytes(4, "big")
        while low < high:
            middle = (low + high) // 2
            at = self._begin + middle * ROW
            if self._buffer[at : at + 4] < wanted:
                low = middle + 1
            else:
                high = middle
        return low

    def pack_numbers(self) -> array[int]:
        """For each row its pack's place in `packs`: 4 bytes a row."""
        return self._column(_NUMBER)

    def sealed_lengths(self) -> array[int]:
        """For each row the blob's sealed length."""
        return self._column(_SEALED)

    def prefixes(self) -> array[int]:
        """For each row the first four bytes of its id as a number, which rises: 4 bytes a row."""
        return self._column(0, swapped=True)

    def _column(self, word: int, *, swapped: bool = False) -> array[int]:
        column = array("I")
        for low in range(0, self.count, BATCH):
            column += _words(self.rows(low, min(low + BATCH, self.count)), swapped=swapped)[word::_WORDS]
        return column

    def entry(self, number: int) -> PackEntry:
        """A row by its number."""
        chunk, _, *where = self.row(self._begin + number * ROW)
        return PackEntry(chunk, *where)

    def _narrow(self, chunk: bytes, low: int, high: int) -> tuple[int, int]:
        while high - low > _LARGE_BUCKET:
            middle = (low + high) // 2
            at = self._begin + middle * ROW
            if self._buffer[at : at + CHUNK_ID] < chunk:
                low = middle + 1
            else:
                high = middle + 1
        return low, high


class FanCounter:
    """Counts rows by their ids' prefixes, while they stream by; `fan` is then where each prefix begins."""

    def __init__(self, count: int) -> None:
        bits = max(0, min(32, count.bit_length() - _PER_BUCKET))
        self._shift = 32 - bits
        self._counts = array("I", bytes(4 << bits))

    def add(self, rows: bytes) -> None:
        prefixes = array("I", _words(rows, swapped=True)[0::_WORDS])
        for bucket, count in Counter(map(rshift, prefixes, repeat(self._shift))).items():
            self._counts[bucket] += count

    def fan(self) -> array[int]:
        return array("I", accumulate(self._counts, initial=0))


def table_in_memory(packs: Sequence[TablePack], indexes: frozenset[bytes], rows: bytes) -> IndexTable:
    """A table of rows that are sorted and checked."""
    counter = FanCounter(len(rows) // ROW)
    for low in range(0, len(rows), BATCH * ROW):
        counter.add(rows[low : low + BATCH * ROW])
    return IndexTable(packs, indexes, rows, 0, counter.fan())


def table_of_pack(pack: TablePack, entries: Iterable[PackEntry]) -> IndexTable:
    """A table of one pack's directory."""
    return table_in_memory([pack], frozenset(), b"".join(sorted(_ROW.pack(e.chunk, 0, *e[1:]) for e in entries)))


def merged_rows(sources: Sequence[tuple[IndexTable, Sequence[int]]]) -> Iterator[bytes]:
    """The rows of several tables in one order, in blocks; `DROPPED` rows are left out.

    With each table comes, for each of its packs, the new number.
    """
    total = sum(table.count for table, _ in sources)
    step = (1 << 32) // max(1, total // BATCH) + 1
    for low, high in pairwise([*range(0, 1 << 32, step), 1 << 32]):
        rows: list[bytes] = []
        for table, numbers in sources:
            block = _renumbered(table.rows(table.lower(low), table.lower(high)), numbers)
            cut = [block[at : at + ROW] for at in range(0, len(block), ROW)]
            if DROPPED in numbers:
                cut = [row for row in cut if row[CHUNK_ID : CHUNK_ID + 4] != _DROPPED_ROW]
            rows += cut
        if len(sources) > 1:
            rows.sort()
        if rows:
            yield b"".join(rows)


def encode_index(sealer: Sealer, object_id: bytes, packs: Sequence[TablePack], blocks: Iterable[bytes]) -> bytearray:
    """A whole index object; `blocks` are sorted rows, as many as the packs have blobs."""
    listed = [[pack.pack.hex(), pack.size, pack.author, pack.blobs] for pack in packs]
    head = json.dumps({"packs": listed}, separators=(",", ":")).encode()
    head = _HEAD.pack(len(head)) + head
    length = len(head) + ROW * sum(pack.blobs for pack in packs)
    return sealer.seal_pieces(Kind.INDEX, object_id, length, _chained(head, blocks))


def decode_index(opener: Opener, object_id: bytes, data: bytes) -> IndexTable:
    """The table of an index object, everything in it checked. DamagedError (and what Opener raises) if it is unfit."""
    header = opener.text_header(Kind.INDEX, object_id, data)
    plain = b"".join(opener.open_pieces(header, data))
    packs, begin = _read_head(object_id, plain, header.author)
    rows = plain[begin:]
    why = _fault(packs, rows)
    if why:
        raise DamagedError(f"The index {object_id.hex()} is impossible: {why}.")
    return table_in_memory(packs, frozenset([object_id]), rows)


def _read_head(object_id: bytes, plain: bytes, source: int) -> tuple[list[TablePack], int]:
    try:
        (length,) = _HEAD.unpack_from(plain)
        listed = json.loads(plain[_HEAD.size : _HEAD.size + length])["packs"]
        packs = [_table_pack(one, source) for one in listed]
        if _HEAD.size + length > len(plain) or len({pack.pack for pack in packs}) != len(packs):
            raise ValueError
    except (struct.error, ValueError, TypeError, KeyError, RecursionError):
        raise DamagedError(f"The index {object_id.hex()} has a malformed list of packs.") from None
    return packs, _HEAD.size + length


def _table_pack(listed: Any, source: int) -> TablePack:
    name, size, author, blobs = listed
    sound = [type(one) for one in listed] == [str, int, int, int] and author in (FULL, WRITE_ONLY)
    if not sound or not HEADER < size < MAX_PACK or not 0 < blobs < size or len(name) != 2 * ID:
        raise ValueError
    return TablePack(bytes.fromhex(name), size, author, blobs, source)


def _fault(packs: Sequence[TablePack], rows: bytes) -> str:
    """What makes rows unfit to be used, in words; "" if nothing does."""
    if len(rows) != ROW * sum(pack.blobs for pack in packs):
        return "it has not as many rows as its packs have blobs"
    sizes = [pack.size for pack in packs]
    counts: Counter[int] = Counter()
    last = b""
    for low in range(0, len(rows), BATCH * ROW):
        batch = rows[low : low + BATCH * ROW]
        cut = [last, *(batch[at : at + ROW] for at in range(0, len(batch), ROW))]
        last = cut[-1]
        if not all(map(lt, cut, islice(cut, 1, None))):
            return "its rows are not in order"
        words = _words(batch)
        numbers, offsets, sealed, lengths, members = (words[at::_WORDS] for at in range(_NUMBER, _WORDS))
        if max(numbers) >= len(packs):
            return "a row names a pack that it does not list"
        counts.update(numbers)
        if min(offsets) < HEADER or not all(map(le, map(add, offsets, sealed), map(sizes.__getitem__, numbers))):
            return "a row points outside its pack"
        if not min(lengths) or max(lengths) > MAX_CHUNK or min(members) < MIN_STORED or max(members) > 2 * MAX_CHUNK:
            return "a chunk has an impossible length"
        # A blob is 4 bytes, the member, less than 128 bytes of padding, and a tag of 16.
        beyond = list(map(sub, sealed, members))
        if min(beyond) < 20 or max(beyond) > 147 or set(map(and_, sealed, repeat(127))) != {16}:
            return "a blob has an impossible length"
    if any(counts[number] != pack.blobs for number, pack in enumerate(packs)):
        return "a pack has not as many rows as it says"
    return ""


def _words(rows: bytes, *, swapped: bool = False) -> array[int]:
    """Rows as 32-bit numbers, little-endian, or with `swapped` big-endian."""
    words = array("I", rows)
    if (sys.byteorder == "big") != swapped:
        words.byteswap()
    return words


def _renumbered(rows: bytes, numbers: Sequence[int]) -> bytes:
    words = _words(rows)
    new: Callable[[int], int] = numbers.__getitem__
    words[_NUMBER::_WORDS] = array("I", map(new, words[_NUMBER::_WORDS]))
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def _chained(head: bytes, blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield head
    yield from blocks
