"""The key ring as a value, read and written (docs/repository-format.md, sentences 25 to 28). No key is needed here.

What is read is anybody's: it is capped in size, checked field by field, and must be exactly what we would have written.
`check` tells damage from a wrong passphrase before anybody is asked for one; it proves nothing against a forger.
`signature` does (`signed_by`).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from resurgam.errors import DamagedError, RepositoryError
from resurgam.keys.sealed import NONCE, SALT, TAG
from resurgam.keys.secrets import ID, KEY, Epoch
from resurgam.keys.slots import LONGEST_NAME, Slot, SlotKind

FORMAT = "resurgam-keys"
VERSION = 1
LARGEST = 1 << 20
LAST_GENERATION = 99_999_999
MOST_SLOTS = 64
_SEALED = NONCE + KEY + TAG
_LARGEST_AGE_FILE = 1024
_SIGNATURE = 64
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_HINT = "Bring back keys/ from a copy of the repository; the other copy of the ring may be whole."


@dataclass(frozen=True, slots=True)
class RingEpoch:
    """A key pair; `private` is sealed under the access key."""

    number: int
    public: bytes
    private: bytes = field(repr=False)
    created: datetime


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The ring as it is stored. `root` is sealed under the access key; epochs have the numbers 1, 2, …"""

    repository: bytes
    generation: int
    root: bytes = field(repr=False)
    epochs: tuple[RingEpoch, ...]
    slots: tuple[Slot, ...]
    signature: bytes = field(default=b"", repr=False)

    @property
    def newest(self) -> Epoch:
        """The epoch that data keys are wrapped to."""
        return Epoch(self.epochs[-1].number, self.epochs[-1].public)


def sign(ring: KeyRing, key: bytes) -> KeyRing:
    """The ring with its signature by the key `ring` (sentence 3)."""
    return replace(ring, signature=Ed25519PrivateKey.from_private_bytes(key).sign(_signed_part(ring)))


def verifying_key(key: bytes) -> bytes:
    """The public half of the key `ring`: 32 bytes, by which a ring is checked and none can be made."""
    return Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def signed_by(ring: KeyRing, verifying: bytes) -> bool:
    """Whether a holder of the repository's root made this ring, as it is."""
    try:
        Ed25519PublicKey.from_public_bytes(verifying).verify(ring.signature, _signed_part(ring))
    except InvalidSignature:
        return False
    return True


def encode(ring: KeyRing) -> bytes:
    """The ring as it is stored: canonical JSON."""
    fields = {**_fields(ring), "signature": _base64(ring.signature)}
    return canonical({**fields, "check": checksum(fields)})


def decode(data: bytes, repository: bytes) -> KeyRing:
    """The ring of that repository.

    DamagedError if a single bit is not as it was written, RepositoryError if it is another repository's or of a later
    version.
    """
    if len(data) > LARGEST:
        raise _damaged("it is too large")
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        raise _damaged("it is no JSON") from None
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise _damaged("it does not say that it is one")
    version = read.get("version")
    if type(version) is int and version > VERSION:
        raise RepositoryError(
            f"The key ring is of version {version}, and this Resurgam knows version {VERSION}; nothing was touched.",
            "Install a newer Resurgam.",
        )
    try:
        ring = _ring(read)
    except _Unfit as unfit:
        raise _damaged(str(unfit)) from None
    if encode(ring) != data:
        raise _damaged("it is not as it was written")
    if ring.repository != repository:
        raise RepositoryError(
            f"The key ring is of repository {ring.repository.hex()}, and this is {repository.hex()}; "
            "nothing was touched.",
            "Somebody has copied keys/ from another repository; bring back this one's.",
        )
    return ring


def moment_json(moment: datetime) -> str:
    """UTC, in whole seconds."""
    return moment.astimezone(UTC).strftime(_MOMENT)


def canonical(fields: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no blanks, ASCII only."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def checksum(fields: Mapping[str, Any]) -> str:
    """What tells damage, and no forgery: BLAKE3 without a key."""
    return blake3(canonical(fields)).hexdigest()


class _Unfit(Exception):
    """What is wrong with a field, without its content."""


def _damaged(what: str) -> DamagedError:
    return DamagedError(f"A key ring is damaged: {what}. Nothing was touched.", _HINT)


def _fields(ring: KeyRing) -> dict[str, Any]:
    """All but what is made of it: the signature and the check."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "repository": ring.repository.hex(),
        "generation": ring.generation,
        "root": _base64(ring.root),
        "epochs": [
            {
                "number": epoch.number,
                "public": _base64(epoch.public),
                "private": _base64(epoch.private),
                "created": moment_json(epoch.created),
            }
            for epoch in ring.epochs
        ],
        "slots": [_slot_fields(slot) for slot in ring.slots],
    }


def _slot_fields(slot: Slot) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": slot.id,
        "kind": slot.kind,
        "name": slot.name,
        "created": moment_json(slot.created),
        "wrapped": _base64(slot.wrapped),
    }
    if slot.kind == "passphrase":
        return {**fields, "salt": _base64(slot.salt)}
    if slot.kind == "kit":
        fields["proven"] = None if slot.proven is None else moment_json(slot.proven)
    return {**fields, "recipient": slot.recipient}


def _signed_part(ring: KeyRing) -> bytes:
    return b"resurgam key ring" + canonical(_fields(ring))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _ring(read: dict[str, Any]) -> KeyRing:
    _check_names(read, "check epochs format generation repository root signature slots version")
    epochs = tuple(_epoch(one) for one in _list(read["epochs"], "epochs"))
    slots = tuple(_slot(one) for one in _list(read["slots"], "slots"))
    if [epoch.number for epoch in epochs] != list(range(1, len(epochs) + 1)) or not epochs:
        raise _Unfit("its epochs are not numbered from 1")
    if not 1 <= len(slots) <= MOST_SLOTS:
        raise _Unfit("it has no slots, or too many")
    if any(len(set(column)) != len(slots) for column in zip(*((slot.id, slot.name) for slot in slots), strict=True)):
        raise _Unfit("two of its slots have one id or name")
    return KeyRing(
        bytes.fromhex(_text(read["repository"], "repository", f"[0-9a-f]{{{2 * ID}}}")),
        _number(read["generation"], "generation", LAST_GENERATION),
        _bytes(read["root"], "root", _SEALED),
        epochs,
        slots,
        _bytes(read["signature"], "signature", _SIGNATURE),
    )


def _epoch(read: Any) -> RingEpoch:
    fields = _check_names(read, "created number private public")
    return RingEpoch(
        _number(fields["number"], "an epoch's number", 0xFFFFFFFF),
        _bytes(fields["public"], "an epoch's public key", KEY),
        _bytes(fields["private"], "an epoch's private key", _SEALED),
        _moment(fields["created"]),
    )


_SLOT_NAMES = {
    "passphrase": "created id kind name salt wrapped",
    "age": "created id kind name recipient wrapped",
    "kit": "created id kind name proven recipient wrapped",
}


def _slot(read: Any) -> Slot:
    kind = read.get("kind") if isinstance(read, dict) else None
    names = _SLOT_NAMES.get(kind) if isinstance(kind, str) else None
    if names is None:
        raise _Unfit("a slot is of no known kind")
    fields = _check_names(read, names)
    name = fields["name"]
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise _Unfit("a slot's name is none")
    proven = fields.get("proven")
    with_passphrase = kind == "passphrase"
    wrapped = _bytes(fields["wrapped"], "a slot", _SEALED if with_passphrase else None)
    if len(wrapped) > _LARGEST_AGE_FILE:
        raise _Unfit("a slot is too large")
    return Slot(
        _text(fields["id"], "a slot's id", "[0-9a-f]{8}"),
        cast(SlotKind, kind),
        name,
        _moment(fields["created"]),
        wrapped,
        salt=_bytes(fields["salt"], "a salt", SALT) if with_passphrase else b"",
        recipient="" if with_passphrase else _text(fields["recipient"], "a recipient", "age1[0-9a-z]{58}"),
        proven=None if proven is None else _moment(proven),
    )


def _check_names(read: Any, names: str) -> dict[str, Any]:
    if not isinstance(read, dict) or sorted(read) != names.split():
        raise _Unfit("its fields are not those of version 1")
    return read


def _list(read: Any, what: str) -> list[Any]:
    if not isinstance(read, list):
        raise _Unfit(f"{what} is no list")
    return read


def _number(read: Any, what: str, most: int) -> int:
    if type(read) is not int or not 1 <= read <= most:
        raise _Unfit(f"{what} is no number in its bounds")
    return read


def _text(read: Any, what: str, form: str) -> str:
    if not isinstance(read, str) or re.fullmatch(form, read, re.ASCII) is None:
        raise _Unfit(f"{what} is not as it must be")
    return read


def _bytes(read: Any, what: str, length: int | None) -> bytes:
    try:
        data = base64.b64decode(read, validate=True) if isinstance(read, str) else None
    except ValueError:
        data = None
    if data is None or (length is not None and len(data) != length):
        raise _Unfit(f"{what} is not as it must be")
    return data


def _moment(read: Any) -> datetime:
    try:
        return datetime.strptime(_text(read, "a moment", "[0-9TZ:-]{20}"), _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        raise _Unfit("a moment is none") from None
