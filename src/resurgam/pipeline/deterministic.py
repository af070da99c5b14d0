"""Gzip members whose bytes depend on nothing but their content: by zlib, since ISA-L was seen to vary by two bytes."""

from __future__ import annotations

import struct
import zlib

_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LEVEL = 6


def plain_member(data: bytes | bytearray | memoryview) -> bytes:
    """Compress `data` to one gzip member."""
    return _HEADER + deflated(data) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def deflated(data: bytes | bytearray | memoryview) -> bytes:
    """A raw deflate stream of `data`."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()
