"""Whether a table holds the rows of a dump in another order: for the few whose ordered digests differ.

Rows are summed up one by one on both sides (about a million a second), so it is done on demand and not while a
backup is taken. The columns are read in the dump's order, which a restore of inherited tables may change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import psycopg
from blake3 import blake3
from psycopg import sql

from resurgam.postgres.outline import Bytes
from resurgam.postgres.prints import DIGEST, TableName
from resurgam.postgres.script import CopyBlock, Script
from resurgam.postgres.statements import codec

_PART = rb'(?:"(?:[^"]|"")++"|[^\s."(]++)'
_COLUMNS = re.compile(rb"COPY " + _PART + rb"(?:\." + _PART + rb")?+ (?:\((.*)\) )?FROM stdin;", re.DOTALL)


def same_rows(connection: psycopg.Connection, script: Script, dump: Bytes, table: TableName) -> bool:
    """Whether the table of the database that `connection` is in holds the same rows as in the dump, in any order."""
    blocks = [
        item
        for item in script.items
        if isinstance(item, CopyBlock) and (item.table.schema, item.table.name) == table and item.plain
    ]
    found = _COLUMNS.fullmatch(blocks[0].text) if blocks else None
    if found is None or found.group(1) is None or any(block.text != blocks[0].text for block in blocks):
        return False
    encoding = codec(script.encoding)
    kind = connection.execute("SELECT relkind FROM pg_class WHERE oid = %s::regclass", (blocks[0].table.sql(),))
    only = b"" if kind.fetchone() == ("p",) else b"ONLY "
    name = blocks[0].table.sql().encode(encoding, "surrogateescape")
    query = b"COPY (SELECT " + found.group(1) + b" FROM " + only + name + b") TO STDOUT"
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL client_encoding = {}").format(sql.Literal(script.encoding)))
        with connection.cursor().copy(query) as copy:
            here = _total(bytes(piece) for piece in copy)
    return here == _total(piece for block in blocks for piece in dump.blocks(block.offset, block.length))


def _total(pieces: Iterable[bytes]) -> tuple[int, int]:
    rows = total = 0
    for row in _lines(pieces):
        rows += 1
        total += int.from_bytes(blake3(row).digest(DIGEST), "big")
    return rows, total


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    for piece in pieces:
        *lines, rest = piece.split(b"\n")
        for line in lines:
            yield b"".join((*parts, line))
            parts = []
        parts.append(rest)
    if any(parts):
        yield b"".join(parts)
