from __future__ import annotations

import random

import pytest

from resurgam.errors import DamagedError
from resurgam.repository import layout
from resurgam.repository.findings import encode_damage
from resurgam.repository.index_set import IndexSet
from resurgam.repository.index_usage import usage
from resurgam.repository.sealing import Kind, Opener, Sealer
from resurgam.stores.object_memory import MemoryStore
from tests.repository.fixed_keys import chunk, chunk_id, full_keys, put_index, put_pack, write_only_keys


def test_what_is_in_use_is_counted_pack_by_pack() -> None:
    store = MemoryStore()
    sealer = Sealer(full_keys())
    packs = [put_pack(store, sealer, [chunk(10 * n + k) for k in range(10)]) for n in range(4)]
    put_index(store, sealer, packs[:2])
    put_index(store, sealer, packs[2:3])
    index = IndexSet.load(store, Opener(full_keys()))
    used = [*packs[0][1][:3], *packs[1][1], packs[3][1][9]]
    ids = [entry.chunk for entry in used] * 3 + [bytes(32), b"\1" * 32]
    random.Random(1).shuffle(ids)
    found = usage(index, [b"".join(ids[:7]), b"", memoryview(b"".join(ids[7:])), bytes(32)])
    assert found.missing == {bytes(32), b"\1" * 32}
    assert found.live_chunks == {packs[0][0].pack: 3, packs[1][0].pack: 10, packs[3][0].pack: 1}
    assert found.live_bytes[packs[0][0].pack] == sum(entry.sealed for entry in packs[0][1][:3])
    assert found.live_entries(packs[0][0].pack) == packs[0][1][:3]
    assert found.live_entries(packs[2][0].pack) == []
    assert found.live_entries(bytes(16)) == []


def test_a_chunk_in_several_packs_counts_where_it_is_safest() -> None:
    """Trusted before a write-only host's, without a tombstone before with one, whole before damaged."""
    store = MemoryStore()
    sealer, host = Sealer(full_keys()), Sealer(write_only_keys())
    contents = [chunk(n) for n in range(4)]
    names = [chunk_id(content) for content in contents]
    unchecked = put_pack(store, host, contents)
    put_index(store, host, [unchecked])
    put_index(store, sealer, [put_pack(store, sealer, contents[:1])])
    doomed = put_pack(store, sealer, contents[:3])
    hurt = put_pack(store, sealer, contents[:2])
    put_index(store, sealer, [doomed, hurt])
    store.put(layout.tombstone_key(doomed[0].pack), sealer.seal_text(Kind.TOMBSTONE, doomed[0].pack, b"{}"))
    damage = layout.new_id()
    store.put(
        layout.damage_key(damage), sealer.seal_text(Kind.DAMAGE, damage, encode_damage({hurt[0].pack: names[:2]}))
    )
    found = usage(IndexSet.load(store, Opener(full_keys())), names)
    assert found.missing == frozenset()
    assert sum(found.live_chunks.values()) == 4
    assert hurt[0].pack not in found.live_chunks
    assert names[0] not in [entry.chunk for entry in found.live_entries(unchecked[0].pack)]
    # What the host claims to have as well is not enough to let the doomed pack's chunks go.
    assert [entry.chunk for entry in found.live_entries(doomed[0].pack)] == names[1:3]
    assert [entry.chunk for entry in found.live_entries(unchecked[0].pack)] == names[3:]


def test_ids_that_are_cut_off_are_refused() -> None:
    with pytest.raises(DamagedError):
        usage(IndexSet.load(MemoryStore(), Opener(full_keys())), [bytes(33)])
