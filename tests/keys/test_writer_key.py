"""A write-only host's file (docs/repository-format.md, sentence 5)."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from resurgam.errors import DamagedError, KeyRefused, RepositoryError, UsageError
from resurgam.keys.open_ring import create_ring, unlock_by_identity
from resurgam.keys.ring import checksum, encode, sign
from resurgam.keys.secrets import derive, new_data_key, new_private_key, public_key, unwrap_data_key
from resurgam.keys.writer_key import (
    decode_writer_key,
    encode_writer_key,
    read_writer_key,
    with_newest_epoch,
    write_writer_key,
    writer_key,
)
from tests.keys.rings import PASSPHRASE, REPOSITORY, WHEN, forged, opened_ring


def test_it_comes_back_without_what_reads(tmp_path: Path) -> None:
    opened, *_ = opened_ring()
    path = tmp_path / "writer.json"
    write_writer_key(path, writer_key(opened))
    assert path.stat().st_mode & 0o777 == 0o600
    key = read_writer_key(path)
    full = opened.secrets
    assert key.secrets == replace(full, auth_full=None, ring=None, private={})
    assert not key.secrets.can_read
    with pytest.raises(UsageError, match="is there already"):
        write_writer_key(path, key)


def test_nothing_in_the_file_reads_or_signs() -> None:
    opened, *_ = opened_ring()
    full = opened.secrets
    text = encode_writer_key(writer_key(opened))
    secrets = [opened.access, opened.root, *opened.private.values(), full.auth_full, full.ring]

    for secret in secrets:
        assert secret is not None
        assert b64encode(secret) not in text
        assert secret.hex().encode() not in text


def test_a_host_writes_what_it_can_not_read() -> None:
    opened, *_ = opened_ring()
    host = with_newest_epoch(decode_writer_key(encode_writer_key(writer_key(opened))), opened.ring)
    data_key = new_data_key(host)
    assert unwrap_data_key(opened.secrets, data_key.epoch, data_key.wrapped) == data_key.key
    with pytest.raises(KeyRefused, match="write-only"):
        unwrap_data_key(host, data_key.epoch, data_key.wrapped)


def test_a_newer_epoch_comes_from_the_ring() -> None:
    opened, ops, _ = opened_ring()
    key = writer_key(opened)
    rotated, _ = unlock_by_identity(opened.ring, ops).rotate(WHEN)
    host = with_newest_epoch(key, rotated.ring)
    data_key = new_data_key(host)
    assert data_key.epoch == 2
    assert unwrap_data_key(rotated.secrets, 2, data_key.wrapped) == data_key.key
    with pytest.raises(KeyRefused):
        unwrap_data_key(opened.secrets, 2, data_key.wrapped)


def test_a_broken_host_can_not_make_others_encrypt_to_its_key() -> None:
    """It knows all that is in its file, and may write anything to the store."""
    opened, *_ = opened_ring()
    key = writer_key(opened)
    his = new_private_key()

    ring = forged(
        encode(opened.ring), lambda fields: fields["epochs"][0].update(public=b64encode(public_key(his)).decode())
    )
    signed = [
        sign(ring, derive(secret, REPOSITORY, "ring"))
        for secret in (key.secrets.auth_shared, key.secrets.shared, key.secrets.names, key.verifying)
    ]
    for attempt in (ring, *signed, sign(ring, key.secrets.auth_shared), sign(ring, key.verifying)):
        with pytest.raises(DamagedError, match="not made by a holder"):
            with_newest_epoch(key, attempt)


def test_an_older_or_foreign_ring_is_refused() -> None:
    opened, ops, _ = opened_ring()
    rotated, _ = unlock_by_identity(opened.ring, ops).rotate(WHEN)
    with pytest.raises(RepositoryError, match="an older one was put in its place"):
        with_newest_epoch(writer_key(rotated), opened.ring)
    with pytest.raises(RepositoryError, match="generation is 2, and this writer key knows 3"):
        with_newest_epoch(writer_key(opened.remove("ops")), opened.ring)
    with pytest.raises(RepositoryError, match="and this is ffff"):
        with_newest_epoch(writer_key(opened), create_ring(b"\xff" * 16, WHEN, PASSPHRASE).ring)


def test_a_damaged_file_is_refused_and_not_shown() -> None:
    good = encode_writer_key(writer_key(opened_ring()[0]))
    fields = json.loads(good)
    values: tuple[object, ...] = (None, 0, "", "AAAA", [], {}, -1)
    broken = [{**fields, name: value} for name in fields for value in values]
    for one in [*broken, *({k: v for k, v in fields.items() if k != name} for name in fields)]:
        if one.get("check") == fields["check"]:  # changed by hand, not by the disk
            one["check"] = checksum({name: value for name, value in one.items() if name != "check"})
        with pytest.raises((DamagedError, RepositoryError)) as caught:
            decode_writer_key(json.dumps(one).encode())
        assert fields["names"] not in caught.value.message + caught.value.hint
    for nonsense in (b"", b"[]", b"[" * 60_000, b"\xff", b" " * 70_000, good[:-40]):
        with pytest.raises(DamagedError):
            decode_writer_key(nonsense)
    with pytest.raises(RepositoryError, match="version 2"):
        decode_writer_key(json.dumps({**fields, "version": 2}).encode())


def test_every_flipped_bit_is_refused() -> None:
    good = encode_writer_key(writer_key(opened_ring()[0]))
    for position in range(len(good) - 1):
        for bit in range(8):
            flipped = bytearray(good)
            flipped[position] ^= 1 << bit
            with pytest.raises((DamagedError, RepositoryError)):
                decode_writer_key(bytes(flipped))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="can not be read"):
        read_writer_key(tmp_path / "gone")
