"""Sealed objects: a header that says what it is and who wrote it, and encrypted frames (repository-format.md, 6 to 9).

Rules:
- nothing of an object is used before its header was checked against the name under which it was found;
- the header holds a digest of what follows, so that who can open shared objects can't put other content under a
  header that the full key has signed;
- keys are made from the object's id, so that a frame's number is nonce enough.
"""

from __future__ import annotations

import hmac
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from resurgam.errors import DamagedError, RepositoryError
from resurgam.keys.secrets import WRAPPED, DataKey, Secrets, new_data_key, unwrap_data_key

MAGIC = b"RSGMOBJ1"
VERSION = 1
TAG = 16
FRAME = 1 << 20
FULL = 1
WRITE_ONLY = 2

_FIELDS = struct.Struct("<8sHBB16s16sI80s32s")
_SIGNED = _FIELDS.size
_MAC = 32
HEADER = _SIGNED + 2 * _MAC
_NO_MAC = bytes(_MAC)
_LENGTH = struct.Struct("<Q")
# A frame's number and its additional data: kind and number.
_NONCE = struct.Struct("<QI")
_ABOUT = struct.Struct("<BQ")


class Kind(IntEnum):
    """What an object is; the numbers are those of the format."""

    PACK = 1
    INDEX = 2
    MANIFEST = 3
    OUTCOME = 4
    TOMBSTONE = 5
    RECORD = 6
    DAMAGE = 7
    CHECKED = 8
    INTENT = 9


PRIVATE = frozenset({Kind.PACK, Kind.MANIFEST})
# What decides about others' data is believed from a holder of the full key only.
_FULL_ONLY = frozenset({Kind.TOMBSTONE, Kind.RECORD, Kind.DAMAGE, Kind.CHECKED})


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header. `digest` is the BLAKE3 of what follows: of all after it in a sealed text, of directory and
    trailer in a pack. `epoch` is 0, and `wrapped` zeros, where nothing is private."""

    kind: Kind
    author: int
    object_id: bytes
    epoch: int
    wrapped: bytes
    digest: bytes


def nonce(number: int) -> bytes:
    """A frame's nonce (sentence 8)."""
    return _NONCE.pack(number, 0)


def about(kind: Kind, number: int) -> bytes:
    """A frame's additional data; a blob's is followed by the chunk's id."""
    return _ABOUT.pack(kind, number)


def shared_cipher(keys: Secrets, object_id: bytes) -> AESGCM:
    return AESGCM(blake3(b"shared" + object_id, key=keys.shared).digest())


def _private_cipher(data_key: bytes, object_id: bytes) -> AESGCM:
    return AESGCM(blake3(b"private" + object_id, key=data_key).digest())


class Sealer:
    """Makes one run's objects: one data key for all of them, drawn when first needed. Any thread may call it.

    `opener` reads what this run wrote, also on a machine that can read nothing else.
    """

    def __init__(self, keys: Secrets, *, author: int = FULL) -> None:
        """`author`: WRITE_ONLY where a holder of the full key passes on what a write-only host has said."""
        self.keys = keys
        self.author = author if keys.auth_full is not None else WRITE_ONLY
        self.opener = Opener(keys)
        self._data_key: DataKey | None = None
        self._lock = threading.Lock()

    @property
    def run(self) -> bytes:
        """The wrapped data key, which stands in the header of every private object of this run and of no other."""
        return self._drawn().wrapped

    def header(self, kind: Kind, object_id: bytes, digest: bytes) -> bytes:
        """The 224 bytes before an object whose further bytes have that digest (see Header)."""
        epoch, wrapped = 0, bytes(WRAPPED)
        if kind in PRIVATE:
            drawn = self._drawn()
            epoch, wrapped = drawn.epoch, drawn.wrapped
        repository = self.keys.repository
        fields = _FIELDS.pack(MAGIC, VERSION, kind, self.author, repository, object_id, epoch, wrapped, digest)
        signed = fields + _mac(self.keys.auth_shared, fields)
        full = self.keys.auth_full if self.author == FULL else None
        return signed + (_NO_MAC if full is None else _mac(full, signed))

    def blob_key(self, object_id: bytes) -> AESGCM:
        """The cipher of an object's private frames."""
        return _private_cipher(self._drawn().key, object_id)

    def seal_text(self, kind: Kind, object_id: bytes, plaintext: bytes | bytearray | memoryview) -> bytearray:
        """A whole sealed text (sentence 9); the kind says whether it is private."""
        return self.seal_pieces(kind, object_id, len(plaintext), [plaintext])

    def seal_pieces(
        self, kind: Kind, object_id: bytes, length: int, pieces: Iterable[bytes | bytearray | memoryview]
    ) -> bytearray:
        """The same of pieces of any size, which together must have exactly `length` bytes."""
        cipher = self.blob_key(object_id) if kind in PRIVATE else shared_cipher(self.keys, object_id)
        sealed = [_LENGTH.pack(length)]
        given = 0
        for number, frame in enumerate(_frames(pieces)):
            given += len(frame)
            sealed.append(cipher.encrypt(nonce(number), frame, _text_about(kind, number, length)))
        if given != length:
            raise ValueError(f"{given} bytes were given to be sealed, and {length} announced")
        following = blake3()
        for part in sealed:
            following.update(part)
        return bytearray().join([self.header(kind, object_id, following.digest()), *sealed])

    def _drawn(self) -> DataKey:
        with self._lock:
            if self._data_key is None:
                self._data_key = new_data_key(self.keys)
                self.opener.know(self._data_key)
            return self._data_key


class Opener:
    """Checks and opens objects; unwraps each run's data key once. Any thread may call it.

    All methods raise DamagedError for what is broken, swapped, renamed or forged, RepositoryError for an object of
    another repository or a later version, KeyRefused for what a write-only host may not read.
    """

    def __init__(self, keys: Secrets) -> None:
        self.keys = keys
        self._data_keys: dict[tuple[int, bytes], bytes] = {}

    def know(self, data_key: DataKey) -> None:
        """Take a data key that need not be unwrapped."""
        self._data_keys[data_key.epoch, data_key.wrapped] = data_key.key

    def header(self, kind: Kind, object_id: bytes, head: bytes | bytearray | memoryview) -> Header:
        """The checked header of the object that was found under that folder and name; `head` begins with it."""
        head = bytes(head[:HEADER])
        if len(head) < HEADER or not head.startswith(MAGIC):
            refuse(kind, object_id, "it has no header of ours")
        _, version, found, author, repository, named, epoch, wrapped, digest = _FIELDS.unpack_from(head)
        if version != VERSION or repository != self.keys.repository:
            self._refuse_foreign(kind, object_id, head, version)
        if not hmac.compare_digest(_mac(self.keys.auth_shared, head[:_SIGNED]), head[_SIGNED:-_MAC]):
            refuse(kind, object_id, "its header is not authentic")
        if found != kind or named != object_id:
            refuse(kind, object_id, "it stands under a wrong name")
        if author not in (FULL, WRITE_ONLY) or (epoch != 0) != (kind in PRIVATE):
            refuse(kind, object_id, "its header is impossible")
        self._check_author(kind, object_id, head, author)
        return Header(kind, author, object_id, epoch, wrapped, digest)

    def _refuse_foreign(self, kind: Kind, object_id: bytes, head: bytes, version: int) -> NoReturn:
        """Damage to the very bytes that tell version and repository is told from a foreign object: the MAC fits."""
        mended = _FIELDS.pack(MAGIC, VERSION, *head[10:12], self.keys.repository, *_FIELDS.unpack_from(head)[5:])
        if hmac.compare_digest(_mac(self.keys.auth_shared, mended), head[_SIGNED:-_MAC]):
            refuse(kind, object_id, "its header is not authentic")
        if version > VERSION:
            raise RepositoryError(
                f"The {_named(kind, object_id)} has the format version {version}, which is later than this program.",
                "Install a later version of Resurgam.",
            )
        if version < VERSION:
            refuse(kind, object_id, "its header is impossible")
        raise RepositoryError(f"The {_named(kind, object_id)} belongs to another repository.", "Remove it from there.")

    def _check_author(self, kind: Kind, object_id: bytes, head: bytes, author: int) -> None:
        full_mac = head[-_MAC:]
        if author == WRITE_ONLY:
            if full_mac != _NO_MAC:
                refuse(kind, object_id, "its header is impossible")
            if self.keys.auth_full is not None and kind in _FULL_ONLY:
                refuse(kind, object_id, "it was written by a machine that may not decide this")
        elif self.keys.auth_full is not None and not hmac.compare_digest(
            _mac(self.keys.auth_full, head[:-_MAC]), full_mac
        ):
            refuse(kind, object_id, "its header is forged by somebody who has not the full key")

    def blob_key(self, header: Header) -> AESGCM:
        """The cipher of an object's private frames."""
        known = (header.epoch, header.wrapped)
        key = self._data_keys.get(known)
        if key is None:
            key = self._data_keys[known] = unwrap_data_key(self.keys, *known)
        return _private_cipher(key, header.object_id)

    def open_text(self, kind: Kind, object_id: bytes, data: bytes | bytearray | memoryview) -> bytes:
        """The plaintext of a whole sealed text."""
        return b"".join(self.open_pieces(self.text_header(kind, object_id, data), data))

    def text_header(self, kind: Kind, object_id: bytes, data: bytes | bytearray | memoryview) -> Header:
        """The header of a sealed text whose further bytes are those that the header was made for."""
        header = self.header(kind, object_id, data)
        if blake3(memoryview(data)[HEADER:]).digest() != header.digest:
            refuse(kind, object_id, "its content is not what its header says")
        return header

    def open_pieces(self, header: Header, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """The plaintext of a sealed text in frames of 1 MiB; `header` must come from `text_header`."""
        kind, object_id = header.kind, header.object_id
        private = kind in PRIVATE
        cipher = self.blob_key(header) if private else shared_cipher(self.keys, object_id)
        view = memoryview(data)[HEADER:]
        if len(view) < _LENGTH.size:
            refuse(kind, object_id, "it is cut off")
        (length,) = _LENGTH.unpack_from(view)
        frames = max(1, -(-length // FRAME))
        if len(view) != _LENGTH.size + length + frames * TAG:
            refuse(kind, object_id, "it has not the length that it says")
        at = _LENGTH.size
        for number in range(frames):
            end = min(at + FRAME + TAG, len(view))
            try:
                yield cipher.decrypt(nonce(number), view[at:end], _text_about(kind, number, length))
            except InvalidTag:
                refuse(kind, object_id, f"its frame {number} does not open")
            at = end


def _text_about(kind: Kind, number: int, length: int) -> bytes:
    """The text's length binds the first frame, and through it says how many follow."""
    return (b"" if number else _LENGTH.pack(length)) + about(kind, number)


def _frames(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterator[memoryview]:
    """The pieces' bytes in frames of exactly FRAME bytes but for the last; one empty frame if there are none."""
    rest = bytearray()
    count = 0
    for piece in pieces:
        view = memoryview(piece).cast("B")
        if rest:
            taken = min(FRAME - len(rest), len(view))
            rest += view[:taken]
            view = view[taken:]
            if len(rest) < FRAME:
                continue
            yield memoryview(rest)
            count, rest = count + 1, bytearray()
        while len(view) >= FRAME:
            yield view[:FRAME]
            count, view = count + 1, view[FRAME:]
        rest += view
    if rest or not count:
        yield memoryview(rest)


def _mac(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()


def _named(kind: Kind, object_id: bytes) -> str:
    return f"{kind.name.lower()} {object_id.hex()}"


def refuse(kind: Kind, object_id: bytes, why: str) -> NoReturn:
    """DamagedError about an object."""
    raise DamagedError(f"The {_named(kind, object_id)} is damaged: {why}.")
