"""Tables in files: a local cache of what the indexes say, and a place for tables that are too large for memory.

A cache is only a cache: a file that is not exactly what was written is removed, and its content comes from the store
again. Its digest is keyed, by the full key where there is one, since a table says which indexes were authentic.
A file has magic, length of the head and head (JSON), the rows, the table of prefixes, and the digest of all before.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from time import time
from typing import IO

from blake3 import blake3

from resurgam.keys.secrets import Secrets
from resurgam.repository.index_table import ROW, FanCounter, IndexTable, TablePack, table_in_memory

_MAGIC = b"RSGMTBL1"
_HEAD = struct.Struct("<8sIII")  # magic, length of the head, rows, entries of the table of prefixes
_DIGEST = 32
_BLOCK = 1 << 20
_OLD = 3600
# Smaller tables stay in memory where there is no folder.
_SMALL = 1 << 14


class TableFiles:
    """The tables of one repository in `folder`, or in files without a name where there is none."""

    def __init__(self, keys: Secrets, folder: Path | None) -> None:
        secret = keys.auth_shared if keys.auth_full is None else keys.auth_full
        self._key = blake3(b"table files" + keys.repository, key=secret).digest()
        self._folder = folder

    def load(self) -> list[IndexTable]:
        """All sound tables of the folder; what is unfit, or was left by a dead process, is removed."""
        if self._folder is None or not self._folder.is_dir():
            return []
        tables = []
        for path in sorted(self._folder.glob("*.table")):
            table = self._open(path)
            if table is None:
                path.unlink(missing_ok=True)
            else:
                tables.append(table)
        for path in self._folder.glob(".*.partial"):
            with suppress(OSError):  # whose it is may be at work
                if path.stat().st_mtime < time() - _OLD:
                    path.unlink()
        return tables

    def write(self, packs: Sequence[TablePack], indexes: frozenset[bytes], blocks: Iterable[bytes]) -> IndexTable:
        """A table of sorted blocks of rows, as many as the packs have blobs, to be found again if there is a folder.

        OSError if there is no room.
        """
        if self._folder is None:
            if sum(pack.blobs for pack in packs) <= _SMALL:
                return table_in_memory(packs, indexes, b"".join(blocks))
            return self.write_unnamed(packs, indexes, blocks)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(".partial", ".", self._folder)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "w+b") as named:
                digest = self._fill(named, packs, indexes, blocks)
                path = partial.with_name(f"{digest[:16].hex()}.table")
                table = _mapped(named, path)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return table

    def write_unnamed(
        self, packs: Sequence[TablePack], indexes: frozenset[bytes], blocks: Iterable[bytes]
    ) -> IndexTable:
        """The same in a file that is gone with this process."""
        folder = self._folder if self._folder is not None and self._folder.is_dir() else None
        with tempfile.TemporaryFile(dir=folder) as file:
            self._fill(file, packs, indexes, blocks)
            return _mapped(file)

    def settled(self, table: IndexTable) -> bool:
        """Whether a table lies where it should, and will be found again if there is a folder."""
        return table.file is not None or self._folder is None

    def forget(self, replaced: Iterable[IndexTable], kept: Iterable[IndexTable]) -> None:
        """Remove the files of tables that others replace; who searches them may go on."""
        for file in {table.file for table in replaced} - {table.file for table in kept}:
            if file is not None:
                file.unlink(missing_ok=True)

    def _fill(
        self, file: IO[bytes], packs: Sequence[TablePack], indexes: frozenset[bytes], blocks: Iterable[bytes]
    ) -> bytes:
        count = sum(pack.blobs for pack in packs)
        listed = [[pack.pack.hex(), *pack[1:]] for pack in packs]
        head = json.dumps({"packs": listed, "indexes": sorted(index.hex() for index in indexes)}).encode()
        head += b" " * (-len(head) % 4)
        counter = FanCounter(count)
        hasher = blake3(key=self._key)

        def put(data: bytes) -> None:
            hasher.update(data)
            file.write(data)

        put(_HEAD.pack(_MAGIC, len(head), count, len(counter.fan())))
        put(head)
        given = 0
        for rows in blocks:
            counter.add(rows)
            put(rows)
            given += len(rows)
        if given != count * ROW:
            raise ValueError(f"{given // ROW} rows were given to be written, and {count} announced")
        put(counter.fan().tobytes())
        file.write(hasher.digest())
        file.flush()
        return hasher.digest()

    def _open(self, path: Path) -> IndexTable | None:
        try:
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC or not self._authentic(file):
                    return None
                return _mapped(file, path)
        except OSError:
            return None

    def _authentic(self, file: IO[bytes]) -> bool:
        """By reads and not through the mapping, so that the file does not become memory of this process."""
        file.seek(0)
        rest = os.fstat(file.fileno()).st_size - _DIGEST
        hasher = blake3(key=self._key)
        while rest > 0:
            block = file.read(min(_BLOCK, rest))
            if not block:
                return False
            hasher.update(block)
            rest -= len(block)
        return file.read() == hasher.digest()


def _mapped(file: IO[bytes], path: Path | None = None) -> IndexTable:
    """The table in a file whose digest is right."""
    buffer = mmap(file.fileno(), 0, access=ACCESS_READ)
    _, length, count, prefixes = _HEAD.unpack_from(buffer)
    head = json.loads(buffer[_HEAD.size : _HEAD.size + length])
    packs = [TablePack(bytes.fromhex(name), *rest) for name, *rest in head["packs"]]
    indexes = frozenset(map(bytes.fromhex, head["indexes"]))
    begin = _HEAD.size + length
    fan_at = begin + count * ROW
    fan = memoryview(buffer)[fan_at : fan_at + 4 * prefixes].cast("I")
    return IndexTable(packs, indexes, buffer, begin, fan, path)
