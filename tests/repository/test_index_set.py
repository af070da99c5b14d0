from __future__ import annotations

import random
import threading
from pathlib import Path

from resurgam.errors import ObjectMissing
from resurgam.repository import layout
from resurgam.repository.findings import encode_checked, encode_damage
from resurgam.repository.index_set import IndexSet, Place
from resurgam.repository.packs import PackEntry, sealed_size
from resurgam.repository.sealing import FULL, HEADER, WRITE_ONLY, Kind, Opener, Sealer
from resurgam.stores.object_memory import MemoryStore
from tests.repository.fixed_keys import chunk, chunk_id, full_keys, put_index, put_pack, write_only_keys

FIRST, SECOND = [chunk(n) for n in range(5)], [chunk(n) for n in range(5, 10)]


class CountingStore(MemoryStore):
    """Notes which objects were read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        self.read.append(key)
        return super().get(key, offset, length)


def loaded(store: MemoryStore, cache: Path | None = None) -> IndexSet:
    return IndexSet.load(store, Opener(full_keys()), cache)


def put_finding(store: MemoryStore, kind: Kind, text: bytes, sealer: Sealer | None = None) -> None:
    finding = layout.new_id()
    key = layout.damage_key(finding) if kind == Kind.DAMAGE else layout.checked_key(finding)
    store.put(key, (sealer or Sealer(full_keys())).seal_text(kind, finding, text))


def places(entries: list[PackEntry], pack: bytes) -> list[Place]:
    return [Place(pack, *entry[1:]) for entry in entries]


def test_chunks_are_found_by_indexes_and_by_directories_alike() -> None:
    store = CountingStore()
    sealer = Sealer(full_keys())
    indexed, entries = put_pack(store, sealer, FIRST)
    bare, others = put_pack(store, sealer, SECOND)
    put_index(store, sealer, [(indexed, entries)])
    index = loaded(store)
    assert index.troubles == []
    assert [index.reusable(chunk_id(content)) for content in FIRST] == places(entries, indexed.pack)
    assert [index.reusable(chunk_id(content)) for content in SECOND] == places(others, bare.pack)
    assert index.reusable(chunk_id(b"other")) is None
    assert layout.pack_key(indexed.pack) not in store.read
    for named in (indexed, bare):
        info = index.packs[named.pack]
        assert (info.size, info.author, info.blobs, info.tombstoned) == (named.size, FULL, 5, False)
    assert index.entries_of(indexed.pack) == entries
    assert index.entries_of(bytes(16)) == []


def test_entries_of_packs_that_are_not_listed_or_of_another_size_do_not_count() -> None:
    store = MemoryStore()
    sealer = Sealer(full_keys())
    gone, entries = put_pack(store, sealer, FIRST)
    other, others = put_pack(store, sealer, SECOND)
    wrong = [entry._replace(chunk=bytes([n]) * 32) for n, entry in enumerate(others)]
    put_index(store, sealer, [(gone, entries), (other._replace(size=other.size + 1), wrong)])
    store.delete(layout.pack_key(gone.pack))
    index = loaded(store)
    assert index.locate(chunk_id(FIRST[0])) == []
    # The other pack's own directory was read, since nothing true was said of it.
    assert index.locate(chunk_id(SECOND[0])) == [places(others, other.pack)[0]]
    assert index.locate(bytes(32)) == []
    assert index.packs.keys() == {other.pack}


def test_tombstoned_packs_are_read_last_and_reused_never() -> None:
    store = MemoryStore()
    sealer = Sealer(full_keys())
    packs = [put_pack(store, sealer, FIRST) for _ in range(3)]
    put_index(store, sealer, packs)
    for doomed in packs[:2]:
        tombstone = layout.tombstone_key(doomed[0].pack)
        store.put(tombstone, sealer.seal_text(Kind.TOMBSTONE, doomed[0].pack, b"{}"))
    index = loaded(store)
    name = chunk_id(FIRST[2])
    kept = packs[2][0].pack
    found = index.locate(name)
    assert found[0].pack == kept and {place.pack for place in found} == {named.pack for named, _ in packs}
    assert index.reusable(name) == found[0]
    store.put(layout.tombstone_key(kept), sealer.seal_text(Kind.TOMBSTONE, kept, b"{}"))
    index.reload()
    assert index.reusable(name) is None
    assert len(index.locate(name)) == 3


def test_damaged_chunks_are_not_reused_and_read_after_sound_ones() -> None:
    store = MemoryStore()
    sealer = Sealer(full_keys())
    packs = [put_pack(store, sealer, FIRST) for _ in range(2)]
    put_index(store, sealer, packs)
    (first, _), (second, _) = packs
    name = chunk_id(FIRST[1])
    put_finding(store, Kind.DAMAGE, encode_damage({first.pack: [name]}))
    index = loaded(store)
    assert [place.pack for place in index.locate(name)] == [second.pack, first.pack]
    put_finding(store, Kind.DAMAGE, encode_damage({second.pack: [name]}))
    index.reload()
    assert index.reusable(name) is None
    assert index.reusable(chunk_id(FIRST[0])) is not None


def test_a_write_only_hosts_packs_are_reused_by_others_only_when_checked() -> None:
    store = MemoryStore()
    host = Sealer(write_only_keys())
    pack, entries = put_pack(store, host, FIRST)
    put_index(store, host, [(pack, entries)])
    name = chunk_id(FIRST[0])
    index = loaded(store)
    assert index.reusable(name) is None
    assert index.locate(name) == [places(entries, pack.pack)[0]]
    assert IndexSet.load(store, Opener(write_only_keys())).reusable(name) is not None
    put_finding(store, Kind.CHECKED, encode_checked([pack.pack]), host)
    index.reload()
    assert index.reusable(name) is None  # no host vouches for itself
    assert "may not decide" in index.troubles[0]
    put_finding(store, Kind.CHECKED, encode_checked([pack.pack]))
    index.reload()
    assert index.reusable(name) == places(entries, pack.pack)[0]
    assert index.packs[pack.pack].author == WRITE_ONLY


def test_what_a_write_only_hosts_index_says_of_others_packs_is_not_believed() -> None:
    """Neither that a chunk lies where it does not, nor that a pack of its own is another's."""
    store = MemoryStore()
    pack, entries = put_pack(store, Sealer(full_keys()), FIRST)
    host = Sealer(write_only_keys())
    mine, own = put_pack(store, host, SECOND)
    lies = [entry._replace(chunk=bytes([n]) * 32) for n, entry in enumerate(entries)]
    put_index(store, host, [(pack, lies), (mine._replace(author=FULL), own)])
    index = loaded(store)
    assert index.reusable(bytes(32)) is None and index.locate(bytes(32)) == []
    assert [index.reusable(entry.chunk) for entry in entries] == places(entries, pack.pack)
    assert index.reusable(own[0].chunk) is None
    assert index.packs[mine.pack].author == WRITE_ONLY
    # Both were read themselves.
    assert index.packs[pack.pack].believed and index.packs[mine.pack].believed
    # Nor does it become true by being consolidated.
    again = layout.new_id()
    data = index.encode_index(Sealer(full_keys()), again, [pack.pack, mine.pack])
    store.put(layout.index_key(again), data)
    fresh = loaded(store)
    assert fresh.reusable(bytes(32)) is None and fresh.reusable(own[0].chunk) is None


def test_the_full_key_signs_nothing_that_only_a_write_only_host_says() -> None:
    store = MemoryStore()
    host, sealer = Sealer(write_only_keys()), Sealer(full_keys())
    mine, own = put_pack(store, host, FIRST)
    told = put_index(store, host, [(mine, [entry._replace(chunk=bytes([n]) * 32) for n, entry in enumerate(own)])])
    index = loaded(store)
    assert not index.packs[mine.pack].believed
    assert list(index.index_groups([mine.pack])) == []
    name = layout.new_id()
    store.put(layout.index_key(name), index.encode_index(sealer, name, [mine.pack]))
    store.delete(layout.index_key(told))
    put_finding(store, Kind.CHECKED, encode_checked([mine.pack]))
    fresh = loaded(store)
    assert fresh.reusable(bytes(32)) is None
    assert fresh.reusable(own[0].chunk) == places(own, mine.pack)[0]


def test_an_unfit_index_is_told_and_its_packs_are_read_themselves() -> None:
    store = MemoryStore()
    sealer = Sealer(full_keys())
    pack, entries = put_pack(store, sealer, FIRST)
    bad = put_index(store, sealer, [(pack, entries)])
    key = layout.index_key(bad)
    data = bytearray(store.get(key))
    data[-1] ^= 1
    store.delete(key)
    store.put(key, bytes(data))
    index = loaded(store)
    assert len(index.troubles) == 1 and bad.hex() in index.troubles[0]
    assert index.reusable(chunk_id(FIRST[0])) == places(entries, pack.pack)[0]
    index.reload()
    assert len(index.troubles) == 1


def test_an_unfit_pack_is_told_and_listed_with_nothing_in_it() -> None:
    store = MemoryStore()
    store.put(layout.pack_key(bytes(16)), b"rubbish" * 100)
    index = loaded(store)
    assert bytes(16).hex() in index.troubles[0]
    assert (index.packs[bytes(16)].blobs, index.packs[bytes(16)].author) == (0, 0)


def test_unfit_findings_are_told() -> None:
    store = MemoryStore()
    put_finding(store, Kind.DAMAGE, b'{"packs":{"zz":[]}}')
    put_finding(store, Kind.DAMAGE, b'{"packs":{"' + b"00" * 16 + b'":["00"]}}')
    put_finding(store, Kind.CHECKED, b"[]")
    put_finding(store, Kind.CHECKED, b'{"packs":["00"]}')
    assert len(loaded(store).troubles) == 4


def test_an_index_that_goes_while_it_is_read_harms_nothing() -> None:
    class Vanishing(MemoryStore):
        def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
            if key.startswith("indexes/"):
                raise ObjectMissing("It was replaced.")
            return super().get(key, offset, length)

    store = Vanishing()
    sealer = Sealer(full_keys())
    pack, entries = put_pack(store, sealer, FIRST)
    put_index(store, sealer, [(pack, entries)])
    index = loaded(store)
    assert index.troubles == []
    assert index.reusable(chunk_id(FIRST[0])) == places(entries, pack.pack)[0]


def test_the_cache_spares_reading_and_is_thrown_away_when_it_is_unfit(tmp_path: Path) -> None:
    store = CountingStore()
    sealer = Sealer(full_keys())
    packs = [put_pack(store, sealer, [chunk(n)]) for n in range(40)]
    for one in packs[:30]:
        put_index(store, sealer, [one])
    cache = tmp_path / "cache"
    loaded(store, cache)
    (table,) = cache.iterdir()
    assert table.stat().st_mode & 0o777 == 0o600 and cache.stat().st_mode & 0o777 == 0o700
    sound = table.read_bytes()
    flipped = sound[:200] + bytes([sound[200] ^ 1]) + sound[201:]
    for content in (sound, sound[:-1], sound + b"\0", b"", flipped, bytes(len(sound))):
        table.write_bytes(content)
        store.read.clear()
        index = loaded(store, cache)
        assert len(store.read) == (0 if content == sound else 30 + 2 * 10)
        assert index.troubles == []
        assert [index.reusable(chunk_id(chunk(n))) for n in range(40)] == [
            places(entries, named.pack)[0] for named, entries in packs
        ]
        (table,) = cache.iterdir()
    # Another kind of key believes none of it.
    store.read.clear()
    IndexSet.load(store, Opener(write_only_keys()), cache)
    assert store.read


def test_a_cache_that_cant_be_written_is_told_and_not_needed(tmp_path: Path) -> None:
    store = MemoryStore()
    sealer = Sealer(full_keys())
    put_index(store, sealer, [put_pack(store, sealer, FIRST)])
    (tmp_path / "file").write_text("")
    index = loaded(store, tmp_path / "file" / "cache")
    assert len(index.troubles) == 1 and "cache" in index.troubles[0]
    assert index.reusable(chunk_id(FIRST[0])) is not None


def test_a_cache_follows_what_is_deleted_and_replaced(tmp_path: Path) -> None:
    store = CountingStore()
    sealer = Sealer(full_keys())
    packs = [put_pack(store, sealer, [chunk(n)]) for n in range(20)]
    old = [put_index(store, sealer, [one]) for one in packs]
    index = loaded(store, tmp_path)
    for one in packs[:15]:
        store.delete(layout.pack_key(one[0].pack))
    left = [named.pack for named, _ in packs[15:]]
    (group,) = index.index_groups(left)
    replacing = layout.new_id()
    store.put(layout.index_key(replacing), index.encode_index(sealer, replacing, group))
    for replaced in old:
        store.delete(layout.index_key(replaced))
    for one_of_two in (index, loaded(store, tmp_path)):
        one_of_two.reload()
        assert one_of_two.packs.keys() == set(left)
        assert [bool(one_of_two.locate(chunk_id(chunk(n)))) for n in range(20)] == [False] * 15 + [True] * 5
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2000
    store.read.clear()
    loaded(store, tmp_path)
    assert store.read == []


def entries_at_random(count: int, seed: int) -> tuple[int, list[PackEntry]]:
    source = random.Random(seed)
    entries, offset = [], HEADER
    for _ in range(count):
        entries.append(PackEntry(source.randbytes(32), offset, sealed_size(1000), 3000, 1000))
        offset += sealed_size(1000)
    return offset, entries


def test_packs_of_this_run_are_found_at_once_and_their_index_says_the_same() -> None:
    store = MemoryStore()
    index = loaded(store)
    sealer = Sealer(full_keys())
    packs = {}
    for number in range(150):
        size, entries = entries_at_random(200, number)
        pack = layout.new_id()
        index.add(pack, size, FULL, entries)
        packs[pack] = entries
        store.put(layout.pack_key(pack), bytes(size))
    assert len(index.view().searched) <= 12
    for pack, entries in packs.items():
        assert [index.reusable(entry.chunk) for entry in entries] == places(entries, pack)
    for group in index.index_groups(packs):
        one = layout.new_id()
        store.put(layout.index_key(one), index.encode_index(sealer, one, group))
    for other in (index, loaded(store)):
        other.reload()
        assert other.troubles == []
        for pack, entries in packs.items():
            assert other.reusable(entries[7].chunk) == places(entries, pack)[7]
            assert other.entries_of(pack) == entries
    store.delete(layout.pack_key(pack))
    index.reload()
    assert index.locate(entries[0].chunk) == [] and pack not in index.packs


def test_hundreds_of_small_indexes_become_few_tables() -> None:
    store = MemoryStore()
    sealer = Sealer(full_keys())
    names = []
    for number in range(100):
        named, entries = put_pack(store, sealer, [chunk(1000 * number + n, 20) for n in range(10)])
        put_index(store, sealer, [(named, entries)])
        names += [entry.chunk for entry in entries]
    index = loaded(store)
    assert len(index.view().searched) == 1
    assert all(index.reusable(name) for name in names)


def test_more_than_fits_an_index_is_put_into_several() -> None:
    index = loaded(MemoryStore())
    packs = []
    for number in range(5):
        size, entries = entries_at_random(60_000, number)
        packs.append(layout.new_id())
        index.add(packs[-1], size, FULL, entries)
    groups = list(index.index_groups(packs))
    assert [len(group) for group in groups] == [4, 1] and [pack for group in groups for pack in group] == packs


def test_lookups_go_on_while_packs_are_added_and_the_store_is_listed_anew(tmp_path: Path) -> None:
    store = MemoryStore()
    sealer = Sealer(full_keys())
    old, entries = put_pack(store, sealer, FIRST)
    put_index(store, sealer, [(old, entries)])
    index = loaded(store, tmp_path)
    wrong: list[object] = []
    done = threading.Event()
    expected = places(entries, old.pack)

    def look() -> None:
        while not done.is_set():
            for entry, place in zip(entries, expected, strict=True):
                found = index.reusable(entry.chunk)
                if found != place or index.locate(entry.chunk) != [place]:
                    wrong.append(found)
            if index.reusable(bytes(32)) is not None:
                wrong.append(bytes(32))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(60):
        size, added = entries_at_random(100, number)
        pack = layout.new_id()
        index.add(pack, size, FULL, added)
        assert index.reusable(added[3].chunk) == places(added, pack)[3]
        if number % 10 == 9:
            one, its = put_pack(store, sealer, [chunk(number + 100)])
            put_index(store, sealer, [(one, its)])
            index.reload()
            assert index.reusable(its[0].chunk) == places(its, one.pack)[0]
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
