"""Parses a tar stream from blocks of bytes: every entry below the top folder, its content as it passes by.

Used to verify our own archives (their index is compared with what is found here) and to read foreign ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.headers import BLOCK, HeaderParser, padding
from resurgam.archive.names import NameRegister, below
from resurgam.errors import DamagedError, HostileError

MAX_MEMBERS = 20_000_000


class ByteWindow:
    """Takes pieces off a sequence of blocks without copying more than is asked for."""

    def __init__(self, blocks: Iterable[bytes], position: int = 0) -> None:
        self._blocks = iter(blocks)
        self._block, self._at = b"", 0
        self.position = position

    def pieces(self, length: int) -> Iterator[bytes]:
        """The next `length` bytes, in pieces. DamagedError if the stream ends before."""
        while length > 0:
            piece = self._next(length)
            length -= len(piece)
            yield piece

    def take(self, length: int) -> bytes:
        """The next `length` bytes at once. DamagedError if the stream ends before."""
        start = self._at
        end = start + length
        if end <= len(self._block):
            self._at = end
            self.position += length
            return self._block[start:end]
        return b"".join(self.pieces(length))

    def skip(self, length: int) -> None:
        """Pass over the next `length` bytes. DamagedError if the stream ends before."""
        self.position += length
        while length > len(self._block) - self._at:
            length -= len(self._block) - self._at
            self._more(length)
        self._at += length

    def rest(self) -> Iterator[bytes]:
        """Everything that is left."""
        while self._at < len(self._block) or self._load():
            yield self._next(len(self._block))

    def _next(self, length: int) -> bytes:
        """Up to `length` bytes, and one at least."""
        if self._at == len(self._block):
            self._more(length)
        piece = self._block[self._at : self._at + length]
        self._at += len(piece)
        self.position += len(piece)
        return piece

    def _more(self, wanted: int) -> None:
        if not self._load():
            raise DamagedError(f"The tar stream ends {wanted:,} bytes too early: the file was cut off.")

    def _load(self) -> bool:
        self._block, self._at = next(self._blocks, b""), 0
        return bool(self._block)


class Content:
    """One entry's bytes, readable once; `finish` skips what the consumer left, and the padding unless told."""

    def __init__(self, window: ByteWindow, size: int, *, padded: bool = True) -> None:
        self._end = window.position + size
        self._window = window
        self._after = padding(size) if padded else 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self._window.pieces(self._end - self._window.position)

    def finish(self) -> None:
        self._window.skip(self._end - self._window.position + self._after)


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of the stream, and where its content begins."""

    entry: Entry
    offset: int


def walk_tar(blocks: Iterable[bytes], top: bytes) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """All entries in order, the top folder first if it is there; names are checked, contents are read or skipped.

    Raises DamagedError if the stream is cut, malformed, or goes on after its end blocks; HostileError for names
    and kinds that no backup holds.
    """
    window, parser, register = ByteWindow(blocks), HeaderParser(), NameRegister()
    members = 0
    while True:
        found = parser.header(window.take(BLOCK))
        if found is None:
            break
        if isinstance(found, int):
            parser.extension(window.take(found))
            window.skip(padding(found))
            continue
        members += 1
        if members > MAX_MEMBERS:
            raise HostileError(f"The archive holds more than {MAX_MEMBERS:,} entries.")
        entry = _below_top(found, top)
        if entry.path:
            register.admit(entry)
        elif entry.kind is not Kind.FOLDER or members > 1:
            raise HostileError("The archive's top entry is not a folder, or not the first one.")
        content = Content(window, entry.size)
        yield Member(entry, window.position), iter(content)
        content.finish()
    if window.take(BLOCK).strip(b"\0"):
        raise DamagedError("The tar stream has one end block instead of two.")
    if any(piece.strip(b"\0") for piece in window.rest()):
        raise DamagedError("There is data after the tar stream's end.")


def _below_top(entry: Entry, top: bytes) -> Entry:
    path = below(entry.path, top)
    if entry.kind is Kind.HARDLINK:
        return entry._replace(path=path, target=below(entry.target, top))
    return entry._replace(path=path)
