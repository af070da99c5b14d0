"""An IndexSet beside a model: whatever is put, deleted, found and consolidated, it answers what the packs hold."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from resurgam.repository import layout
from resurgam.repository.findings import encode_checked, encode_damage
from resurgam.repository.index_set import IndexSet, Place
from resurgam.repository.index_table import TablePack
from resurgam.repository.index_usage import usage
from resurgam.repository.packs import PackEntry
from resurgam.repository.sealing import FULL, Kind, Opener, Sealer
from resurgam.stores.object_memory import MemoryStore
from tests.repository.fixed_keys import chunk, chunk_id, full_keys, put_index, put_pack, write_only_keys

CONTENTS = [chunk(n, 60) for n in range(12)]
NAMES = [chunk_id(content) for content in CONTENTS]


@dataclass
class Model:
    """A repository under random hands, and what must be known of it."""

    source: random.Random
    cache: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    full: Sealer = field(default_factory=lambda: Sealer(full_keys()))
    host: Sealer = field(default_factory=lambda: Sealer(write_only_keys()))
    packs: dict[bytes, tuple[TablePack, list[PackEntry]]] = field(default_factory=dict)
    indexes: list[bytes] = field(default_factory=list)
    tombstoned: set[bytes] = field(default_factory=set)
    checked: set[bytes] = field(default_factory=set)
    damaged: set[tuple[bytes, bytes]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.index = IndexSet.load(self.store, Opener(full_keys()), self.cache)

    def some(self) -> list[tuple[TablePack, list[PackEntry]]]:
        return self.source.sample(list(self.packs.values()), self.source.randint(1, len(self.packs)))

    def put(self) -> None:
        sealer = self.source.choice((self.full, self.full, self.host))
        named, entries = put_pack(self.store, sealer, self.source.sample(CONTENTS, self.source.randint(1, 5)))
        self.packs[named.pack] = named, entries
        if sealer is self.full and self.source.random() < 0.5:
            self.index.add(named.pack, named.size, FULL, entries)

    def tell(self) -> None:
        self.indexes.append(put_index(self.store, self.full, self.some()))

    def tell_by_host(self) -> None:
        """Of its own packs the truth; of others' packs lies."""
        told = [
            (
                named,
                entries if named.author != FULL else [e._replace(chunk=bytes([n]) * 32) for n, e in enumerate(entries)],
            )
            for named, entries in self.some()
        ]
        self.indexes.append(put_index(self.store, self.host, told))

    def forget(self) -> None:
        if self.indexes:
            self.store.delete(layout.index_key(self.indexes.pop(self.source.randrange(len(self.indexes)))))

    def consolidate(self) -> None:
        self.reload()
        for group in self.index.index_groups(self.packs):
            name = layout.new_id()
            self.store.put(layout.index_key(name), self.index.encode_index(self.full, name, group))
            self.indexes.append(name)

    def remove(self) -> None:
        named, _ = self.some()[0]
        self.store.delete(layout.pack_key(named.pack))
        del self.packs[named.pack]

    def doom(self) -> None:
        pack = self.some()[0][0].pack
        if pack not in self.tombstoned:
            self.tombstoned.add(pack)
            self.store.put(layout.tombstone_key(pack), self.full.seal_text(Kind.TOMBSTONE, pack, b"{}"))

    def hurt(self) -> None:
        named, entries = self.some()[0]
        pair = named.pack, self.source.choice(entries).chunk
        self.damaged.add(pair)
        name = layout.new_id()
        text = encode_damage({pair[0]: [pair[1]]})
        self.store.put(layout.damage_key(name), self.full.seal_text(Kind.DAMAGE, name, text))

    def vouch(self) -> None:
        pack = self.some()[0][0].pack
        self.checked.add(pack)
        name = layout.new_id()
        self.store.put(layout.checked_key(name), self.full.seal_text(Kind.CHECKED, name, encode_checked([pack])))

    def restart(self) -> None:
        self.index = IndexSet.load(self.store, Opener(full_keys()), self.source.choice((self.cache, self.cache, None)))

    def reload(self) -> None:
        self.index.reload()

    def check(self) -> None:
        self.index.reload()
        assert self.index.troubles == []
        assert self.index.packs.keys() == self.packs.keys()
        for name in NAMES:
            held = {
                Place(pack, *e[1:]) for pack, (_, entries) in self.packs.items() for e in entries if e.chunk == name
            }
            good = {place for place in held if self.good(place.pack, name)}
            located = self.index.locate(name)
            assert sorted(located) == sorted(held)
            doomed = [place.pack in self.tombstoned for place in located]
            assert doomed == sorted(doomed)
            place = self.index.reusable(name)
            assert place in good if good else place is None
        for pack, (_, entries) in self.packs.items():
            assert self.index.entries_of(pack) == entries
        self.check_usage(self.source.sample(NAMES, 6))

    def good(self, pack: bytes, name: bytes) -> bool:
        trusted = self.packs[pack][0].author == FULL or pack in self.checked
        return trusted and pack not in self.tombstoned and (pack, name) not in self.damaged

    def check_usage(self, used: Sequence[bytes]) -> None:
        found = usage(self.index, [b"".join(used)])
        counted = [(entry.chunk, pack) for pack in self.packs for entry in found.live_entries(pack)]
        assert sorted([name for name, _ in counted] + sorted(found.missing)) == sorted(used)
        assert sum(found.live_chunks.values()) == len(counted)
        for name, pack in counted:
            if any(self.good(other, name) for other in self.packs if name in {e.chunk for e in self.packs[other][1]}):
                assert self.good(pack, name)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_the_index_answers_what_the_packs_hold(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    model = Model(source, tmp_path)
    acts = [
        *([model.put] * 6),
        *([model.tell] * 2),
        model.tell_by_host,
        *([model.forget] * 2),
        model.consolidate,
        *([model.remove] * 2),
        model.doom,
        model.hurt,
        model.vouch,
        model.restart,
        model.reload,
        *([model.check] * 2),
    ]
    for _ in range(60):
        act = source.choice(acts)
        if model.packs or act in (model.put, model.restart, model.check):
            act()
    model.check()
