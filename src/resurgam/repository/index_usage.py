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

_WORTHLESS = 8


class Usage:
    """The chunks in use of one state of an IndexSet; takes a byte for each known chunk, and four while it is asked.

    `live_bytes` and `live_chunks` hold packs that have any; `missing` are the ids that lie nowhere.
    """

    def __init__(self, searched: Sequence[Searched], marks: Sequence[bytearray], missing: frozenset[bytes]) -> None:
        self.missing = missing
        self._searched, self._marks = searched, marks
        self._numbers: dict[int, array[int]] = {}
        chunks: Counter[bytes] = Counter()
        sealed: Counter[bytes] = Counter()
        for one, marked in zip(searched, marks, strict=True):
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
    worth = [_worth(one, view) for one in view.searched]
    marks = [bytearray(one.table.count) for one in view.searched]
    tables = [(one.table, of_pack, marked) for one, of_pack, marked in zip(view.searched, worth, marks, strict=True)]
    missing: set[bytes] = set()
    for piece in ids:
        if len(piece) % CHUNK_ID:
            raise DamagedError("A backup's list of chunks is cut off within an id.")
        for at in range(0, len(piece), CHUNK_ID):
            chunk = bytes(piece[at : at + CHUNK_ID])
            best = _WORTHLESS
            for table, of_pack, marked in tables:
                row = table.find(chunk)
                while row >= 0 and best:
                    named = table.row(row)[1]
                    value = of_pack[named]
                    if view.damaged and value < _WORTHLESS and (table.packs[named].pack, chunk) in view.damaged:
                        value += 4
                    if value < best:
                        best, where, number = value, marked, table.number(row)
                    row = table.following(chunk, row)
                if not best:
                    break
            if best == _WORTHLESS:
                missing.add(chunk)
            else:
                where[number] = 1
    return Usage(view.searched, marks, frozenset(missing))


def _worth(one: Searched, view: View) -> list[int]:
    """For each pack of a table how good a place it is: 0 is the best; damage adds 4."""
    found = []
    for number, pack in enumerate(one.listed):
        if pack is None:
            found.append(_WORTHLESS)
        else:
            found.append(2 * (not one.trusted[number]) + view.packs[pack].tombstoned)
    return found
