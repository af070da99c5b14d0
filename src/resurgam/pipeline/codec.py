"""One chunk, one complete gzip member (RFC 1952), by ISA-L.

Members carry no time and no name, so that nothing but the input shapes them. Everything here is one call into C per
chunk and gives up the GIL meanwhile.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from isal import isal_zlib

from resurgam.errors import DamagedError

# Level 1 of ISA-L: 460 MB/s a core at 3.8 on dumps, where zlib's level 6 gives 58 MB/s at 4.6 (measured).
LEVEL = 1
GZIP_WBITS = 31
RAW_WBITS = -15
# FEXTRA set, no time, no extra flags, unknown operating system.
_EXTRA_HEADER = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"
_PLAIN_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_EMPTY_DEFLATE = b"\x03\0"

# The stubs of isal give the exception as an instance.
InflateError = cast(type[Exception], isal_zlib.IsalError)

STORED_OVERHEAD = len(_PLAIN_HEADER) + 5 + 8
MIN_STORED = len(_PLAIN_HEADER) + len(_EMPTY_DEFLATE) + 8


def member(data: bytes | memoryview) -> bytes:
    """Compress `data` to one gzip member, in one call: each takes and gives back the GIL."""
    return isal_zlib.compress(data, LEVEL, GZIP_WBITS)


def deflate(data: bytes | memoryview) -> bytes:
    """A raw deflate stream (RFC 1951)."""
    return isal_zlib.compress(data, LEVEL, RAW_WBITS)


def marked_member(
    data: bytes, subfield: bytes, extra: bytes, compress: Callable[[bytes | memoryview], bytes] = deflate
) -> bytes:
    """A member whose FEXTRA field holds `extra` under the two-byte subfield id; empty `data` gives no content."""
    field = subfield + struct.pack("<H", len(extra)) + extra
    body = compress(data) if data else _EMPTY_DEFLATE
    return _EXTRA_HEADER + struct.pack("<H", len(field)) + field + body + _trailer(data)


def stored_member(data: bytes) -> bytes:
    """A member of fixed length, `len(data) + STORED_OVERHEAD`, at most 65,535 bytes of data (RFC 1951, 3.2.4)."""
    size = len(data)
    return _PLAIN_HEADER + struct.pack("<BHH", 1, size, size ^ 0xFFFF) + data + _trailer(data)


def stored_check(stored: bytes | memoryview) -> int:
    """CRC-32 of a member's stored bytes: deflate has bits that can be flipped without changing the content."""
    return isal_zlib.crc32(stored)


def open_member(stored: bytes | memoryview, length: int) -> bytes:
    """Decompress one member that must give exactly `length` bytes.

    Never produces more than `length` + 1 bytes, whatever the input holds. DamagedError if it is not one whole
    member of that length.
    """
    inflater = isal_zlib.decompressobj(GZIP_WBITS)
    try:
        data = inflater.decompress(stored, length + 1)
    except InflateError as error:
        raise DamagedError(f"A compressed block is damaged ({error}).") from None
    if len(data) != length or not inflater.eof or inflater.unused_data:
        raise DamagedError("A compressed block does not have the length that the index gives.")
    return data


def extra_field(head: bytes, subfield: bytes) -> bytes | None:
    """The data of one FEXTRA subfield at the start of a gzip member, or None if it has none of that id."""
    if len(head) < 12 or head[:3] != b"\x1f\x8b\x08" or not head[3] & 4:
        return None
    (total,) = struct.unpack_from("<H", head, 10)
    position, end = 12, 12 + total
    while position + 4 <= min(end, len(head)):
        (size,) = struct.unpack_from("<H", head, position + 2)
        if head[position : position + 2] == subfield:
            data = head[position + 4 : position + 4 + size]
            return data if len(data) == size else None
        position += 4 + size
    return None


def _trailer(data: bytes | memoryview) -> bytes:
    return struct.pack("<II", isal_zlib.crc32(data) if data else zlib.crc32(b""), len(data) & 0xFFFFFFFF)


def stream_members(blocks: Iterable[bytes], limit: int = 4 << 20) -> Iterator[bytes]:
    """Decompress gzip members one after the other, in pieces of at most `limit` bytes.

    Raises InflateError for damaged data, DamagedError if the last member is cut off or something that is no
    member follows (zero bytes, as tapes and some copiers add, are ignored).
    """
    inflater = None
    for block in blocks:
        data: bytes = block
        full = False  # the last piece was as long as allowed, so more may wait inside the inflater
        while data or full:
            if inflater is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                inflater = isal_zlib.decompressobj(GZIP_WBITS)
            piece = inflater.decompress(data, limit)
            if piece:
                yield piece
            full = len(piece) == limit
            data = inflater.unconsumed_tail
            if inflater.eof:
                data, inflater, full = inflater.unused_data, None, False
    if inflater is not None:
        raise DamagedError("The compressed data end too early: the file was cut off.")
