"""Which stored chunks are in use, pack by pack: what a prune decides by (docs/ordering.md, sentences 53 to 55).

A chunk that lies in several packs counts for one of them: for a trusted one before one that only a write-only host
vouches for, for one without a tombstone before one with. So the live chunks of a tombstoned pack are those that must be
copied, and a host that was broken into can't talk a chunk out of another's pack.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress

from blake3 import blake3

from resurgam.errors import DamagedError
from resurgam.repository.index_set import IndexSet, Searched, View, rows_of_pack
from resurgam.repository.index_table import BATCH
from resurgam.repository.packs import CHUNK_ID, PackEntry

_ID = struct.Struct(f"{CHUNK_ID}s")
_DAMAGED = 4
_WORTHLESS = 8
# One id in sixteen ends a stretch; of so many stretches, 100 bytes each, is remembered that they came.
_ENDS = bytes(first < 256 // 16 for first in range(256))
_STRETCHES = 1 << 18
_MARK = 16


class Usage:
    """The chunks in use of one state of an IndexSet; takes a byte for each known chunk, and five more while
    it is made or asked.

    `live_bytes` and `live_chunks` hold packs that have any; `missing` are the ids that lie nowhere. `packs` are those
    that were listed: of a pack that the IndexSet has learnt of since, nothing is said.
    """

    def __init__(self, view: View, marks: Sequence[bytearray], missing: frozenset[bytes]) -> None:
        self.missing, self.packs = missing, view.packs
        self._searched, self._marks = view.searched, marks
        self._numbers: dict[int, array[int]] = {}
        chunks: Counter[bytes] = Counter()
        sealed: Counter[bytes] = Counter()
        for one, marked in zip(view.searched, marks, strict=True):
            numbers = one.table.pack_numbers()
            sizes = [0] * len(one.listed)
            for number, size in zip(
                compress(numbers, marked), compress(one.table.sealed_lengths(), marked), strict=True
            ):
                sizes[number] += size
            counts = Counter(compress(numbers, marked))
            for number, count in counts.items():
                pack = one.listed[number]
                if pack is not None:
                    chunks[pack] += count
                    sealed[pack] += sizes[number]
        self.live_bytes: Mapping[bytes, int] = sealed
        self.live_chunks: Mapping[bytes, int] = chunks

    def live_entries(self, pack: bytes) -> list[PackEntry]:
        """The chunks in use that count for a pack, in the order of their offsets."""
        for which, one in enumerate(self._searched):
            if pack in one.listed:
                numbers = self._numbers.get(which)
                if numbers is None:
                    numbers = self._numbers[which] = one.table.pack_numbers()
                return rows_of_pack(one.table, numbers, one.listed.index(pack), self._marks[which])
        return []


def usage(index: IndexSet, ids: Iterable[bytes | memoryview]) -> Usage:
    """What of the index is in use; `ids` are chunk ids, any number in each piece, in any order, repeated or not."""
    view = index.view()
    marking = _Marking(view)
    missing: set[bytes] = set()
    for batch in _batches(ids):
        missing.update(marking.mark(batch))
    return Usage(view, marking.marks, frozenset(missing))


def _batches(pieces: Iterable[bytes | memoryview]) -> Iterator[list[bytes]]:
    """The ids without most of those that came before: backups have long stretches of chunks in common.

    A stretch ends behind an id that says so by itself, so that what changed before it does not move its ends.
    """
    seen: set[bytes] = set()
    batch: list[bytes] = []
    for piece in pieces:
        if len(piece) % CHUNK_ID:
            raise DamagedError("A backup's list of chunks is cut off within an id.")
        joined, low = bytes(piece), 0
        ends = joined[::CHUNK_ID].translate(_ENDS)
        while low < len(joined):
            high = (ends.find(1, low // CHUNK_ID) + 1) * CHUNK_ID or len(joined)
            stretch, low = joined[low:high], high
            mark = blake3(stretch).digest(_MARK)
            if mark in seen:
                continue
            if len(seen) == _STRETCHES:
                seen.clear()
            seen.add(mark)
            batch += chain.from_iterable(_ID.iter_unpack(stretch))
            if len(batch) >= BATCH:
                yield batch
                batch = []
    yield batch


class _Marking:
    """Marks rows; knows for each row how good its pack is: 0 is the best, _WORTHLESS no place at all."""

    def __init__(self, view: View) -> None:
        self._damaged = view.damaged
        self._hurt = {chunk for _, chunk in view.damaged}
        self.marks = [bytearray(one.table.count) for one in view.searched]
        worths = [bytes(map(_worth(one, view).__getitem__, one.table.pack_numbers())) for one in view.searched]
        self._tables = [
            (one.table, one.table.prefixes(), worth, marked)
            for one, worth, marked in zip(view.searched, worths, self.marks, strict=True)
        ]

    def mark(self, ids: list[bytes]) -> list[bytes]:
        """Mark a place of each; answers those that lie nowhere.

        Nearly all chunks lie in one place, which is good: that is taken without looking further.
        """
        if self._hurt.isdisjoint(ids):
            for table, prefixes, worth, marked in self._tables:
                rows, found = table.find_all(ids, prefixes)
                left = []
                for chunk, row, there in zip(ids, rows, found, strict=True):
                    if there and not worth[row]:
                        marked[row] = 1
                    else:
                        left.append(chunk)
                ids = left
        return [chunk for chunk in ids if not self._mark_best(chunk)]

    def _mark_best(self, chunk: bytes) -> bool:
        """Look at all places, damaged ones last. False if there is none."""
        best, row = _WORTHLESS, 0
        where = bytearray()
        for table, _, worth, marked in self._tables:
            at = table.find(chunk)
            while at >= 0:
                number = table.number(at)
                value = worth[number]
                if value < _WORTHLESS and (table.packs[table.row(at)[1]].pack, chunk) in self._damaged:
                    value += _DAMAGED
                if value < best:
                    best, where, row = value, marked, number
                at = table.following(chunk, at)
        if best == _WORTHLESS:
            return False
        where[row] = 1
        return True


def _worth(one: Searched, view: View) -> list[int]:
    """For each pack of a table how good a place it is."""
    found = []
    for trusted, pack in zip(one.trusted, one.listed, strict=True):
        if pack is None:
            found.append(_WORTHLESS)
        else:
            found.append(2 * (not trusted) + view.packs[pack].tombstoned)
    return found
