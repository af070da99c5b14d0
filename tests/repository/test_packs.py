from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from resurgam.errors import DamagedError, KeyRefused, ObjectMissing, RepositoryError
from resurgam.pipeline.codec import member, open_member
from resurgam.repository.layout import new_id, pack_key
from resurgam.repository.packs import (
    PackBuilder,
    PackEntry,
    check_pack,
    open_blob,
    read_directory,
    sealed_size,
    verify_pack,
)
from resurgam.repository.sealing import FULL, HEADER, WRITE_ONLY, Kind, Opener, Sealer
from resurgam.stores.object_memory import MemoryStore
from tests.repository.fixed_keys import chunk, chunk_id, filled, full_keys, write_only_keys

_ROW = struct.Struct("<32s4I")
CONTENTS = [chunk(1, 40), chunk(2, 300), chunk(3, 5000)]


def pack_of(contents: Sequence[bytes]) -> tuple[PackBuilder, bytes]:
    builder = filled(Sealer(full_keys()), contents)
    return builder, bytes(builder.finish())


def with_rows(builder: PackBuilder, data: bytes, change: Callable[[list[PackEntry]], object], count: int = 0) -> bytes:
    """The pack with another directory, sealed and signed by somebody who has all keys."""
    keys = full_keys()
    entries = list(builder.entries)
    change(entries)
    key = blake3(b"shared" + builder.id, key=keys.shared).digest()
    rows = b"".join(_ROW.pack(*entry) for entry in entries)
    directory = AESGCM(key).encrypt(struct.pack("<QI", 1 << 32, 0), rows, struct.pack("<BQ", 1, 1 << 32))
    end = directory + struct.pack("<II8s", len(directory), count or len(entries), b"RSGMPACK")
    blobs = data[HEADER : HEADER + sum(entry.sealed for entry in builder.entries)]
    return _signed(data[:HEADER], blobs, end)


def _signed(head: bytes, blobs: bytes, end: bytes) -> bytes:
    keys = full_keys()
    assert keys.auth_full is not None
    fields = head[:128] + blake3(end).digest()
    signed = fields + blake3(fields, key=keys.auth_shared).digest()
    return signed + blake3(signed, key=keys.auth_full).digest() + blobs + end


def test_chunks_come_back_from_a_pack_in_a_store() -> None:
    builder, data = pack_of(CONTENTS)
    store = MemoryStore()
    store.put(pack_key(builder.id), data)
    opener = Opener(full_keys())
    author, entries = read_directory(opener, store, builder.id, len(data))
    assert (author, entries) == (FULL, builder.entries)
    cipher = opener.blob_key(opener.header(Kind.PACK, builder.id, store.get(pack_key(builder.id), 0, HEADER)))
    for content, (name, offset, sealed, length, size) in zip(CONTENTS, entries, strict=True):
        stored = store.get(pack_key(builder.id), offset, sealed)
        found, plain = open_blob(stored, cipher, offset, name, length, full_keys().names)
        assert (plain, bytes(found), size) == (content, member(content), len(found))
        assert open_member(found, length) == content


def test_the_format_is_as_documented_and_opens_without_our_code() -> None:
    keys = full_keys()
    sealer = Sealer(keys)
    builder = filled(sealer, CONTENTS)
    data = bytes(builder.finish())
    sealed, count, mark = struct.unpack("<II8s", data[-16:])
    assert (count, mark) == (3, b"RSGMPACK")
    shared = AESGCM(blake3(b"shared" + builder.id, key=keys.shared).digest())
    number = 1 << 32
    about = struct.pack("<BQ", 1, number)
    rows = shared.decrypt(number.to_bytes(12, "little"), data[-16 - sealed : -16], about)
    private = sealer.blob_key(builder.id)
    position = HEADER
    for content, (name, offset, size, length, stored) in zip(CONTENTS, _ROW.iter_unpack(rows), strict=True):
        assert (name, offset, length) == (chunk_id(content), position, len(content))
        blob = private.decrypt(
            offset.to_bytes(12, "little"), data[offset : offset + size], struct.pack("<BQ", 1, offset) + name
        )
        assert blob == struct.pack("<I", stored) + member(content) + bytes(-(4 + stored) % 128)
        position += size
    assert position == len(data) - 16 - sealed


def test_a_directory_longer_than_the_first_read_is_read_whole() -> None:
    builder, data = pack_of([struct.pack("<I", n) for n in range(6000)])
    store = MemoryStore()
    store.put(pack_key(builder.id), data)
    assert read_directory(Opener(full_keys()), store, builder.id, len(data)) == (FULL, builder.entries)
    assert len(verify_pack(builder.id, data, Opener(full_keys())).entries) == 6000


def test_a_write_only_host_verifies_what_it_wrote_and_reads_directories_only() -> None:
    host = write_only_keys()
    sealer = Sealer(host)
    builder = filled(sealer, CONTENTS)
    data = bytes(builder.finish())
    assert verify_pack(builder.id, data, sealer.opener).author == WRITE_ONLY
    assert verify_pack(builder.id, data, Opener(full_keys())).author == WRITE_ONLY
    store = MemoryStore()
    store.put(pack_key(builder.id), data)
    assert read_directory(Opener(host), store, builder.id, len(data)) == (WRITE_ONLY, builder.entries)
    with pytest.raises(KeyRefused):
        verify_pack(builder.id, data, Opener(host))


def test_every_flipped_bit_is_found() -> None:
    builder, data = pack_of(CONTENTS[:2])
    opener = Opener(full_keys())
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            verify_pack(builder.id, flipped, opener)


def test_every_truncation_and_extension_is_found() -> None:
    builder, data = pack_of(CONTENTS[:2])
    opener = Opener(full_keys())
    for changed in [*(data[:length] for length in range(len(data))), data + b"\0", data + data]:
        with pytest.raises(DamagedError):
            verify_pack(builder.id, changed, opener)
        store = MemoryStore()
        store.put(pack_key(builder.id), changed)
        with pytest.raises(DamagedError):
            read_directory(opener, store, builder.id, len(changed))


def test_a_pack_under_another_name_or_of_another_repository_is_refused() -> None:
    _, data = pack_of(CONTENTS)
    with pytest.raises(DamagedError, match="wrong name"):
        verify_pack(new_id(), data, Opener(full_keys()))
    builder, data = pack_of(CONTENTS)
    with pytest.raises(RepositoryError):
        verify_pack(builder.id, data, Opener(full_keys(bytes(16))))


def test_a_pack_that_is_gone_is_told_from_a_damaged_one() -> None:
    with pytest.raises(ObjectMissing):
        read_directory(Opener(full_keys()), MemoryStore(), new_id(), 5000)


def test_damaged_chunks_are_told_and_the_others_are_whole() -> None:
    builder, data = pack_of(CONTENTS)
    hurt = bytearray(data)
    hurt[builder.entries[1].offset + 40] ^= 1
    checked = check_pack(builder.id, hurt, Opener(full_keys()))
    assert checked.damaged == [builder.entries[1]]
    assert checked.entries == builder.entries


def test_blobs_exchanged_or_from_another_pack_do_not_open() -> None:
    same = [chunk(n, 200) for n in range(2)]
    sealer = Sealer(full_keys())
    one, other = filled(sealer, same), filled(sealer, same)
    data, foreign = bytes(one.finish()), bytes(other.finish())
    (first, second) = one.entries
    assert first.sealed == second.sealed
    middle = second.offset
    end = middle + second.sealed
    opener = Opener(full_keys())
    exchanged = data[:HEADER] + data[middle:end] + data[HEADER:middle] + data[end:]
    assert len(check_pack(one.id, exchanged, opener).damaged) == 2
    replayed = data[:HEADER] + foreign[HEADER:middle] + data[middle:]
    assert check_pack(one.id, replayed, opener).damaged == [first]
    repeated = data[:HEADER] + data[HEADER:middle] + data[HEADER:middle] + data[end:]
    assert check_pack(one.id, repeated, opener).damaged == [second]


def test_a_directory_made_with_the_shared_key_only_is_refused() -> None:
    builder, data = pack_of(CONTENTS)
    forged = with_rows(builder, data, lambda entries: entries.reverse())
    with pytest.raises(DamagedError, match="not what its header says"):
        verify_pack(builder.id, data[:HEADER] + forged[HEADER:], Opener(full_keys()))


def _zero_length(entries: list[PackEntry]) -> None:
    entries[1] = entries[1]._replace(length=0)


def _gap(entries: list[PackEntry]) -> None:
    entries[1] = entries[1]._replace(offset=entries[1].offset + 128)


def _overlap(entries: list[PackEntry]) -> None:
    entries[1] = entries[1]._replace(offset=entries[0].offset)


def _beyond(entries: list[PackEntry]) -> None:
    entries[2] = entries[2]._replace(offset=1 << 31)


def _huge(entries: list[PackEntry]) -> None:
    entries[0] = entries[0]._replace(length=(16 << 20) + 1)


def _other_member(entries: list[PackEntry]) -> None:
    entries[0] = entries[0]._replace(member=entries[0].member + 128)


def _twice(entries: list[PackEntry]) -> None:
    entries[1] = entries[1]._replace(chunk=entries[0].chunk)


def _short(entries: list[PackEntry]) -> None:
    entries.pop()


@pytest.mark.parametrize(
    "change",
    [_zero_length, _gap, _overlap, _beyond, _huge, _other_member, _twice, _short, list.clear, list.reverse],
)
def test_a_hostile_directory_is_refused(change: Callable[[list[PackEntry]], object]) -> None:
    builder, data = pack_of(CONTENTS)
    assert with_rows(builder, data, lambda entries: None) == data
    with pytest.raises(DamagedError):
        verify_pack(builder.id, with_rows(builder, data, change), Opener(full_keys()))


def test_a_directory_of_another_count_is_refused() -> None:
    builder, data = pack_of(CONTENTS)
    for count in (1, 2, 4, 1 << 31):
        with pytest.raises(DamagedError, match="proper end"):
            verify_pack(builder.id, with_rows(builder, data, lambda entries: None, count), Opener(full_keys()))


def _found_before_it_is_put(name: bytes, length: int, stored: bytes) -> None:
    builder = PackBuilder(Sealer(full_keys()))
    builder.add(name, length, stored)
    data = bytes(builder.finish())
    checked = check_pack(builder.id, data, Opener(full_keys()))
    assert checked.damaged == builder.entries
    with pytest.raises(DamagedError, match="1 of its 1 chunks"):
        verify_pack(builder.id, data, Opener(full_keys()))


def test_a_bad_encoder_is_found_before_the_pack_is_put() -> None:
    content = chunk(5)
    _found_before_it_is_put(chunk_id(content), len(content), member(chunk(6)))
    _found_before_it_is_put(chunk_id(content), len(content) - 1, member(content))
    _found_before_it_is_put(chunk_id(content), len(content) + 1, member(content))
    _found_before_it_is_put(chunk_id(content), len(content), member(content) + b"\0")
    _found_before_it_is_put(chunk_id(content), len(content), member(content)[:-1])


def test_a_bomb_is_not_decompressed_beyond_the_expected_length() -> None:
    bomb = bytes(16 << 20)
    _found_before_it_is_put(chunk_id(bomb), 1000, member(bomb))


def test_padding_must_be_zero_and_no_longer_than_needed() -> None:
    keys = full_keys()
    content = chunk(7)
    stored, name = member(content), chunk_id(content)
    plain = struct.pack("<I", len(stored)) + stored + bytes(-(4 + len(stored)) % 128)
    cipher = Sealer(keys).blob_key(new_id())

    def opens(blob: bytes) -> None:
        sealed = cipher.encrypt((224).to_bytes(12, "little"), blob, struct.pack("<BQ", 1, 224) + name)
        open_blob(sealed, cipher, 224, name, len(content), keys.names)

    opens(plain)
    for wrong in (plain[:-1] + b"\1", plain + bytes(128), plain[:-1], b"", b"\0\0\0", b"\xff" * 256):
        with pytest.raises(DamagedError):
            opens(wrong)


@pytest.mark.parametrize("size", [20, 107, 108, 109, 236, 237, 10_000])
def test_sizes_are_rounded_up_so_that_they_tell_little(size: int) -> None:
    assert (sealed_size(size) - 16) % 128 == 0
    assert 0 <= sealed_size(size) - 16 - 4 - size < 128


def test_wrong_keys_give_no_bytes() -> None:
    builder, data = pack_of(CONTENTS)
    other = replace(full_keys(), private={2: bytes(range(9, 41))})
    with pytest.raises(DamagedError, match="data key"):
        verify_pack(builder.id, data, Opener(other))
    names = replace(full_keys(), names=bytes(32))
    assert len(check_pack(builder.id, data, Opener(names)).damaged) == 3
