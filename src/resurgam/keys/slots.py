"""Slots of the key ring: the access key, wrapped once for everybody who may open the repository (sentence 26).

A passphrase slot wraps by Argon2id, the others to an age recipient (X25519), whose identity opens it. A kit's slot is
one whose identity was printed: the recovery kit.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import pyrage

from resurgam.errors import KeyRefused, UsageError
from resurgam.keys.sealed import SALT, passphrase_key, seal, unseal
from resurgam.keys.secrets import KEY
from resurgam.settings.secret import Secret

SlotKind = Literal["passphrase", "age", "kit"]
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Slot:
    """One way to open the ring. `id` has 8 hexadecimal digits; `name` is what people call it.

    A passphrase slot has a `salt`, the others a `recipient`; only a kit's can be `proven`: when it last was.
    """

    id: str
    kind: SlotKind
    name: str
    created: datetime
    wrapped: bytes = field(repr=False)
    salt: bytes = field(default=b"", repr=False)
    recipient: str = ""
    proven: datetime | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """An age identity, which opens what was encrypted to its recipient."""

    text: Secret

    @property
    def recipient(self) -> str:
        return str(_identity(self.text.reveal()).to_public())


def parse_identity(text: str) -> Identity:
    """KeyRefused if it is none. Its text is kept as age writes it: in capitals."""
    canonical = str(_identity(text.strip()))
    return Identity(Secret(canonical))


def new_identity() -> Identity:
    return Identity(Secret(str(pyrage.x25519.Identity.generate())))


def check_recipient(recipient: str) -> str:
    """The recipient as age writes it. UsageError if it is none of X25519."""
    try:
        return str(pyrage.x25519.Recipient.from_str(recipient.strip()))
    except pyrage.RecipientError:
        if recipient.strip().upper().startswith("AGE-SECRET-KEY-"):
            raise UsageError(
                "That is an identity, which is secret, rather than a recipient; nothing was changed.",
                "`age-keygen -y FILE` prints its recipient. The identity may now stand in your shell's history.",
            ) from None
        raise UsageError(
            "That is no age recipient (age1 and 58 characters); nothing was changed.",
            "`age-keygen -y FILE` prints the recipient of an identity.",
        ) from None


def check_name(name: str) -> str:
    """UsageError if people could not read it in one line."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise UsageError(f"A slot's name is 1 to {LONGEST_NAME} printable characters; nothing was changed.")
    return name.strip()


def passphrase_slot(access: bytes, repository: bytes, passphrase: str, name: str, when: datetime) -> Slot:
    """A new slot; that the passphrase is good enough was checked."""
    slot_id, salt = _new_id(), secrets.token_bytes(SALT)
    wrapped = seal(passphrase_key(passphrase, salt), repository, f"slot {slot_id}", access)
    return Slot(slot_id, "passphrase", name, when, wrapped, salt=salt)


def recipient_slot(
    access: bytes, recipient: str, name: str, when: datetime, kind: Literal["age", "kit"] = "age"
) -> Slot:
    """A new slot for a recipient that was checked."""
    return Slot(_new_id(), kind, name, when, wrap_to(access, recipient), recipient=recipient)


def wrap_to(access: bytes, recipient: str) -> bytes:
    return bytes(pyrage.encrypt(access, [pyrage.x25519.Recipient.from_str(recipient)]))


def open_by_passphrase(slot: Slot, repository: bytes, passphrase: str) -> bytes | None:
    """The access key; None if it is another passphrase's slot."""
    return unseal(passphrase_key(passphrase, slot.salt), repository, f"slot {slot.id}", slot.wrapped)


def open_by_identity(slot: Slot, identity: Identity) -> bytes | None:
    """The access key; None if it was not wrapped to this identity, whatever the slot says."""
    try:
        access = bytes(pyrage.decrypt(slot.wrapped, [_identity(identity.text.reveal())]))
    except pyrage.DecryptError:
        return None
    return access if len(access) == KEY else None


def _new_id() -> str:
    return secrets.token_hex(4)


def _identity(text: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        raise KeyRefused(
            "That is no age identity (AGE-SECRET-KEY-1 and 58 characters), or it was mistyped.",
            "`age-keygen` makes one; identities with a passphrase, of SSH or of plugins are not taken.",
        ) from None
