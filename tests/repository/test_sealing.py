from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from resurgam.errors import DamagedError, KeyRefused, RepositoryError
from resurgam.keys.secrets import Secrets
from resurgam.repository.sealing import FRAME, FULL, HEADER, TAG, WRITE_ONLY, Kind, Opener, Sealer
from tests.repository.fixed_keys import OBJECT, full_keys, write_only_keys

TEXT = b'{"outcome":"committed"}'
_FOREIGN = bytes(range(50, 66))
FULL_ONLY = (Kind.TOMBSTONE, Kind.RECORD, Kind.DAMAGE, Kind.CHECKED)


def sealed(kind: Kind, text: bytes = TEXT, keys: Secrets | None = None, object_id: bytes = OBJECT) -> bytes:
    return bytes(Sealer(keys or full_keys()).seal_text(kind, object_id, text))


def opened(kind: Kind, data: bytes, keys: Secrets | None = None, object_id: bytes = OBJECT) -> bytes:
    return Opener(keys or full_keys()).open_text(kind, object_id, data)


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME])
@pytest.mark.parametrize("kind", [Kind.INDEX, Kind.MANIFEST])
def test_a_text_of_any_length_comes_back_in_frames_of_one_mebibyte(kind: Kind, size: int) -> None:
    text = (b"0123456789abcdef!" * (size // 17 + 1))[:size]
    data = sealed(kind, text)
    assert len(data) == HEADER + 8 + size + max(1, -(-size // FRAME)) * TAG
    assert opened(kind, data) == text
    pieces = [text[at : at + 300_007] for at in range(0, size, 300_007)]
    again = Sealer(full_keys()).seal_pieces(kind, OBJECT, size, pieces)
    assert opened(kind, bytes(again)) == text


def test_the_format_is_as_documented_and_opens_without_our_code() -> None:
    keys = full_keys()
    assert keys.auth_full is not None
    data = sealed(Kind.OUTCOME)
    fields = struct.unpack("<8sHBB16s16sI80s32s", data[:160])
    assert fields == (b"RSGMOBJ1", 1, 4, 1, keys.repository, OBJECT, 0, bytes(80), blake3(data[224:]).digest())
    assert data[160:192] == blake3(data[:160], key=keys.auth_shared).digest()
    assert data[192:224] == blake3(data[:192], key=keys.auth_full).digest()
    shared = blake3(b"shared" + OBJECT, key=keys.shared).digest()
    about = struct.pack("<QBQ", len(TEXT), 4, 0)
    assert AESGCM(shared).decrypt(bytes(12), data[232:], about) == TEXT


@pytest.mark.parametrize("kind", [Kind.OUTCOME, Kind.MANIFEST])
def test_every_flipped_bit_is_found(kind: Kind) -> None:
    data = sealed(kind)
    opener = Opener(full_keys())
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            opener.open_text(kind, OBJECT, flipped)


@pytest.mark.parametrize("kind", [Kind.OUTCOME, Kind.MANIFEST])
def test_every_truncation_and_extension_is_found(kind: Kind) -> None:
    data = sealed(kind)
    opener = Opener(full_keys())
    for changed in [*(data[:length] for length in range(len(data))), data + b"\0", data + data]:
        with pytest.raises(DamagedError):
            opener.open_text(kind, OBJECT, changed)


def test_an_object_under_another_name_or_kind_is_refused() -> None:
    data = sealed(Kind.OUTCOME)
    with pytest.raises(DamagedError, match="wrong name"):
        opened(Kind.OUTCOME, data, object_id=_FOREIGN)
    for kind in set(Kind) - {Kind.OUTCOME}:
        with pytest.raises(DamagedError, match="wrong name"):
            opened(kind, data)


def test_an_object_of_another_repository_is_told_from_damage() -> None:
    with pytest.raises(RepositoryError, match="another repository"):
        opened(Kind.OUTCOME, sealed(Kind.OUTCOME, keys=full_keys(_FOREIGN)))
    # The same keys under another id: nothing but the id differs.
    with pytest.raises(RepositoryError, match="another repository"):
        opened(Kind.OUTCOME, sealed(Kind.OUTCOME, keys=replace(full_keys(), repository=_FOREIGN)))


def test_an_object_of_a_later_version_is_told_from_damage() -> None:
    keys = full_keys()
    data = bytearray(sealed(Kind.OUTCOME))
    data[8:10] = struct.pack("<H", 2)
    _sign(data, keys)
    with pytest.raises(RepositoryError, match="later"):
        opened(Kind.OUTCOME, bytes(data))


def test_frames_exchanged_or_replayed_do_not_open_even_under_a_right_digest() -> None:
    keys = full_keys()
    data = sealed(Kind.INDEX, b"a" * FRAME + b"b" * FRAME)
    first, second = data[232 : 232 + FRAME + TAG], data[232 + FRAME + TAG :]
    for frames in (second + first, first + first, second + second):
        forged = bytearray(data[:232] + frames)
        _sign(forged, keys)
        with pytest.raises(DamagedError, match="does not open"):
            opened(Kind.INDEX, bytes(forged))


def test_a_text_cut_at_a_frames_end_does_not_open_even_under_a_right_digest() -> None:
    data = sealed(Kind.INDEX, b"a" * FRAME + b"b" * FRAME)
    cut = bytearray(data[:224] + struct.pack("<Q", FRAME) + data[232 : 232 + FRAME + TAG])
    _sign(cut, full_keys())
    with pytest.raises(DamagedError, match="does not open"):
        opened(Kind.INDEX, bytes(cut))


def test_other_content_under_an_old_header_is_refused() -> None:
    """A machine with the shared key can seal frames for any object; the header says which it was made for."""
    signed = sealed(Kind.RECORD, b'{"manifests":[]}')
    forger = replace(full_keys(), auth_full=None)
    forged = Sealer(forger).seal_text(Kind.RECORD, OBJECT, b'{"manifests":["all"]}')
    with pytest.raises(DamagedError, match="not what its header says"):
        opened(Kind.RECORD, signed[:HEADER] + bytes(forged[HEADER:]))
    with pytest.raises(DamagedError):
        opened(Kind.RECORD, signed[:HEADER] + sealed(Kind.RECORD, object_id=_FOREIGN)[HEADER:])


def test_a_forged_author_is_refused_by_the_full_key() -> None:
    """Whoever holds the shared keys only can't say that the full key wrote."""
    for mac in (bytes(32), bytes(range(32)), None):
        data = bytearray(sealed(Kind.INDEX, keys=write_only_keys()))
        data[11] = FULL
        data[160:192] = blake3(data[:160], key=full_keys().auth_shared).digest()
        data[192:224] = blake3(data[:192], key=full_keys().auth_shared).digest() if mac is None else mac
        with pytest.raises(DamagedError, match="forged"):
            opened(Kind.INDEX, bytes(data))


def test_an_author_that_does_not_exist_is_refused() -> None:
    for author in (0, 3, 255):
        data = bytearray(sealed(Kind.INDEX, keys=write_only_keys()))
        data[11] = author
        data[160:192] = blake3(data[:160], key=full_keys().auth_shared).digest()
        with pytest.raises(DamagedError, match="impossible"):
            opened(Kind.INDEX, bytes(data))


@pytest.mark.parametrize("kind", FULL_ONLY)
def test_the_full_key_lets_no_write_only_host_decide(kind: Kind) -> None:
    data = sealed(kind, keys=write_only_keys())
    with pytest.raises(DamagedError, match="may not decide"):
        opened(kind, data)


def test_a_write_only_host_reads_what_is_shared_and_nothing_private() -> None:
    host = write_only_keys()
    assert opened(Kind.OUTCOME, sealed(Kind.OUTCOME), keys=host) == TEXT
    with pytest.raises(KeyRefused):
        opened(Kind.MANIFEST, sealed(Kind.MANIFEST), keys=host)
    for kind in (Kind.INDEX, Kind.MANIFEST):
        data = sealed(kind, keys=host)
        assert data[11] == WRITE_ONLY and data[192:224] == bytes(32)
        assert opened(kind, data) == TEXT
    with pytest.raises(KeyRefused):
        opened(Kind.MANIFEST, sealed(Kind.MANIFEST, keys=host), keys=host)


def test_a_run_reads_what_it_wrote_itself() -> None:
    sealer = Sealer(write_only_keys())
    data = sealer.seal_text(Kind.MANIFEST, OBJECT, TEXT)
    assert sealer.opener.open_text(Kind.MANIFEST, OBJECT, data) == TEXT


def test_one_run_has_one_data_key_and_two_have_two() -> None:
    sealer = Sealer(full_keys())
    first, second = (sealer.seal_text(Kind.MANIFEST, bytes([n]) * 16, TEXT) for n in (1, 2))
    assert first[48:128] == second[48:128] != sealed(Kind.MANIFEST)[48:128]
    assert first[HEADER:] != second[HEADER:]


def test_an_object_of_an_epoch_that_is_not_known_is_refused() -> None:
    data = sealed(Kind.MANIFEST)
    old = replace(full_keys(), private={1: full_keys().private[1]})
    with pytest.raises(KeyRefused, match="epoch 2"):
        opened(Kind.MANIFEST, data, keys=old)


def test_nothing_is_sealed_under_a_wrong_length() -> None:
    with pytest.raises(ValueError, match="announced"):
        Sealer(full_keys()).seal_pieces(Kind.INDEX, OBJECT, 5, [b"1234"])


def _sign(data: bytearray, keys: Secrets) -> None:
    """Make digest and MACs right again, as a writer with all keys would."""
    assert keys.auth_full is not None
    data[128:160] = blake3(data[224:]).digest()
    data[160:192] = blake3(data[:160], key=keys.auth_shared).digest()
    data[192:224] = blake3(data[:192], key=keys.auth_full).digest()
