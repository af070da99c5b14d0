"""The key ring as bytes: what is read is what was written, or nothing (docs/repository-format.md, sentence 25)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.errors import DamagedError, RepositoryError
from resurgam.keys.ring import LARGEST, decode, encode, sign, signed_by, verifying_key
from tests.keys.rings import REPOSITORY, WHEN, canonical, opened_ring


def test_a_ring_comes_back_as_it_was() -> None:
    opened, _, kit = opened_ring()
    proven = opened.kit_proven("recovery kit", WHEN)
    for ring in (opened.ring, proven.ring):
        assert decode(encode(ring), REPOSITORY) == ring
    assert proven.ring.slots[2].proven == WHEN
    assert proven.ring.slots[2].recipient == kit.recipient


def test_every_flipped_bit_is_refused() -> None:
    data = encode(opened_ring()[0].ring)
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises((DamagedError, RepositoryError)):
                decode(bytes(flipped), REPOSITORY)


def test_every_cut_is_refused() -> None:
    data = encode(opened_ring()[0].ring)
    for length in range(len(data)):
        with pytest.raises(DamagedError):
            decode(data[:length], REPOSITORY)
    with pytest.raises(DamagedError):
        decode(data + b"\n", REPOSITORY)


def test_a_ring_of_another_repository_is_named_as_such() -> None:
    data = encode(opened_ring()[0].ring)
    with pytest.raises(RepositoryError, match=r"is of repository 000102\w+, and this is ffff"):
        decode(data, b"\xff" * 16)


def test_a_later_version_asks_for_a_newer_resurgam() -> None:
    fields = {"format": "resurgam-keys", "version": 2, "anything": "else"}
    with pytest.raises(RepositoryError, match="version 2") as caught:
        decode(json.dumps(fields).encode(), REPOSITORY)
    assert caught.value.hint == "Install a newer Resurgam."


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"1" * 100_000,
        b'{"format":"resurgam-keys","version":true}',
        b'{"format":"resurgam-keys","version":1e400}',
        b'{"format":"resurgam-keys","version":1}',
        b" " * (LARGEST + 1),
        b"\xff\xfe",
    ],
    ids=lambda data: repr(data[:40]),
)
def test_nonsense_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedError):
        decode(data, REPOSITORY)


_PATHS: list[tuple[Any, ...]] = [
    *((name,) for name in ("repository", "generation", "root", "epochs", "slots", "signature", "version", "check")),
    *(("epochs", 0, name) for name in ("number", "public", "private", "created")),
    *(("slots", 0, name) for name in ("id", "kind", "name", "created", "wrapped", "salt")),
    *(("slots", 2, name) for name in ("id", "kind", "name", "created", "wrapped", "recipient", "proven")),
    ("slots", 0),
    ("epochs", 0),
]
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.sampled_from(_PATHS), _ANYTHING)
def test_any_value_in_any_field_is_refused(path: tuple[Any, ...], value: object) -> None:
    fields = json.loads(encode(_RING))
    place = fields
    for step in path[:-1]:
        place = place[step]
    if place[path[-1]] == value and type(place[path[-1]]) is type(value):
        return
    place[path[-1]] = value
    with pytest.raises((DamagedError, RepositoryError)):
        decode(canonical(fields), REPOSITORY)


_RING = opened_ring()[0].ring


def test_what_is_signed_is_everything() -> None:
    opened, *_ = opened_ring()
    key = verifying_key(b"r" * 32)
    ring = sign(opened.ring, b"r" * 32)
    assert signed_by(ring, key)
    assert not signed_by(ring, verifying_key(b"s" * 32))
    for changed in (
        replace(ring, generation=9),
        replace(ring, repository=b"\xff" * 16),
        replace(ring, root=bytes(60)),
        replace(ring, slots=ring.slots[1:]),
        replace(ring, epochs=(replace(ring.epochs[0], public=bytes(32)),)),
        replace(ring, signature=bytes(64)),
    ):
        assert not signed_by(changed, key)


def test_no_secret_is_in_a_repr() -> None:
    opened, ops, _ = opened_ring()
    shown = repr(opened) + repr(opened.secrets) + repr(ops) + str(opened)
    for secret in (opened.access, opened.root, *opened.private.values(), opened.secrets.names):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
    assert "correct horse" not in shown
    assert "SECRET-KEY" not in shown
