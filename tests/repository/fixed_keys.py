"""Repositories for tests: fixed keys, chunks, packs and indexes in a store in memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from blake3 import blake3

from resurgam.keys.secrets import Secrets, full_secrets
from resurgam.pipeline.codec import member
from resurgam.repository.index_table import TablePack, encode_index, merged_rows, table_of_pack
from resurgam.repository.layout import index_key, new_id, pack_key
from resurgam.repository.packs import PackBuilder, PackEntry
from resurgam.repository.sealing import Sealer
from resurgam.stores.object_memory import MemoryStore

REPOSITORY = bytes(range(16))
OBJECT = bytes(range(100, 116))
ROOT = bytes(range(32))
PRIVATE = {1: bytes(range(1, 33)), 2: bytes(range(2, 34))}


def full_keys(repository: bytes = REPOSITORY) -> Secrets:
    """The same keys in every process, and in the golden objects."""
    return full_secrets(ROOT, repository, PRIVATE)


def write_only_keys() -> Secrets:
    """What a write-only host holds of them."""
    return replace(full_keys(), auth_full=None, ring=None, private={})


def chunk(number: int, size: int = 500) -> bytes:
    return random.Random(number).randbytes(size // 2) + b"." * (size - size // 2)


def chunk_id(content: bytes) -> bytes:
    return blake3(content, key=full_keys().names).digest()


def filled(sealer: Sealer, contents: Sequence[bytes]) -> PackBuilder:
    builder = PackBuilder(sealer)
    for content in contents:
        builder.add(chunk_id(content), len(content), member(content))
    return builder


def put_pack(store: MemoryStore, sealer: Sealer, contents: Sequence[bytes]) -> tuple[TablePack, list[PackEntry]]:
    """A pack in the store; answers what an index has to say of it."""
    builder = filled(sealer, contents)
    data = bytes(builder.finish())
    store.put(pack_key(builder.id), data)
    return TablePack(builder.id, len(data), sealer.author, len(builder.entries), sealer.author), builder.entries


def put_index(store: MemoryStore, sealer: Sealer, packs: Sequence[tuple[TablePack, Sequence[PackEntry]]]) -> bytes:
    """An index of these packs in the store; answers its id."""
    index = new_id()
    sources = [(table_of_pack(named, entries), [number]) for number, (named, entries) in enumerate(packs)]
    data = encode_index(sealer, index, [named for named, _ in packs], merged_rows(sources))
    store.put(index_key(index), data)
    return index
