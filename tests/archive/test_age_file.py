"""The age format: files of the age tool and of rage at every length, and headers that nobody should write.

Sentences 33, 34 and 38 of docs/archive-format.md.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyrage
import pytest

from resurgam.archive import age_header
from resurgam.archive.age_file import CHUNK, AgeFile
from resurgam.archive.opening import open_archive
from resurgam.archive.sealing import ArchiveKeys
from resurgam.archive.stored import StoredFile
from resurgam.errors import ArchiveError, DamagedError, KeyRefused
from resurgam.settings.secret import Secret
from tests.archive.sealed import IDENTITY, KEYS, PASSPHRASE, write_sealed
from tests.archive.trees import NAME, manual_plan, noise


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age_header, "WORK_FACTOR", 8)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 16 * CHUNK, 16 * CHUNK + 1, 40 * CHUNK])
def test_files_of_the_age_tool_are_read_at_every_length(tmp_path: Path, size: int) -> None:
    data, path = noise(size), tmp_path / "x.age"
    subprocess.run(["age", "-r", str(IDENTITY.recipient), "-o", path], input=data, check=True)
    file = AgeFile(StoredFile(path), KEYS["recipients"])
    assert file.size == size
    for offset in {0, 1, CHUNK - 1, CHUNK, size // 2, max(0, size - 1), size, size + 5}:
        for length in (0, 1, 100, CHUNK, 3 * CHUNK + 7, size):
            assert file.read(offset, length) == data[offset : offset + length]
    file.close()


def test_files_of_rage_with_a_passphrase_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.age"
    path.write_bytes(pyrage.passphrase.encrypt(b"salve", PASSPHRASE))
    file = AgeFile(StoredFile(path), KEYS["passphrase"])
    assert file.read(0, 100) == b"salve"
    file.close()


def test_a_header_that_asks_for_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sealed(tmp_path, manual_plan(), "passphrase")
    data = path.read_bytes()
    path.write_bytes(data.replace(b" 8\n", b" 22\n", 1))
    with pytest.raises(ArchiveError, match="4096 MiB"):
        open_archive(path, ArchiveKeys(lambda: Secret(PASSPHRASE)))


def test_malformed_headers_are_damaged(tmp_path: Path) -> None:
    good = write_sealed(tmp_path, manual_plan(), "recipients")
    data = good.read_bytes()
    lines = data.split(b"\n")
    path = tmp_path / f"{NAME}.tar.gz.age"
    for bad in (
        b"",
        b"age-encryption.org/v1",
        b"age-encryption.org/v1\n--- " + lines[5][4:] + b"\n",
        b"age-encryption.org/v2\n" + data[22:],
        data.replace(b"-> X25519 ", b"-> X25519  ", 1),
        data.replace(b"-> X25519 ", b"->  ", 1),
        data.replace(b"-> X25519 ", b"-> scrypt ", 1),
        data.replace(b"\n---", b"=\n---", 1),
        b"age-encryption.org/v1\n" + b"-> grease\n\n" * 100 + data[22:],
        b"age-encryption.org/v1\n" + (b"-> grease\n" + b"A" * 64 + b"\n") * 2000,
        data[:22] + b"-> X25519 " + b"A" * 43 + b"\n" + lines[2] + b"\n" + data[data.index(b"\n---") + 1 :],
    ):
        path.write_bytes(bad)
        with pytest.raises((DamagedError, KeyRefused)):
            open_archive(path, ArchiveKeys(ask_identities=lambda: (IDENTITY,)))


def test_unknown_stanzas_are_passed_over(tmp_path: Path) -> None:
    """pyrage adds such stanzas ("grease") to keep readers honest; age plugins have their own kinds."""
    path = tmp_path / "x.age"
    recipient = pyrage.x25519.Recipient.from_str(str(IDENTITY.recipient))
    for _ in range(20):
        path.write_bytes(pyrage.encrypt(b"salve", [recipient]))
        file = AgeFile(StoredFile(path), KEYS["recipients"])
        assert file.read(0, 5) == b"salve"
        file.close()
