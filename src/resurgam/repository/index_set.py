"""Where chunks lie, as far as one opened repository's indexes and packs tell (repository-format.md, 15 to 17).

Rules:
- only packs that are listed, with the size that the index gives, are ever answered;
- a holder of the full key reuses by what holders of the full key wrote or checked only;
- lookups see one state: `reload` and `add` make a new one and put it in the old one's place, so that any thread may
  look up meanwhile. Both are for one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import NamedTuple

from resurgam.repository.index_reading import IndexReader, Listing
from resurgam.repository.index_table import (
    DIRECTORY,
    DROPPED,
    MAX_ROWS,
    IndexTable,
    TablePack,
    encode_index,
    merged_rows,
    table_in_memory,
    table_of_pack,
)
from resurgam.repository.packs import PackEntry
from resurgam.repository.sealing import FULL, WRITE_ONLY, Opener, Sealer
from resurgam.repository.table_files import TableFiles
from resurgam.stores.objects import ObjectStore

# Tables are merged while the larger is not more than so many times the smaller: few tables, and few merges of each row.
_RATIO = 3
_SMALL = 4096
_IN_MEMORY = MAX_ROWS

_Sources = list[tuple[IndexTable, list[int]]]


class Place(NamedTuple):
    """Where a chunk lies: a tuple, because one is made for every chunk of a backup."""

    pack: bytes
    offset: int
    sealed: int
    length: int
    member: int


@dataclass(frozen=True, slots=True)
class PackInfo:
    """A listed pack. `author` and `blobs` are 0 where its directory can't be read; `stored_at` is infinite for a pack
    of this run that was not listed yet. `believed`: what is known of it, it says itself, or somebody who may tell."""

    size: int
    author: int
    blobs: int
    stored_at: float
    tombstoned: bool
    believed: bool


class Searched(NamedTuple):
    """A table as it is searched: for each of its packs the id or None, once for reuse and once for reading, and whether
    what is known of it is trusted (sentence 17)."""

    table: IndexTable
    reusable: Sequence[bytes | None]
    listed: Sequence[bytes | None]
    trusted: Sequence[bool]
    own: bool

    @property
    def live(self) -> int:
        """Rows that count."""
        return sum(pack.blobs for pack, listed in zip(self.table.packs, self.listed, strict=True) if listed is not None)


class View(NamedTuple):
    """One state of all that is known."""

    searched: tuple[Searched, ...]
    packs: dict[bytes, PackInfo]
    damaged: frozenset[tuple[bytes, bytes]]


class IndexSet:
    """All places of chunks in one repository; made by `load`. `troubles` tells, in sentences, what was found unfit."""

    def __init__(self, store: ObjectStore, opener: Opener, cache: Path | None) -> None:
        self._keys = opener.keys
        self._full = opener.keys.can_read
        self._reader = IndexReader(store, opener)
        self._files = TableFiles(opener.keys, cache)
        self._written: set[bytes] = set()
        self._view = View((), {}, frozenset())
        self.troubles = self._reader.troubles

    @classmethod
    def load(cls, store: ObjectStore, opener: Opener, cache: Path | None = None) -> IndexSet:
        """What the store lists now; what the folder `cache` holds is not read again."""
        loaded = cls(store, opener, cache)
        loaded._load(loaded._files.load(), [], {})
        return loaded

    def reload(self, needed: Iterable[bytes] = ()) -> None:
        """List the store anew; packs that are gone are answered no more, this run's own as well.

        This run's own, and those that are `needed`, count as gone only if they can't be had either: a listing may lag.
        """
        searched, packs = self._view.searched, self._view.packs
        own = [one for one in searched if one.own]
        asked = {*needed, *(pack for one in own for pack in one.listed if pack is not None)} & packs.keys()
        sizes = {pack: packs[pack].size for pack in asked}
        self._load([one.table for one in searched if not one.own], [one.table for one in own], sizes)

    @property
    def packs(self) -> Mapping[bytes, PackInfo]:
        """All listed packs, and those added; to be gone through by the thread that adds and reloads only."""
        return self._view.packs

    def reusable(self, chunk: bytes) -> Place | None:
        """A place that a writer may refer to instead of writing the chunk, or None (sentence 17)."""
        view = self._view
        for table, reusable, _, _, _ in view.searched:
            at = table.find(chunk)
            while at >= 0:
                _, number, offset, sealed, length, member = table.row(at)
                pack = reusable[number]
                if pack is not None and (pack, chunk) not in view.damaged:
                    return Place(pack, offset, sealed, length, member)
                at = table.following(chunk, at)
        return None

    def locate(self, chunk: bytes) -> list[Place]:
        """All places where a reader may look, the best ones first, tombstoned packs last."""
        view = self._view
        found: list[tuple[tuple[bool, bool, bool], Place]] = []
        for table, reusable, listed, _, _ in view.searched:
            at = table.find(chunk)
            while at >= 0:
                _, number, *where = table.row(at)
                pack = listed[number]
                if pack is not None:
                    worth = (view.packs[pack].tombstoned, (pack, chunk) in view.damaged, reusable[number] is None)
                    found.append((worth, Place(pack, *where)))
                at = table.following(chunk, at)
        return [place for _, place in sorted(found)]

    def add(self, pack: bytes, size: int, author: int, entries: Sequence[PackEntry]) -> None:
        """Take a pack that this run has put."""
        table = table_of_pack(TablePack(pack, size, author, len(entries), DIRECTORY), entries)
        view = self._view
        view.packs[pack] = PackInfo(size, author, len(entries), inf, False, True)
        own = [*(one for one in view.searched if one.own), Searched(table, [pack], [pack], [True], True)]
        others = [one for one in view.searched if not one.own]
        while len(own) > 1 and own[-2].table.count <= _RATIO * own[-1].table.count:
            own[-2:] = [self._merged_own(own[-2:])]
        self._view = view._replace(searched=(*others, *own))

    def entries_of(self, pack: bytes) -> list[PackEntry]:
        """All chunks of a pack in the order of their offsets, as far as is known."""
        for one in self._view.searched:
            if pack in one.listed:
                return rows_of_pack(one.table, one.table.pack_numbers(), one.listed.index(pack))
        return []

    def index_groups(self, packs: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Packs in groups, each for one index of at most MAX_ROWS chunks (or of one pack).

        Packs that are not believed are left out: no index of ours may speak for them. Those that are gone are too.
        """
        group: list[bytes] = []
        rows = 0
        for pack in packs:
            info = self._view.packs.get(pack)
            if info is None or not info.believed:
                continue
            blobs = info.blobs
            if group and rows + blobs > MAX_ROWS:
                yield group
                group, rows = [], 0
            group.append(pack)
            rows += blobs
        if group:
            yield group

    def encode_index(self, sealer: Sealer, object_id: bytes, packs: Iterable[bytes]) -> bytearray:
        """An index object of these packs, for a run's own and to replace smaller ones (ordering.md, 59).

        Packs that are not believed are left out.
        """
        wanted = {pack for pack in packs if (info := self._view.packs.get(pack)) is not None and info.believed}
        kept = [[pack is not None and pack in wanted for pack in one.listed] for one in self._view.searched]
        chosen = [one for one, keep in zip(self._view.searched, kept, strict=True) if any(keep)]
        listed, sources = _renumbering([one.table for one in chosen], [keep for keep in kept if any(keep)])
        encoded = encode_index(sealer, object_id, listed, merged_rows(sources))
        self._written.add(object_id)
        return encoded

    def view(self) -> View:
        """The present state, for whoever goes through all of it."""
        return self._view

    def _load(self, tables: list[IndexTable], own: list[IndexTable], needed: Mapping[bytes, int]) -> None:
        listing = self._reader.listing(needed)
        known = self._written.union(*(table.indexes for table in tables))
        new = [stored for index, stored in listing.indexes.items() if index not in known]
        for table in self._reader.indexes(new):
            tables = self._with(table, tables, listing)
        unknown = self._without_source([*tables, *own], listing)
        for table in self._reader.directories(listing.packs[pack] for pack in unknown):
            tables = self._with(table, tables, listing)
        tables = self._compacted(tables, own, listing)
        self._view = self._viewed(tables, own, listing)

    def _with(self, table: IndexTable, tables: list[IndexTable], listing: Listing) -> list[IndexTable]:
        """One more table; what has gathered in memory goes to a file when it is much."""
        tables = [*tables, table]
        gathered = [one for one in tables if one.in_memory]
        if sum(one.count for one in gathered) <= 2 * _IN_MEMORY:
            return tables
        return [*(one for one in tables if one not in gathered), self._rewritten(gathered, tables, listing)]

    def _compacted(self, tables: list[IndexTable], own: list[IndexTable], listing: Listing) -> list[IndexTable]:
        """Few tables instead of many, without most of the rows that do not count, all where they are found again."""
        searched = self._viewed(tables, own, listing).searched[: len(tables)]
        needed = [one for one in searched if one.live or one.table.indexes & listing.indexes.keys()]
        rising = sorted(needed, key=lambda one: one.live)
        group: list[Searched] = []
        for one in rising:
            if group and one.live > max(_SMALL, _RATIO * sum(other.live for other in group)):
                break
            group.append(one)
        rest = rising[len(group) :]
        if len(group) == 1:
            group, rest = [], rising
        fit = [one.table for one in rest if self._files.settled(one.table) and 2 * one.live >= one.table.count]
        unfit = [[one.table] for one in rest if one.table not in fit] + [[one.table for one in group]]
        kept = fit + [self._rewritten(some, tables + own, listing) for some in unfit if some]
        self._files.forget(tables, kept)
        return kept

    def _rewritten(self, some: list[IndexTable], tables: list[IndexTable], listing: Listing) -> IndexTable:
        """Some of the tables as one, in a file where that can be."""
        searched = {id(one.table): one for one in self._viewed(tables, [], listing).searched}
        kept = [[pack is not None for pack in searched[id(table)].listed] for table in some]
        packs, sources = _renumbering(some, kept)
        indexes = frozenset().union(*(table.indexes for table in some)) & listing.indexes.keys()
        return self._written_down(packs, indexes, sources, named=True)

    def _merged_own(self, some: Sequence[Searched]) -> Searched:
        """Packs of this run keep what is known of each."""
        packs, sources = _renumbering([one.table for one in some], [[True] * len(one.table.packs) for one in some])
        reusable = [pack for one in some for pack in one.reusable]
        listed = [pack for one in some for pack in one.listed]
        trusted = [one for each in some for one in each.trusted]
        if sum(one.table.count for one in some) <= _IN_MEMORY:
            table = table_in_memory(packs, frozenset(), b"".join(merged_rows(sources)))
        else:
            table = self._written_down(packs, frozenset(), sources, named=False)
        return Searched(table, reusable, listed, trusted, True)

    def _written_down(
        self, packs: list[TablePack], indexes: frozenset[bytes], sources: _Sources, *, named: bool
    ) -> IndexTable:
        try:
            if named:
                return self._files.write(packs, indexes, merged_rows(sources))
            return self._files.write_unnamed(packs, indexes, merged_rows(sources))
        except OSError as error:
            self.troubles.append(f"The local cache can't be written ({error.strerror}); the repository is not touched.")
            self._files = TableFiles(self._keys, None)
            return table_in_memory(packs, indexes, b"".join(merged_rows(sources)))

    def _without_source(self, tables: list[IndexTable], listing: Listing) -> list[bytes]:
        """Packs whose own directory must be read: no index names them, or none that is believed."""
        best = _best_sources(tables, listing)
        unknown = []
        for pack in listing.packs:
            number = best.get(pack)
            if number is None:
                unknown.append(pack)
            elif self._full:
                named = tables[number[0]].packs[number[1]]
                if named.source == WRITE_ONLY and (named.author == FULL or pack in listing.checked):
                    unknown.append(pack)
        return unknown

    def _viewed(self, tables: list[IndexTable], own: list[IndexTable], listing: Listing) -> View:
        """The state that tables and listing make; each pack counts in one table only."""
        every = [*tables, *own]
        best = _best_sources(every, listing)
        packs = {
            pack: PackInfo(stored.size, 0, 0, stored.stored_at, pack in listing.tombstoned, False)
            for pack, stored in listing.packs.items()
        }
        listed: list[list[bytes | None]] = [[None] * len(table.packs) for table in every]
        reusable: list[list[bytes | None]] = [[None] * len(table.packs) for table in every]
        trusted = [[False] * len(table.packs) for table in every]
        for pack, (which, number) in best.items():
            named = every[which].packs[number]
            listed[which][number] = pack
            believed = not self._full or named.source != WRITE_ONLY
            author = named.author if believed else WRITE_ONLY
            stored = listing.packs[pack]
            doomed = pack in listing.tombstoned
            packs[pack] = PackInfo(stored.size, author, named.blobs, stored.stored_at, doomed, believed)
            trusted[which][number] = not self._full or (believed and (author == FULL or pack in listing.checked))
            if trusted[which][number] and not doomed:
                reusable[which][number] = pack
        searched = (
            Searched(table, reusable[which], listed[which], trusted[which], which >= len(tables))
            for which, table in enumerate(every)
        )
        return View(tuple(searched), packs, listing.damaged)


def rows_of_pack(
    table: IndexTable, numbers: Sequence[int], place: int, marks: bytearray | None = None
) -> list[PackEntry]:
    """The entries of the pack at `place`; `numbers` are its `pack_numbers`. With marks: of marked rows."""
    found: list[PackEntry] = []
    at = -1
    while True:
        try:
            at = numbers.index(place, at + 1)
        except ValueError:
            return sorted(found, key=lambda entry: entry.offset)
        if marks is None or marks[at]:
            found.append(table.entry(at))


def _best_sources(tables: Sequence[IndexTable], listing: Listing) -> dict[bytes, tuple[int, int]]:
    """For each listed pack the table, and the place in it, by which it is known best: by itself, by the full key."""
    best: dict[bytes, tuple[int, int, int]] = {}
    for which, table in enumerate(tables):
        for number, named in enumerate(table.packs):
            stored = listing.packs.get(named.pack)
            if stored is not None and stored.size == named.size:
                there = best.get(named.pack)
                if there is None or named.source < there[0]:
                    best[named.pack] = (named.source, which, number)
    return {pack: (which, number) for pack, (_, which, number) in best.items()}


def _renumbering(tables: Sequence[IndexTable], kept: Sequence[Sequence[bool]]) -> tuple[list[TablePack], _Sources]:
    """The packs that are kept, and each table with their new numbers."""
    packs: list[TablePack] = []
    sources = []
    for table, keep in zip(tables, kept, strict=True):
        numbers = []
        for pack, wanted in zip(table.packs, keep, strict=True):
            numbers.append(len(packs) if wanted else DROPPED)
            if wanted:
                packs.append(pack)
        sources.append((table, numbers))
    return packs, sources
