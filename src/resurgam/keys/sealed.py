"""Sealed values of the key ring, and the key that a passphrase gives (docs/repository-format.md, sentences 25 and 26).

A passphrase is text. It is normalised by NFKC (Unicode's annex 15), so that it is the same whichever keyboard or
system it was typed on: `é` as one character or as two, a no-break space as a blank. Case and blanks count. Nothing
here shows a secret: not in a message, not in a repr.
"""

from __future__ import annotations

import secrets
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from resurgam.errors import KeyRefused
from resurgam.keys.secrets import KEY

NONCE = 12
TAG = 16
SALT = 16
# The second recommendation of RFC 9106, section 4: for where 2 GiB are too much.
ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES = 65536, 3, 4
# Whoever can read the repository can try passphrases at home, as long as they like.
_SHORTEST = 8
_LONGEST = 4096


def seal(key: bytes, repository: bytes, name: str, plaintext: bytes) -> bytes:
    """A nonce and the sealed value; it opens only under the same name, in the same repository."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, repository + name.encode())


def unseal(key: bytes, repository: bytes, name: str, sealed: bytes) -> bytes | None:
    """The value; None if it was not sealed under that key and name, or was changed."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], repository + name.encode())
    except (InvalidTag, ValueError):
        return None


def passphrase_key(passphrase: str, salt: bytes) -> bytes:
    """The key of a passphrase, by Argon2id: a fraction of a second, and 64 MiB. KeyRefused if it is no text."""
    return Argon2id(
        salt=salt, length=KEY, iterations=ARGON2_PASSES, lanes=ARGON2_LANES, memory_cost=ARGON2_MEMORY_KIB
    ).derive(_normalised(passphrase))


def check_new_passphrase(passphrase: str) -> None:
    """KeyRefused if it is too short to protect anything, or can't be typed."""
    _normalised(passphrase)
    if len(passphrase) < _SHORTEST:
        raise KeyRefused(
            f"The new passphrase has fewer than {_SHORTEST} characters; nothing was changed.",
            "Six random words are easy to write down and hard to guess.",
        )


def _normalised(passphrase: str) -> bytes:
    if not passphrase or len(passphrase) > _LONGEST:
        raise KeyRefused(f"A passphrase must have between 1 and {_LONGEST} characters.")
    # Looked for beforehand: the error of encode() holds the passphrase, and would stay in the chain of ours.
    if any("\ud800" <= character <= "\udfff" for character in passphrase):
        raise KeyRefused("The passphrase is not UTF-8 text.", "Write it in plain characters.")
    return unicodedata.normalize("NFKC", passphrase).encode()
