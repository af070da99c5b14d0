"""What an opened repository works with: keys derived from its root, and how data keys are wrapped (sentences 3 to 5).

Nothing here is ever printed: `repr` of a secret shows no key.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from resurgam.errors import DamagedError, KeyRefused

ID = 16
KEY = 32
WRAPPED = 80
_PUBLIC = 32
_NO_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class Epoch:
    """A key pair's number, from 1, and its public key."""

    number: int
    public: bytes


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys of one repository. Without `auth_full` and `private`: those of a write-only host.

    `private` holds each epoch's private key, by its number; `epoch` is the newest, which data keys are wrapped to.
    """

    repository: bytes
    epoch: Epoch
    names: bytes = field(repr=False)
    seed: int = field(repr=False)
    shared: bytes = field(repr=False)
    auth_shared: bytes = field(repr=False)
    auth_full: bytes | None = field(default=None, repr=False)
    ring: bytes | None = field(default=None, repr=False)
    private: Mapping[int, bytes] = field(default_factory=dict, repr=False)

    @property
    def can_read(self) -> bool:
        """Whether backups can be read with these, rather than only added."""
        return self.auth_full is not None


@dataclass(frozen=True, slots=True)
class DataKey:
    """A run's data key, and how its objects tell it to whoever holds the epoch's private key."""

    epoch: int
    wrapped: bytes
    key: bytes = field(repr=False)


def derive(root: bytes, repository: bytes, name: str, length: int = KEY) -> bytes:
    """The key of that name (sentence 3)."""
    return HKDF(SHA256(), length, salt=repository, info=name.encode()).derive(root)


def full_secrets(root: bytes, repository: bytes, epochs: Mapping[int, bytes]) -> Secrets:
    """The secrets of a holder of the root and of every epoch's private key, by number."""
    newest = max(epochs)
    return Secrets(
        repository,
        Epoch(newest, public_key(epochs[newest])),
        names=derive(root, repository, "names"),
        seed=int.from_bytes(derive(root, repository, "seed", 8), "little") >> 1,  # pyfastcdc shifts it left in 64 bits
        shared=derive(root, repository, "shared"),
        auth_shared=derive(root, repository, "auth-shared"),
        auth_full=derive(root, repository, "auth-full"),
        ring=derive(root, repository, "ring"),
        private=dict(epochs),
    )


def new_private_key() -> bytes:
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def new_data_key(keys: Secrets) -> DataKey:
    """A data key for one run, wrapped to the newest epoch (sentence 4)."""
    key = secrets.token_bytes(KEY)
    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(keys.epoch.public))
    wrapping = _wrapping_key(shared, public, keys.epoch.public, keys.repository)
    return DataKey(keys.epoch.number, public + AESGCM(wrapping).encrypt(_NO_NONCE, key, None), key)


def unwrap_data_key(keys: Secrets, epoch: int, wrapped: bytes) -> bytes:
    """KeyRefused if these keys read nothing, or not of that epoch; DamagedError if it was not wrapped to it."""
    private = keys.private.get(epoch)
    if private is None:
        if not keys.can_read:
            raise KeyRefused(
                "This machine holds a write-only key, with which backups can be added and none can be read.",
                "Read it on a machine that has the passphrase, or with the recovery kit.",
            )
        raise KeyRefused(
            f"The key ring holds no key of epoch {epoch}: it is older than this backup.", "Bring back the newest keys/."
        )
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(wrapped[:_PUBLIC])
        )
        wrapping = _wrapping_key(shared, wrapped[:_PUBLIC], public_key(private), keys.repository)
        return AESGCM(wrapping).decrypt(_NO_NONCE, wrapped[_PUBLIC:], None)
    except (InvalidTag, ValueError):
        raise DamagedError("A wrapped data key does not open.") from None


def _wrapping_key(shared: bytes, ephemeral: bytes, public: bytes, repository: bytes) -> bytes:
    return HKDF(SHA256(), KEY, salt=ephemeral + public, info=b"resurgam data key" + repository).derive(shared)
