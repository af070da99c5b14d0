"""A write-only host's keys, in a file (docs/repository-format.md, sentence 5): enough to add backups, and to read none.

The newest epoch comes from the key ring at each run, so that a rotation needs no new file. The ring must be signed by
the repository's root: whoever broke into one such host can't make others encrypt to a key of his.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resurgam.durable import create_file
from resurgam.errors import DamagedError, KeyRefused, RepositoryError, StorageError, UsageError
from resurgam.keys.open_ring import OpenRing
from resurgam.keys.ring import KeyRing, canonical, checksum, signed_by, verifying_key
from resurgam.keys.secrets import ID, KEY, Epoch, Secrets, derive

FORMAT = "resurgam-writer-key"
VERSION = 1
_LARGEST = 65536
_SEED = 8
_HINT = "Make it anew where the full key is: resurgam keys writer --out FILE."


@dataclass(frozen=True, slots=True)
class WriterKey:
    """`secrets` without what reads; `verifying` checks the ring's signature; `generation` is the ring's when it was
    made."""

    secrets: Secrets
    verifying: bytes
    generation: int


def writer_key(opened: OpenRing) -> WriterKey:
    """What a write-only host is given of an opened ring."""
    full = opened.secrets
    verifying = verifying_key(derive(opened.root, full.repository, "ring"))
    secrets = Secrets(full.repository, full.epoch, full.names, full.seed, full.shared, full.auth_shared)
    return WriterKey(secrets, verifying, opened.ring.generation)


def write_writer_key(path: Path, key: WriterKey) -> None:
    """A new file of mode 0600, durable. UsageError if there is one of that name, StorageError if it can't be
    written."""
    try:
        create_file(path, encode_writer_key(key))
    except FileExistsError:
        raise UsageError(f"{path} is there already; nothing was written.", "Give another name.") from None
    except OSError as error:
        raise StorageError(f"{path} can not be written ({error.strerror}); there is no such file.") from None


def read_writer_key(path: Path) -> WriterKey:
    """KeyRefused if the file can't be read, DamagedError or RepositoryError as `decode_writer_key`."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise KeyRefused(f"The writer key {path} can not be read: {error.strerror}.", _HINT) from None
    return decode_writer_key(data)


def encode_writer_key(key: WriterKey) -> bytes:
    secrets = key.secrets
    fields = {
        "format": FORMAT,
        "version": VERSION,
        "repository": secrets.repository.hex(),
        "generation": key.generation,
        "names": _base64(secrets.names),
        "seed": _base64(secrets.seed.to_bytes(_SEED, "little")),
        "shared": _base64(secrets.shared),
        "auth_shared": _base64(secrets.auth_shared),
        "verifying": _base64(key.verifying),
        "epoch": {"number": secrets.epoch.number, "public": _base64(secrets.epoch.public)},
    }
    return canonical({**fields, "check": checksum(fields)}) + b"\n"


def decode_writer_key(data: bytes) -> WriterKey:
    """DamagedError if it is none, RepositoryError if it is of a later version."""
    try:
        read = json.loads(data) if len(data) <= _LARGEST else None
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise DamagedError("The writer key's file holds none; nothing was touched.", _HINT)
    version = read.get("version")
    if type(version) is int and version > VERSION:
        raise RepositoryError(f"The writer key is of version {version}, which this Resurgam does not know.", _HINT)
    try:
        return _key(read)
    except (KeyError, TypeError, ValueError):
        raise DamagedError("The writer key is damaged; nothing was touched.", _HINT) from None


def with_newest_epoch(key: WriterKey, ring: KeyRing) -> Secrets:
    """The host's secrets for a run, with the ring's newest epoch.

    RepositoryError if the ring is another repository's, or older than the file; DamagedError if it was forged.
    """
    if ring.repository != key.secrets.repository:
        raise RepositoryError(
            f"The writer key is for repository {key.secrets.repository.hex()}, and this is {ring.repository.hex()}; "
            "nothing was touched.",
            "Give the right one: BACKUP_WRITER_KEY_FILE.",
        )
    if not signed_by(ring, key.verifying):
        raise DamagedError(
            "The key ring was not made by a holder of the repository's keys; nothing was written.",
            "Bring back keys/ from a copy of the repository.",
        )
    if ring.generation < key.generation or ring.newest.number < key.secrets.epoch.number:
        raise RepositoryError(
            f"The key ring's generation is {ring.generation}, and this writer key knows {key.generation}: an older "
            "one was put in its place. Nothing was written.",
            "Bring back the newest keys/ from a copy of the repository.",
        )
    return replace(key.secrets, epoch=ring.newest)


def _key(read: dict[str, Any]) -> WriterKey:
    # A flipped bit in one of the keys would make backups that nobody can ever read.
    if read.pop("check") != checksum(read) or read["version"] != VERSION:
        raise ValueError
    epoch = read["epoch"]
    secrets = Secrets(
        _exactly(bytes.fromhex(read["repository"]), ID),
        Epoch(_positive(epoch["number"]), _bytes(epoch["public"], KEY)),
        names=_bytes(read["names"], KEY),
        seed=int.from_bytes(_bytes(read["seed"], _SEED), "little"),
        shared=_bytes(read["shared"], KEY),
        auth_shared=_bytes(read["auth_shared"], KEY),
    )
    return WriterKey(secrets, _bytes(read["verifying"], KEY), _positive(read["generation"]))


def _positive(number: object) -> int:
    if type(number) is not int or number < 1:
        raise ValueError
    return number


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise ValueError
    return data


def _bytes(read: str, length: int) -> bytes:
    return _exactly(base64.b64decode(read, validate=True), length)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
