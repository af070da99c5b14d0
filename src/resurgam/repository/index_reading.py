"""Reads from a store what says where chunks lie: listings, indexes, packs' directories, findings (sentences 15 to 17).

What is unfit is told in `troubles` and passed over: packs' directories say the same as their indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from resurgam.errors import ArchiveError, ObjectMissing, RepositoryError
from resurgam.repository import layout
from resurgam.repository.findings import decode_checked, decode_damage
from resurgam.repository.index_table import DIRECTORY, IndexTable, TablePack, decode_index, table_of_pack
from resurgam.repository.packs import read_directory
from resurgam.repository.sealing import Kind, Opener
from resurgam.repository.texts import longest, read_object, read_text
from resurgam.stores.objects import ObjectStore, StoredObject

# Reads under way at once, and their bytes: a store may be far away.
_SIDE_BY_SIDE = 8
_BYTES = 32 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a store lists, by id; `damaged` has pairs of pack and chunk."""

    packs: Mapping[bytes, StoredObject]
    indexes: Mapping[bytes, StoredObject]
    tombstoned: frozenset[bytes]
    damaged: frozenset[tuple[bytes, bytes]]
    checked: frozenset[bytes]


class IndexReader:
    """One repository's store as an IndexSet reads it; remembers what it found unfit, so that it is told once."""

    def __init__(self, store: ObjectStore, opener: Opener) -> None:
        self.troubles: list[str] = []
        self._store, self._opener = store, opener
        self._unfit: set[bytes] = set()
        self._damage: dict[bytes, set[tuple[bytes, bytes]]] = {}
        self._checked: dict[bytes, set[bytes]] = {}

    def listing(self, needed: Mapping[bytes, int]) -> Listing:
        """All as it is listed now. Of the packs that are `needed`, with their sizes, each one that the listing lacks is
        asked for: a listing may lag.

        Tombstones first: a pack that is listed after them, and has none, got its tombstone after that, if at all. The
        other way round a pack could be listed, deleted with its tombstone, and seem to have had none.
        """
        tombstoned = frozenset(self._listed(layout.TOMBSTONES))
        packs = self._listed(layout.PACKS)
        packs.update(self._asked({pack: size for pack, size in needed.items() if pack not in packs}))
        indexes = self._listed(layout.INDEXES)
        damage, checked = self._listed(layout.DAMAGE), self._listed(layout.CHECKED)
        self._read_findings(Kind.DAMAGE, damage, self._damage, decode_damage)
        self._read_findings(Kind.CHECKED, checked, self._checked, decode_checked)
        return Listing(
            packs,
            indexes,
            tombstoned,
            frozenset().union(*(self._damage[one] for one in damage if one in self._damage)),
            frozenset().union(*(self._checked[one] for one in checked if one in self._checked)),
        )

    def indexes(self, wanted: Iterable[StoredObject]) -> Iterator[IndexTable]:
        """The tables of indexes; without those that are unfit, or gone meanwhile."""
        unread = [one for one in wanted if layout.id_of(one.key) not in self._unfit]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            for batch in _batches(unread):
                for one, data in zip(batch, pool.map(self._content, batch), strict=True):
                    index = layout.id_of(one.key)
                    if data is None or index is None:
                        continue
                    try:
                        yield decode_index(self._opener, index, data)
                    except (ArchiveError, RepositoryError) as error:
                        self._trouble(index, f"{error} Its packs' own directories are read instead.")

    def directories(self, wanted: Iterable[StoredObject]) -> Iterator[IndexTable]:
        """The tables of packs' own directories; without those that are unfit, or gone meanwhile."""
        unread = [one for one in wanted if layout.id_of(one.key) not in self._unfit]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            for at in range(0, len(unread), _SIDE_BY_SIDE):
                yield from filter(None, pool.map(self._directory, unread[at : at + _SIDE_BY_SIDE]))

    def _asked(self, packs: Mapping[bytes, int]) -> Iterator[tuple[bytes, StoredObject]]:
        for pack, size in packs.items():
            with suppress(ObjectMissing):
                self._store.get(layout.pack_key(pack), 0, 1)
                yield pack, StoredObject(layout.pack_key(pack), size, inf)

    def _directory(self, stored: StoredObject) -> IndexTable | None:
        pack = layout.id_of(stored.key)
        if pack is None:
            return None
        try:
            author, entries = read_directory(self._opener, self._store, pack, stored.size)
        except ObjectMissing:
            return None
        except (ArchiveError, RepositoryError) as error:
            self._trouble(pack, str(error))
            return None
        return table_of_pack(TablePack(pack, stored.size, author, len(entries), DIRECTORY), entries)

    def _read_findings(
        self, kind: Kind, listed: Mapping[bytes, StoredObject], known: dict[bytes, T], decode: Callable[[bytes], T]
    ) -> None:
        for finding in listed:
            if finding in known or finding in self._unfit:
                continue
            try:
                known[finding] = decode(read_text(self._store, self._opener, kind, finding)[1])
            except ObjectMissing:
                continue
            except (ArchiveError, RepositoryError) as error:
                self._trouble(finding, str(error))

    def _content(self, stored: StoredObject) -> bytes | None:
        index = layout.id_of(stored.key)
        if index is None:
            return None
        try:
            return read_object(self._store, Kind.INDEX, index)
        except ObjectMissing:
            return None
        except ArchiveError as error:
            self._trouble(index, f"{error} Its packs' own directories are read instead.")
            return None

    def _listed(self, folder: str) -> dict[bytes, StoredObject]:
        named = ((layout.id_of(one.key), one) for one in self._store.list(folder))
        return {found: one for found, one in named if found is not None}

    def _trouble(self, object_id: bytes, what: str) -> None:
        self._unfit.add(object_id)
        self.troubles.append(what)


def _batches(objects: Sequence[StoredObject]) -> Iterator[list[StoredObject]]:
    """As many at once as memory and the store bear."""
    batch: list[StoredObject] = []
    for one in objects:
        if batch and (len(batch) == _SIDE_BY_SIDE or sum(_read_of(other) for other in (*batch, one)) > _BYTES):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _read_of(stored: StoredObject) -> int:
    return min(stored.size, longest(Kind.INDEX))
