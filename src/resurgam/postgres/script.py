"""A plain dump as a list of statements, COPY blocks and runs, scanned while its bytes stream by.

Rules:
- comments are believed only between statements: function bodies, and names with line ends, can fake pg_dump's;
- of psql's commands only `\\restrict KEY` and its `\\unrestrict KEY` are known, and `\\connect` to the dump's own
  database before its content begins (own_database.py); every other one is refused;
- statements about the dump's own database are kept apart, so that nobody runs them;
- table data and long stretches of INSERTs or of large objects are kept as spans of the dump, not as bytes.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol, cast

from resurgam.errors import HostileError
from resurgam.postgres.lexed import refused_backslash
from resurgam.postgres.lexer import Lexer
from resurgam.postgres.own_database import ENCODING_LINE, connected_database, creates, database_of
from resurgam.postgres.statements import (
    Relation,
    Setting,
    TocEntry,
    client_only,
    codec,
    owner_of,
    parse_copy,
    parse_setting,
    parse_toc,
)

TableName = tuple[str | None, str]

_END_MARKER = b"-- PostgreSQL database dump complete"
_DUMPED = re.compile(rb"-- Dumped (from database|by pg_dump) version ([^\n\r]{1,100})")
_RESTRICT = re.compile(rb"\\(un)?restrict ([A-Za-z0-9]+)[ \t]*")
_LARGE = re.compile(rb"SELECT (?:pg_catalog\.)?lo(?:_open|write|_close|_create)\(|ALTER LARGE OBJECT \d")
_BEGIN = re.compile(rb"BEGIN\s*;")
_COMMIT = re.compile(rb"COMMIT\s*;")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with its semicolon, at a byte offset and line of the dump."""

    text: bytes
    offset: int
    line: int
    toc: TocEntry | None = None
    setting: Setting | None = None


@dataclass(frozen=True, slots=True)
class CopyBlock:
    """Data of one table: `length` bytes at `offset`, without the closing `\\.` line; `line` is its statement's.

    `plain`: the COPY has no options of its own. `seen`: whether the data have been read; those that an outline told
    of have not, so that whoever reads them first must check them (outline.py).
    """

    text: bytes
    table: Relation
    plain: bool
    offset: int
    length: int
    rows: int
    line: int
    toc: TocEntry | None = None
    seen: bool = True


class RunKind(Enum):
    INSERTS = "inserts"
    LARGE_OBJECTS = "large objects"


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of statements that is not kept but lexed again where it is executed.

    `escapes`: how its strings are quoted (Lexer.escapes); `owners`: roles that get large objects in it; `whole`:
    it begins and ends outside of a transaction of its own.
    """

    kind: RunKind
    offset: int
    length: int
    line: int
    escapes: bool
    toc: TocEntry | None = None
    owners: frozenset[str] = frozenset()
    whole: bool = True


Item = Statement | CopyBlock | Run


@dataclass(frozen=True, slots=True)
class Script:
    """A whole dump. `missing` says what a complete dump of pg_dump would have had; empty if it has it.

    `rows` counts the rows of COPY data for each (schema, table); INSERTs are counted by the server only. `database` is
    the dump's own, if it says which, and `about_it` the statements about it, which are none of `items`.
    """

    items: tuple[Item, ...]
    size: int
    missing: str
    dumped_from: str | None
    dumped_by: str | None
    restrict_key: str | None
    encoding: str
    rows: dict[TableName, int]
    database: str | None = None
    about_it: tuple[Statement, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether pg_dump's end marker stands after the last statement."""
        return not self.missing


class Observer(Protocol):
    """Sees a dump pass, besides the scanner."""

    def statement(self, text: bytes, toc: TocEntry | None) -> None:
        """A statement that is neither a COPY, nor an INSERT, nor a setting."""

    def table(self, relation: Relation) -> None:
        """Data of this table begin, or go on after those of others."""

    def data(self, piece: memoryview) -> None:
        """A piece of the data, valid during the call only."""


class ScriptScanner:
    """Feed it a dump in blocks of any size, then ask for the Script.

    `keep_statements=False` keeps COPY blocks only: enough for row counts and completeness while a dump is taken.
    """

    def __init__(self, *, keep_statements: bool = True, observer: Observer | None = None) -> None:
        self._lexer = Lexer(self, on_data=observer.data if observer else None)
        self._keep = keep_statements
        self._observer = observer
        self._skipped = False  # the data that end next were not fed
        self._items: list[Item] = []
        self._run: Run | None = None
        self._owners: set[str] = set()
        self._open = 0  # transactions that the run has begun and not ended
        self._comments: deque[bytes] = deque(maxlen=100)
        self._toc: TocEntry | None = None
        self._copy: tuple[bytes, Relation, bool, int] | None = None
        self._codec = "utf-8"
        self._encoding = "UTF8"
        self._dumped: dict[bytes, str] = {}
        self._restrict_key: str | None = None
        self._restricted = False
        self._marked = False
        self._rows: dict[TableName, int] = {}
        self._size = 0
        self._content = False  # something that is neither a setting nor about a database has come
        self._database: str | None = None
        self._about: list[tuple[str, Statement]] = []
        self._encoding_line = 0  # of an \encoding for which the \connect is yet to come

    def feed(self, block: bytes) -> None:
        """Scan one more block. Raises HostileError for what is refused, DamagedError for a NUL byte."""
        self._size += len(block)
        self._lexer.feed(block)

    def skip(self, length: int, rows: int) -> None:
        """Take it that COPY data of that length begin here, and go on after them. Raises DamagedError (Lexer.skip)."""
        self._lexer.skip(length, rows)
        self._size += length
        self._skipped = True

    def finish(self) -> Script:
        """The script. Raises DamagedError if the dump ends within a statement or within COPY data."""
        self._lexer.finish()
        self._end_run()
        self._awaited_connect()
        about_it = tuple(item for name, item in self._about if name == self._database)
        # What is about another database, or about one that is not known to be its own, is an item like any other.
        if others := [item for name, item in self._about if name != self._database]:
            self._items = sorted((*self._items, *others), key=lambda item: item.offset)
        missing = ""
        if not self._marked:
            missing = "pg_dump's end marker is missing"
        elif self._restricted:
            missing = "the closing \\unrestrict line is missing"
        return Script(
            tuple(self._items),
            self._size,
            missing,
            self._dumped.get(b"from database"),
            self._dumped.get(b"by pg_dump"),
            self._restrict_key,
            self._encoding,
            dict(self._rows),
            self._database,
            about_it,
        )

    # What the lexer tells:

    def statement(self, text: bytes, offset: int, line: int, head: tuple[bytes, ...]) -> bool:
        self._announced()
        first = head[0] if head else b""
        if first == b"copy":
            relation, plain = parse_copy(text, line, self._codec)
            self._end_run()
            self._content = True
            self._copy = (text, relation, plain, line)
            if self._observer is not None:
                self._observer.table(relation)
            return True
        if first == b"insert":
            self.inserts(offset, len(text), line)
            return False
        large = self._large_object(text, offset, line)
        if not large and self._is_about_a_database(text, offset, line):
            return False
        setting = parse_setting(text) if not large and first in (b"set", b"reset", b"select") else None
        self._content = self._content or large or setting is None
        if self._observer is not None and setting is None:
            self._observer.statement(text, self._toc)
        if large:
            return False
        if setting is not None:
            self._apply(setting, line)
        self._end_run()
        if self._keep:
            self._items.append(Statement(text, offset, line, self._toc, setting))
        return False

    def inserts(self, offset: int, length: int, line: int) -> None:
        self._announced()
        self._content = True
        self._extend(RunKind.INSERTS, offset, length, line)

    def comment(self, text: bytes) -> None:
        if text == _END_MARKER:
            self._marked = True
        elif found := _DUMPED.fullmatch(text):
            self._dumped.setdefault(found.group(1), found.group(2).decode("utf-8", "replace"))
        else:
            self._comments.append(text)

    def meta(self, text: bytes, line: int) -> None:
        found = _RESTRICT.fullmatch(text)
        if found is None:
            self._connect(text, line)
            return
        self._awaited_connect()
        key = found.group(2).decode("ascii")
        closes = found.group(1) is not None
        if closes != self._restricted or (closes and key != self._restrict_key):
            raise HostileError(f"Line {line} of the dump is refused: its \\restrict and \\unrestrict do not match.")
        self._restricted = not closes
        self._restrict_key = key

    def copied(self, offset: int, length: int, rows: int) -> None:
        text, relation, plain, line = cast("tuple[bytes, Relation, bool, int]", self._copy)
        self._copy = None
        seen, self._skipped = not self._skipped, False
        self._items.append(CopyBlock(text, relation, plain, offset, length, rows, line, self._toc, seen))
        name = (relation.schema, relation.name)
        self._rows[name] = self._rows.get(name, 0) + rows

    # The rest:

    def _announced(self) -> None:
        """A statement begins: what stood before it announces it, and the end was not the end."""
        self._marked = False
        self._awaited_connect()
        if self._comments:
            self._toc = parse_toc(self._comments, self._codec) or self._toc
            self._comments.clear()

    def _connect(self, text: bytes, line: int) -> None:
        """Take a `\\connect` to the dump's own database, or the `\\encoding` before it, and refuse any other command.

        psql would begin a new session, so that all settings begin anew.
        """
        if text == ENCODING_LINE and not (self._encoding_line or self._restricted):
            self._encoding_line = line
            return
        name = connected_database(text, self._codec)
        if name is None or self._restricted:
            raise refused_backslash(line)
        if self._content or self._database not in (None, name):
            raise HostileError(
                f"Line {line} of the dump is refused: it connects to another database, or in the midst of the content.",
                "Restore dumps of one database; pg_dump writes no others.",
            )
        self._encoding_line = 0
        self._database = name
        self._items.clear()
        self._lexer.escapes = False
        self._encoding, self._codec = "UTF8", "utf-8"

    def _awaited_connect(self) -> None:
        if self._encoding_line:
            raise refused_backslash(self._encoding_line)

    def _is_about_a_database(self, text: bytes, offset: int, line: int) -> bool:
        # Where backslashes escape, such a statement is left to be refused: pg_dump writes none there.
        name = None if self._lexer.escapes else database_of(text, self._codec)
        if name is None:
            return False
        if creates(text) and self._database is None and not self._content:
            self._database = name
        self._end_run()
        self._about.append((name, Statement(text, offset, line, self._toc)))
        return True

    def _apply(self, setting: Setting, line: int) -> None:
        if setting.name == "client_encoding":
            if setting.value and client_only(setting.value):
                raise HostileError(
                    f"Line {line} of the dump is refused: its encoding {setting.value} can't be read safely.",
                    "Dump again with pg_dump --encoding=UTF8.",
                )
            self._encoding = setting.value or "UTF8"
            self._codec = codec(self._encoding)
        elif setting.name == "standard_conforming_strings":
            self._lexer.escapes = (setting.value or "on").lower() in ("off", "false", "no", "0", "of", "f", "n")

    def _large_object(self, text: bytes, offset: int, line: int) -> bool:
        """Take the statement into a run of large objects, if it belongs there."""
        in_run = self._run is not None and self._run.kind is RunKind.LARGE_OBJECTS
        if _LARGE.match(text):
            before = self._items[-1] if self._items and not in_run else None
            if isinstance(before, Statement) and _BEGIN.fullmatch(before.text) and self._run is None:
                self._items.pop()
                self._open += 1
                self._extend(RunKind.LARGE_OBJECTS, before.offset, len(before.text), before.line)
            self._extend(RunKind.LARGE_OBJECTS, offset, len(text), line)
            if text.startswith(b"A") and (owner := owner_of(text, self._codec)) is not None:
                self._owners.add(owner)
            return True
        begins = _BEGIN.fullmatch(text)
        if in_run and (begins or _COMMIT.fullmatch(text)):
            self._open += 1 if begins else -1
            self._extend(RunKind.LARGE_OBJECTS, offset, len(text), line)
            return True
        return False

    def _extend(self, kind: RunKind, offset: int, length: int, line: int) -> None:
        run = self._run
        escapes = self._lexer.escapes
        if run is not None and (run.kind is not kind or run.escapes != escapes):
            self._end_run()
            run = None
        start, first, toc = (run.offset, run.line, run.toc) if run else (offset, line, self._toc)
        self._run = Run(kind, start, offset + length - start, first, escapes, toc)

    def _end_run(self) -> None:
        if self._run is not None and self._keep:
            run = self._run
            self._items.append(replace(run, owners=frozenset(self._owners), whole=self._open == 0))
        self._open = 0
        self._owners.clear()
        self._run = None
