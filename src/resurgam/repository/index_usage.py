"""Which stored chunks are in use, pack by pack: what a prune decides by (docs/ordering.md, sentences 53 to 55).

A chunk that lies in several packs counts for one of them: for a trusted one before one that only a write-only host
vouches for, for one without a tombstone before one with. So the live chunks of a tombstoned pack are those that must be
copied, and a host that was broken into can't talk a chunk out of another's pack.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

from resurgam.errors import DamagedError
from resurgam.repository.index_set import IndexSet, Searched, View, rows_of_pack
from resurgam.repository.packs import CHUNK_ID, PackEntry

_DAMAGED = 4
_WORTHLESS = 8


class Usage:
    """The chunks in use of one state of an IndexSet; takes a byte for each known chunk, and four while asked.

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
    hurt = {chunk for _, chunk in view.damaged}
    for piece in ids:
        if len(piece) % CHUNK_ID:
            raise DamagedError("A backup's list of chunks is cut off within an id.")
        for at in range(0, len(piece), CHUNK_ID):
            chunk = bytes(piece[at : at + CHUNK_ID])
            found = (chunk not in hurt and marking.mark_first(chunk)) or marking.mark_best(chunk)
            if not found:
                missing.add(chunk)
    return Usage(view, marking.marks, frozenset(missing))


class _Marking:
    """Marks rows; knows for each row how good its pack is: 0 is the best, _WORTHLESS no place at all."""

    def __init__(self, view: View) -> None:
        self._damaged = view.damaged
        self.marks = [bytearray(one.table.count) for one in view.searched]
        self._tables = [
            (one.table, bytes(map(_worth(one, view).__getitem__, one.table.pack_numbers())), marked)
            for one, marked in zip(view.searched, self.marks, strict=True)
        ]

    def mark_first(self, chunk: bytes) -> bool:
        """Nearly all chunks lie in one place, which is good: take it without looking further."""
        for table, worth, marked in self._tables:
            at = table.find(chunk)
            if at >= 0:
                number = table.number(at)
                if not worth[number]:
                    marked[number] = 1
                    return True
        return False

    def mark_best(self, chunk: bytes) -> bool:
        """Look at all places, damaged ones last. False if there is none."""
        best, row = _WORTHLESS, 0
        where = bytearray()
        for table, worth, marked in self._tables:
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
