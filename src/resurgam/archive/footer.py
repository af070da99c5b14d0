"""The format mark and the footer (docs/archive-format.md, sentences 2, 4 to 6, 18 and 19)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from resurgam.errors import ArchiveError, DamagedError
from resurgam.pipeline.codec import deflate, extra_field, marked_member

VERSION = 1
_MARK, _FOOT = b"Rs", b"Rf"
_MARK_DATA = b"resurgam" + struct.pack("<H", VERSION)
_FIELDS = struct.Struct("<8sH8Q32s32s")
_MAGIC = b"RSGMFOOT"
_CHECK = 16
LENGTH = len(marked_member(b"", _FOOT, bytes(_FIELDS.size + _CHECK)))
MARK_READ = 64
METADATA_NAME = b"backup_metadata.json"
MAX_METADATA = 16 << 20
_MAX_INDEX = 4 << 30
# An index of nothing but empty files with consecutive names reaches 25.
_MAX_INDEX_RATIO = 200


@dataclass(frozen=True, slots=True)
class Footer:
    """Offsets and lengths in bytes of the file; `index_plain` and `stream` are lengths before compression."""

    offset: int
    index_offset: int
    index_stored: int
    index_plain: int
    metadata_offset: int
    metadata_stored: int
    metadata_length: int
    stream: int
    index_digest: bytes
    metadata_digest: bytes

    def encode(self) -> bytes:
        data = _FIELDS.pack(
            _MAGIC,
            VERSION,
            self.offset,
            self.index_offset,
            self.index_stored,
            self.index_plain,
            self.metadata_offset,
            self.metadata_stored,
            self.metadata_length,
            self.stream,
            self.index_digest,
            self.metadata_digest,
        )
        return marked_member(b"", _FOOT, data + blake3(data).digest()[:_CHECK])

    @classmethod
    def decode(cls, tail: bytes, file_size: int) -> Footer:
        """Read the last `LENGTH` bytes of a file of `file_size` bytes. DamagedError if they are no sound footer."""
        raw = extra_field(tail, _FOOT) if len(tail) == LENGTH else None
        if raw is None or len(raw) != _FIELDS.size + _CHECK or blake3(raw[:-_CHECK]).digest()[:_CHECK] != raw[-_CHECK:]:
            raise DamagedError(
                "The archive's footer is missing or damaged: the file was cut off, or changed at its end.",
                "Take another backup, or the copy of this one in the remote folder.",
            )
        magic, version, *fields = _FIELDS.unpack(raw[:-_CHECK])
        footer = cls(*fields)
        if magic != _MAGIC:
            raise DamagedError("The archive's footer is not one.")
        require_known(version)
        fits = (
            footer.offset + LENGTH == file_size
            and footer.index_offset + footer.index_stored == footer.offset
            and footer.metadata_offset + footer.metadata_stored <= footer.index_offset
            and tail == footer.encode()
            and _plausible(footer.metadata_stored, footer.metadata_length, MAX_METADATA, 1032)
            and _plausible(footer.index_stored, footer.index_plain, _MAX_INDEX, _MAX_INDEX_RATIO)
        )
        if not fits:
            raise DamagedError("The archive's footer does not fit the file: bytes were added or taken away.")
        return footer


def mark_member(data: bytes, compress: Callable[[bytes | memoryview], bytes] = deflate) -> bytes:
    """The first member of an archive, which bears the format mark."""
    return marked_member(data, _MARK, _MARK_DATA, compress)


def marked_version(head: bytes) -> int | None:
    """The format's version, by a file's first `MARK_READ` bytes; None if it is no archive of ours."""
    field = extra_field(head, _MARK)
    if field is None or not field.startswith(b"resurgam"):
        return None
    return int.from_bytes(field[8:10], "little")


def require_known(version: int) -> None:
    """ArchiveError if the archive is of a format that this version of Resurgam does not read."""
    if version != VERSION:
        raise ArchiveError(
            f"The archive was written in format {version}; this version of Resurgam reads format {VERSION}.",
            "Install a newer version of Resurgam.",
        )


def _plausible(stored: int, plain: int, most: int, ratio: int) -> bool:
    """Whether these lengths may be allocated for: what was compressed is neither far longer nor a bomb."""
    return plain <= most and stored <= 2 * plain + 4096 and plain <= ratio * stored + 4096
