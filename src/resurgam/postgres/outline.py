"""Where the large tables' data lie in a dump, so that a restore need not read them twice.

Rules (docs/archive-format.md, sentences 22 to 26):
- an outline only ever says what to skip: the COPY statement before the data and the line `\\.` after them must be
  found exactly there by the lexer, which reads everything else;
- data that were skipped are sent as COPY data and nothing else, and checked while they are sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from resurgam.errors import DamagedError
from resurgam.postgres.script import CopyBlock, Observer, Script, ScriptScanner

# Smaller blocks are read with the text around them: the chunks that hold the text hold them, too.
SMALLEST = 1 << 18
_END = re.compile(rb"\n\\\.\r?\n")
_SEAM = 4  # one byte less than the longest end


class Bytes(Protocol):
    """Random access to a plain dump."""

    @property
    def size(self) -> int: ...
    def blocks(self, offset: int, length: int) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Outlined:
    """COPY data of `length` bytes and so many rows at a byte offset of the dump."""

    offset: int
    length: int
    rows: int


def outline_of(script: Script) -> list[list[int]]:
    """The outline of a dump that was read whole, as the metadata hold it."""
    blocks = (item for item in script.items if isinstance(item, CopyBlock))
    return [[block.offset, block.length, block.rows] for block in blocks if block.length >= SMALLEST]


def parse_outline(value: object, size: int) -> tuple[Outlined, ...]:
    """An outline as the metadata hold it, of a dump of `size` bytes.

    DamagedError if it is malformed, or its blocks overlap, are out of order or lie outside the dump.
    """
    blocks: list[Outlined] = []
    end = 0
    for found in value if isinstance(value, list) else [None]:
        if not (isinstance(found, list) and len(found) == 3 and all(type(number) is int for number in found)):
            raise _impossible()
        block = Outlined(*found)
        if not (end < block.offset and 0 < block.rows <= block.length and block.offset + block.length < size):
            raise _impossible()
        end = block.offset + block.length
        blocks.append(block)
    return tuple(blocks)


def scan_by_outline(
    dump: Bytes, outline: Iterable[Outlined], advance: Callable[[int], None], observer: Observer | None = None
) -> Script:
    """The script of a dump, of which only what stands outside the outlined data is read; the data are checked later.

    `observer` sees the rest pass. Raises what the scanner raises; DamagedError where the dump is not what the outline
    says.
    """
    scanner = ScriptScanner(observer=observer)
    position = 0
    for block in outline:
        _feed(scanner, dump, position, block.offset, advance)
        scanner.skip(block.length, block.rows)
        position = block.offset + block.length
    _feed(scanner, dump, position, dump.size, advance)
    return scanner.finish()


def _feed(scanner: ScriptScanner, dump: Bytes, start: int, end: int, advance: Callable[[int], None]) -> None:
    for block in dump.blocks(start, end - start):
        scanner.feed(block)
        advance(len(block))


def checked_data(block: CopyBlock, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of data that were skipped, checked as the lexer would have; DamagedError if they are not that.

    Without a line `\\.` in them every line is a row to the server, whose count the loader compares.
    """
    size = 0
    tail = b"\n"
    for piece in pieces:
        seam = tail + piece[:_SEAM]
        if 0 in piece or _END.search(seam) or _END.search(piece):
            raise not_the_data(block)
        size += len(piece)
        tail = (tail + piece[-_SEAM:])[-_SEAM:]
        yield piece
    if size != block.length or tail[-1:] != b"\n":
        raise not_the_data(block)


def _impossible() -> DamagedError:
    return DamagedError("The outline of the dump is impossible; nothing was touched.", "Use another backup.")


def not_the_data(block: CopyBlock) -> DamagedError:
    """The refusal of data of which the outline told something else."""
    return DamagedError(
        f"The data of the table {block.table} (line {block.line} of the dump) are not what the dump's outline says. "
        "The live database was not touched.",
        "Restore another backup of this database.",
    )
