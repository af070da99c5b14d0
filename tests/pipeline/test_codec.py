"""One chunk, one gzip member: any gzip reads it, and nothing but exactly that member is taken back (1 and 19)."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.errors import DamagedError
from resurgam.pipeline.codec import (
    STORED_OVERHEAD,
    InflateError,
    extra_field,
    marked_member,
    member,
    open_member,
    stored_member,
    stream_members,
)
from tests.sampling import randomness

SIZES = [0, 1, 511, 512, 513, 65_535, 65_536, 1 << 20, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9 << 20]


def content(size: int, kind: str = "text") -> bytes:
    if kind == "zeros":
        return bytes(size)
    if kind == "noise":
        return randomness("codec").randbytes(size)
    return (b"0123456789 a report of nothing new\n" * (size // 35 + 1))[:size]


@pytest.mark.parametrize("kind", ["text", "zeros", "noise"])
@pytest.mark.parametrize("size", SIZES)
def test_a_member_is_gzip_that_others_read(size: int, kind: str) -> None:
    data = content(size, kind)
    stored = member(data)
    assert gzip.decompress(stored) == data
    assert open_member(stored, size) == data
    assert b"".join(stream_members([stored])) == data


def test_sentence_1_no_time_and_no_system_in_the_header() -> None:
    for stored in (member(b"x"), stored_member(b"x"), marked_member(b"x", b"Rs", b"")):
        assert stored[:3] == b"\x1f\x8b\x08"
        assert stored[4:8] == bytes(4)
        assert stored[9] == 255


@pytest.mark.parametrize("size", [0, 1, 512, 65_535])
def test_sentence_13_a_stored_member_has_a_fixed_length(size: int) -> None:
    data = content(size, "noise")
    assert len(stored_member(data)) == size + STORED_OVERHEAD
    assert gzip.decompress(stored_member(data)) == data
    assert open_member(stored_member(data), size) == data


def test_sentence_13_a_reserved_header_takes_535_bytes() -> None:
    assert len(stored_member(bytes(512))) == 535


@given(st.binary(max_size=300), st.binary(min_size=2, max_size=2), st.binary(max_size=200))
def test_an_extra_field_is_found_and_ignored_by_gzip(data: bytes, subfield: bytes, extra: bytes) -> None:
    stored = marked_member(data, subfield, extra)
    assert extra_field(stored, subfield) == extra
    assert gzip.decompress(stored) == data


@given(st.binary(max_size=64))
def test_an_extra_field_of_any_bytes_never_raises(head: bytes) -> None:
    for start in (b"", b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"):
        found = extra_field(start + head, b"Rs")
        assert found is None or isinstance(found, bytes)


@pytest.mark.parametrize("claimed", [0, 1, 99_999, 100_001, 1 << 40])
def test_sentence_19_a_member_of_another_length_is_refused(claimed: int) -> None:
    with pytest.raises(DamagedError):
        open_member(member(content(100_000)), claimed)


def test_more_than_one_member_is_refused() -> None:
    one = member(b"abc")
    for stored in (one + one, one + b"\0", one[:-1], b"", one + b"x" * 40):
        with pytest.raises(DamagedError):
            open_member(stored, 3)


def test_every_flipped_bit_is_refused_or_gives_the_same_bytes() -> None:
    """The content is never wrong; what else was changed, the index's checks of stored bytes find."""
    data = content(3_000)
    stored = member(data)
    for position in range(len(stored)):
        for bit in range(8):
            changed = bytearray(stored)
            changed[position] ^= 1 << bit
            try:
                assert open_member(bytes(changed), len(data)) == data
            except DamagedError:
                continue


def test_a_bomb_is_not_inflated() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    stored = bomb.compress(bytes(64 << 20)) + bomb.flush()
    with pytest.raises(DamagedError):
        open_member(stored, 1_000)


@given(st.lists(st.sampled_from(SIZES[:8]), max_size=5), st.integers(1, 5_000), st.sampled_from([512, 4096, 1 << 20]))
def test_members_stream_whatever_the_blocks_are(sizes: list[int], step: int, limit: int) -> None:
    whole = b"".join(content(size) for size in sizes)
    stored = b"".join(member(content(size)) for size in sizes)
    step = max(step, len(stored) // 200)
    pieces = list(stream_members([stored[i : i + step] for i in range(0, len(stored), step)], limit))
    assert b"".join(pieces) == whole
    assert all(0 < len(piece) <= limit for piece in pieces)


def test_zeros_after_and_between_members_are_ignored() -> None:
    assert b"".join(stream_members([member(b"a") + bytes(9), bytes(512), member(b"b"), bytes(5)])) == b"ab"


@pytest.mark.parametrize("lost", [1, 4, 8, 9, 20])
def test_a_cut_stream_is_damaged(lost: int) -> None:
    stored = member(content(5_000, "noise"))
    with pytest.raises((DamagedError, InflateError)):
        list(stream_members([stored, stored[:-lost]]))


@pytest.mark.parametrize("garbage", [b"x", b"\x1f", b"\x1f\x8b\x08", b"garbage after the end" * 9])
def test_garbage_after_the_last_member_is_refused(garbage: bytes) -> None:
    for blocks in ([member(b"abc") + garbage], [member(b"abc"), garbage]):
        with pytest.raises((DamagedError, InflateError)):
            list(stream_members(blocks))


@given(st.binary(max_size=200))
def test_noise_raises_nothing_unforeseen(noise: bytes) -> None:
    for stored in (noise, b"\x1f\x8b\x08" + noise, member(b"")[:10] + noise):
        with suppress(DamagedError, InflateError):
            list(stream_members([stored]))
        with pytest.raises(DamagedError):
            open_member(stored, 1 << 30)
