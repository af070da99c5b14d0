"""The manifest: what a backup consists of, and what its writer knew (docs/repository-format.md, sentence 21)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resurgam.archive.footer import MAX_METADATA
from resurgam.archive.index import MAX_CHUNK
from resurgam.errors import DamagedError
from resurgam.keys.secrets import ID
from resurgam.pipeline.codec import open_member
from resurgam.pipeline.deterministic import plain_member
from resurgam.repository.packs import CHUNK_ID

COMMITTED, ABANDONED = "committed", "abandoned"
_LENGTH = struct.Struct("<I")
_CHUNK = struct.Struct("<32sI")
# Beyond these no count is believed: they must fit into the catalog's columns, and a list is read whole.
_MOST = 1 << 60
_LONGEST_LIST = 1 << 36
_LONGEST_NAME = 1024


@dataclass(frozen=True, slots=True)
class Head:
    """What a manifest says of its backup.

    Bytes: `stream` of the tar stream, `content` of all files, `stored` of the chunks' gzip members, `added` to the
    repository, `list_length` of the list. `metadata_at`, `metadata_length`: where the content of backup_metadata.json
    stands in the tar stream. `indexes`, `packs`: ids of what the run wrote; `known`: of manifests it saw committed,
    joined, because thousands of manifests may be held at once.
    """

    name: str
    app: str
    taken_at: datetime
    sequence: int
    stream: int
    entries: int
    files: int
    content: int
    stored: int
    added: int
    list_length: int
    metadata_at: int
    metadata_length: int
    indexes: tuple[bytes, ...]
    packs: tuple[bytes, ...]
    known: bytes
    ring: int
    host: str
    version: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A head, the bytes of backup_metadata.json, and the list's chunks with their lengths.

    The metadata are held as their gzip member: those of thousands of backups may be in memory.
    """

    head: Head
    chunks: bytes
    _member: bytes
    _length: int

    @classmethod
    def of(cls, head: Head, metadata: bytes, chunks: bytes) -> Manifest:
        return cls(head, chunks, plain_member(metadata), len(metadata))

    @property
    def metadata(self) -> bytes:
        """The bytes of backup_metadata.json."""
        return open_member(self._member, self._length)

    def list_chunks(self) -> Iterator[tuple[bytes, int]]:
        """Id and length of each chunk of the list, in order."""
        return self.chunks_of(self.chunks)

    @staticmethod
    def chunks_of(table: bytes | bytearray) -> Iterator[tuple[bytes, int]]:
        """The same of a table of the list's chunks."""
        return ((chunk, length) for chunk, length in _CHUNK.iter_unpack(table))

    def encode(self) -> bytes:
        """The sealed text's plaintext."""
        head = json.dumps(_fields(self.head), sort_keys=True).encode()
        sized = _LENGTH.pack(self._length) + self._member
        return b"".join((_LENGTH.pack(len(head)), head, _LENGTH.pack(len(sized)), sized, self.chunks))

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """DamagedError for anything that no writer makes."""
        try:
            (length,) = _LENGTH.unpack_from(data)
            at = _LENGTH.size + length
            head = _head(json.loads(data[_LENGTH.size : at]))
            (sized,) = _LENGTH.unpack_from(data, at)
            (plain,) = _LENGTH.unpack_from(data, at + _LENGTH.size)
            end = at + _LENGTH.size + sized
            if plain > MAX_METADATA or end > len(data):
                raise DamagedError("The manifest's metadata are longer than any writer makes.")
            member, chunks = data[at + 2 * _LENGTH.size : end], data[end:]
            open_member(member, plain)
        except (struct.error, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            raise DamagedError("A manifest is malformed.") from None
        lengths = [] if len(chunks) % _CHUNK.size else [length for _, length in _CHUNK.iter_unpack(chunks)]
        if sum(lengths) != head.list_length or not lengths or not min(lengths) or max(lengths) > MAX_CHUNK:
            raise DamagedError("A manifest's list does not have its length.")
        return cls(head, chunks, member, plain)


def ids_of(joined: bytes) -> Iterator[bytes]:
    """The ids that were joined."""
    return (joined[at : at + ID] for at in range(0, len(joined), ID))


def list_entry(chunk: bytes, length: int) -> bytes:
    """A chunk of the list as the manifest holds it."""
    if len(chunk) != CHUNK_ID:
        raise ValueError("not a chunk's id")
    return _CHUNK.pack(chunk, length)


_NUMBERS = ("sequence", "stream", "entries", "files", "content", "stored", "added", "ring")
_IDS = ("indexes", "packs", "known")


def _fields(head: Head) -> dict[str, Any]:
    return {
        **{name: getattr(head, name) for name in (*_NUMBERS, "name", "app", "host", "version")},
        **{name: [one.hex() for one in getattr(head, name)] for name in ("indexes", "packs")},
        "known": [one.hex() for one in ids_of(head.known)],
        "taken_at": head.taken_at.isoformat(),
        "list": head.list_length,
        "metadata": [head.metadata_at, head.metadata_length],
    }


def _head(fields: dict[str, Any]) -> Head:
    at, length = fields["metadata"]
    numbers = {name: fields[name] for name in _NUMBERS}
    counts = (*numbers.values(), fields["list"], at, length)
    if any(type(one) is not int or not 0 <= one <= _MOST for one in counts) or fields["list"] > _LONGEST_LIST:
        raise ValueError("a count is no number, or impossible")
    texts = {name: fields[name] for name in ("name", "app", "host", "version")}
    if any(type(one) is not str or len(one) > _LONGEST_NAME for one in texts.values()):
        raise ValueError("a name is no text, or too long")
    ids = {name: tuple(bytes.fromhex(one) for one in fields[name]) for name in _IDS}
    if any(len(one) != ID for found in ids.values() for one in found):
        raise ValueError("an id has another length")
    taken_at = datetime.fromisoformat(fields["taken_at"]).astimezone(UTC)
    return Head(
        taken_at=taken_at,
        list_length=fields["list"],
        metadata_at=at,
        metadata_length=length,
        indexes=ids["indexes"],
        packs=ids["packs"],
        known=b"".join(ids["known"]),
        **numbers,
        **texts,
    )
