"""Recipients and identities as the age tools write them: X25519 keys in Bech32 (BIP 173; C2SP, age.md).

An identity is never shown: `repr` has its public key alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resurgam.errors import KeyRefused

_RECIPIENT, _IDENTITY = "age", "age-secret-key-"
_KEY = 32
_CHECKSUM = 6
_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a file is encrypted to: a public key of 32 bytes."""

    public: bytes

    def __str__(self) -> str:
        return _encode(_RECIPIENT, self.public)


@dataclass(frozen=True, slots=True)
class Identity:
    """What opens a file: a private key of 32 bytes."""

    recipient: Recipient
    private: bytes = field(repr=False)


def parse_recipient(text: str) -> Recipient:
    """`age1…`. KeyRefused if it is none."""
    public = _decode(_RECIPIENT, text)
    if public is None:
        kind = "another kind of recipient" if text.startswith(("age1", "ssh-")) else "no recipient"
        raise KeyRefused(
            f"{_shown(text)} is {kind}, or was mistyped; archives are encrypted to X25519 recipients, `age1…`.",
            "`age-keygen -o key.txt` makes an identity and shows its recipient.",
        )
    return Recipient(public)


def parse_identities(text: str) -> tuple[Identity, ...]:
    """An identity file as age-keygen writes it: one a line, lines that begin with `#` are comments.

    KeyRefused, which quotes nothing of it, if a line is no X25519 identity or there is none.
    """
    if text.startswith(("age-encryption.org/", "-----BEGIN AGE")):
        raise KeyRefused(
            "The identity file is itself encrypted.", "Decrypt it with `age -d`, into a file that only you can read."
        )
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        private = _decode(_IDENTITY, line)
        if private is None:
            raise KeyRefused(
                f"Line {number} of the identity file is no X25519 identity, or was mistyped.",
                "It has the form AGE-SECRET-KEY-1…, as age-keygen writes it.",
            )
        found.append(identity(private))
    if not found:
        raise KeyRefused("The identity file holds no identity.", "`age-keygen -o key.txt` makes one.")
    return tuple(found)


def identity(private: bytes) -> Identity:
    """The identity of a private key."""
    # Imported only where there is one: it is slow, and every command has this module.
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return Identity(Recipient(X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()), private)


def identity_text(one: Identity) -> str:
    """As age-keygen writes it: a secret."""
    return _encode(_IDENTITY, one.private).upper()


def _shown(text: str) -> str:
    """A beginning that tells which one is meant, and is no secret even where an identity was given by mistake."""
    return repr("".join(character if character.isprintable() else "?" for character in text[:12]) + "…")


def _encode(prefix: str, data: bytes) -> str:
    values = _regroup(data, 8, 5, pad=True) or []
    polymod = _polymod(_expand(prefix) + values + [0] * _CHECKSUM) ^ 1
    check = [polymod >> 5 * (_CHECKSUM - 1 - i) & 31 for i in range(_CHECKSUM)]
    return prefix + "1" + "".join(_LETTERS[value] for value in values + check)


def _decode(prefix: str, text: str) -> bytes | None:
    """The 32 bytes behind a key of that kind; None if it is none."""
    lower = text.lower()
    if text not in (lower, text.upper()) or not lower.startswith(prefix + "1"):
        return None
    values = [_LETTERS.find(letter) for letter in lower[len(prefix) + 1 :]]
    if -1 in values or len(values) < _CHECKSUM or _polymod(_expand(prefix) + values) != 1:
        return None
    data = _regroup(bytes(values[:-_CHECKSUM]), 5, 8, pad=False)
    return bytes(data) if data is not None and len(data) == _KEY else None


def _expand(prefix: str) -> list[int]:
    codes = prefix.encode()
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, factor in enumerate(_GENERATOR):
            if top >> i & 1:
                check ^= factor
    return check


def _regroup(data: bytes, have: int, want: int, *, pad: bool) -> list[int] | None:
    """Bits in groups of another size. Without `pad`, None where what is left over is more than padding of zeros."""
    held, bits, out = 0, 0, []
    for value in data:
        held, bits = held << have | value, bits + have
        while bits >= want:
            bits -= want
            out.append(held >> bits)
            held &= (1 << bits) - 1
    if pad:
        return [*out, held << (want - bits)] if bits else out
    return out if bits < have and not held else None
