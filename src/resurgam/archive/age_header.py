"""The header of an age file: for whom it is, and the file key, wrapped (C2SP, age.md; docs/archive-format.md, 33, 34).

    age-encryption.org/v1
    -> X25519 EPHEMERAL_SHARE        or    -> scrypt SALT LOG2_N
    WRAPPED_FILE_KEY
    --- MAC

Base64 without padding, bodies in lines of 64 columns of which the last is shorter.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from resurgam.errors import ArchiveError, DamagedError, KeyRefused
from resurgam.keys.age import Identity, Recipient
from resurgam.settings.secret import Secret

MAGIC = b"age-encryption.org/v1\n"
MAX_HEADER = 64 << 10
FILE_KEY = 16
WORK_FACTOR = 17
_MAX_WORK_FACTOR = 20
_MAX_STANZAS = 64
_COLUMNS = 64
_SALT = 16
_WRAPPED = FILE_KEY + 16
_NO_NONCE = bytes(12)
_X25519, _SCRYPT = b"age-encryption.org/v1/X25519", b"age-encryption.org/v1/scrypt"
_ARGUMENT = re.compile(rb"[!-~]+")


@dataclass(frozen=True, slots=True)
class Stanza:
    """One way to the file key: its kind first among the arguments, then the body."""

    arguments: tuple[bytes, ...]
    body: bytes

    @property
    def kind(self) -> bytes:
        return self.arguments[0]


@dataclass(frozen=True, slots=True)
class Header:
    """`authenticated` are the bytes that the MAC covers; `length` is the whole header's, in bytes."""

    stanzas: tuple[Stanza, ...]
    authenticated: bytes
    mac: bytes
    length: int

    @property
    def asks_passphrase(self) -> bool:
        return self.stanzas[0].kind == b"scrypt"


def header_for_passphrase(file_key: bytes, passphrase: Secret) -> bytes:
    """The header of a file for whoever knows the passphrase; takes 128 MiB for a moment."""
    salt = secrets.token_bytes(_SALT)
    body = ChaCha20Poly1305(_scrypt(passphrase, salt, WORK_FACTOR)).encrypt(_NO_NONCE, file_key, None)
    return _sealed([Stanza((b"scrypt", _base64(salt), b"%d" % WORK_FACTOR), body)], file_key)


def header_for_recipients(file_key: bytes, recipients: Sequence[Recipient]) -> bytes:
    """The header of a file that each of the recipients can open alone."""
    stanzas = []
    for recipient in recipients:
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient.public))
        body = ChaCha20Poly1305(_hkdf(shared, share + recipient.public, _X25519)).encrypt(_NO_NONCE, file_key, None)
        stanzas.append(Stanza((b"X25519", _base64(share)), body))
    return _sealed(stanzas, file_key)


def parse_header(data: bytes) -> Header:
    """The header at the beginning of `data` (a file's first MAX_HEADER bytes). DamagedError if there is none."""
    if not data.startswith(MAGIC):
        raise DamagedError("The file is not in the age format, version 1.")
    position, stanzas = len(MAGIC), list[Stanza]()
    while True:
        end = data.find(b"\n", position)
        line = data[position:end] if end >= 0 else b""
        if line.startswith(b"--- "):
            mac = _decoded(line[4:], 32)
            if not stanzas or (any(one.kind == b"scrypt" for one in stanzas) and len(stanzas) > 1):
                raise _malformed()
            return Header(tuple(stanzas), data[: position + 3], mac, end + 1)
        arguments = line.split(b" ")
        wrong = arguments[0] != b"->" or len(arguments) < 2 or not all(map(_ARGUMENT.fullmatch, arguments))
        if wrong or len(stanzas) >= _MAX_STANZAS:
            raise _malformed()
        body, position = _body(data, end + 1)
        stanzas.append(Stanza(tuple(arguments[1:]), body))


def unwrap(header: Header, passphrase: Secret | None, identities: Sequence[Identity]) -> bytes:
    """The file key, by the passphrase or whichever identity opens it.

    KeyRefused if none does; DamagedError if the header was changed; ArchiveError if it would take too much memory.
    """
    for stanza in header.stanzas:
        key = None
        if stanza.kind == b"scrypt" and passphrase is not None:
            key = _by_passphrase(stanza, passphrase)
        elif stanza.kind == b"X25519":
            key = _by_identity(stanza, identities)
        if key is not None:
            check_mac(header, key)
            return key
    raise _refused(header, passphrase is not None, bool(identities))


def check_mac(header: Header, file_key: bytes) -> None:
    """DamagedError if the header is not what the holder of the file key wrote."""
    if not hmac.compare_digest(_mac(header.authenticated, file_key), header.mac):
        raise DamagedError("The header of the encrypted archive was changed or damaged.")


def payload_key(file_key: bytes, nonce: bytes) -> bytes:
    """The key of the payload that begins with that nonce of 16 bytes."""
    return _hkdf(file_key, nonce, b"payload")


def _by_passphrase(stanza: Stanza, passphrase: Secret) -> bytes | None:
    if len(stanza.arguments) != 3 or not re.fullmatch(rb"[1-9][0-9]?", stanza.arguments[2]):
        raise _malformed()
    salt, factor = _decoded(stanza.arguments[1], _SALT), int(stanza.arguments[2])
    if factor > _MAX_WORK_FACTOR:
        raise ArchiveError(
            f"The file asks for a scrypt work factor of 2^{factor}, which takes {2 ** (factor - 10)} MiB of memory; "
            f"at most 2^{_MAX_WORK_FACTOR} is taken.",
            "If you trust it, decrypt it with `age -d` and restore the plain archive.",
        )
    return _open(_scrypt(passphrase, salt, factor), stanza.body)


def _by_identity(stanza: Stanza, identities: Sequence[Identity]) -> bytes | None:
    if len(stanza.arguments) != 2:
        raise _malformed()
    share = _decoded(stanza.arguments[1], 32)
    for one in identities:
        try:
            private = X25519PrivateKey.from_private_bytes(one.private)
            shared = private.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError:  # a share of low order
            raise _malformed() from None
        key = _open(_hkdf(shared, share + one.recipient.public, _X25519), stanza.body)
        if key is not None:
            return key
    return None


def _open(key: bytes, body: bytes) -> bytes | None:
    if len(body) != _WRAPPED:
        raise _malformed()
    try:
        return ChaCha20Poly1305(key).decrypt(_NO_NONCE, body, None)
    except InvalidTag:
        return None


def _refused(header: Header, had_passphrase: bool, had_identity: bool) -> KeyRefused:
    what, variable, had = (
        ("a passphrase", "BACKUP_ENCRYPTION_KEY", had_passphrase)
        if header.asks_passphrase
        else ("an identity of one of its recipients", "BACKUP_ENCRYPTION_IDENTITY_FILE", had_identity)
    )
    if not had:
        return KeyRefused(f"The archive is encrypted: it needs {what}, and none is set.", f"Set {variable}.")
    return KeyRefused(
        "The archive is encrypted with another key than the one that is set, or its first bytes are damaged.",
        f"Set {variable} to the one that it was written with.",
    )


def _sealed(stanzas: Sequence[Stanza], file_key: bytes) -> bytes:
    lines = [MAGIC]
    for stanza in stanzas:
        lines += [b"-> ", b" ".join(stanza.arguments), b"\n", _base64(stanza.body), b"\n"]
    authenticated = b"".join(lines) + b"---"
    return authenticated + b" " + _base64(_mac(authenticated, file_key)) + b"\n"


def _mac(authenticated: bytes, file_key: bytes) -> bytes:
    return hmac.new(_hkdf(file_key, b"", b"header"), authenticated, sha256).digest()


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=salt, info=info).derive(secret)


def _scrypt(passphrase: Secret, salt: bytes, factor: int) -> bytes:
    text = passphrase.reveal().encode("utf-8", "surrogateescape")
    return Scrypt(salt=_SCRYPT + salt, length=32, n=1 << factor, r=8, p=1).derive(text)


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decoded(text: bytes, length: int) -> bytes:
    """Base64 without padding in its one right form, of so many bytes."""
    data = _any_length(text)
    if len(data) != length:
        raise _malformed()
    return data


def _any_length(text: bytes) -> bytes:
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise _malformed() from None
    if _base64(data) != text:
        raise _malformed()
    return data


def _body(data: bytes, position: int) -> tuple[bytes, int]:
    """A stanza's body that begins there, and where it ends: with the first line that is not full."""
    pieces = []
    while True:
        end = data.find(b"\n", position)
        if end < 0 or end - position > _COLUMNS:
            raise _malformed()
        pieces.append(_any_length(data[position:end]))
        if end - position < _COLUMNS:
            return b"".join(pieces), end + 1
        position = end + 1


def _malformed() -> DamagedError:
    return DamagedError("The header of the encrypted archive is damaged, or cut off.")
