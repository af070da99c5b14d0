"""Where SQL statements begin and end in a plain dump, found while its bytes stream by.

The rules are those of PostgreSQL's own scanner (src/fe_utils/psqlscan.l): quotes, E'' escapes and their
continuation on the next line, dollar quotes, nested comments, parentheses, BEGIN ATOMIC bodies, and COPY data up
to its line `\\.`. Beyond psql's rules:
- a backslash outside quotes is refused: no valid statement holds one, and only psql's commands begin with it;
- a NUL byte is damage: no server encoding has one in text.

Positions are absolute byte offsets in the dump, lines count from 1. One statement is kept in memory, never more;
COPY data is never kept. What a statement means is the sink's to know.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from resurgam.errors import DamagedError, HostileError
from resurgam.postgres import copy_end
from resurgam.postgres.copy_end import Buffer
from resurgam.postgres.lexed import Sink, cut_within, not_as_outlined, refused_backslash
from resurgam.postgres.tokens import IDENT as _IDENT
from resurgam.postgres.tokens import INSERTS as _INSERTS
from resurgam.postgres.tokens import tokens

# MaxAllocSize of the server: it could not take a longer statement either.
MAX_STATEMENT = 1 << 30

_IDENT_BYTES = frozenset(b"$_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") | set(range(128, 256))
_MAY_GO_ON = (_IDENT_BYTES | set(b"-/")) - set(b"$")
_SPACE = re.compile(rb"[ \t\n\r\f\v]*+")
_JUMP = re.compile(rb"['\"$();\\]|--|/\*|[-/]\Z")
_JUMP_WORDS = re.compile(rb"['\"$();\\]|--|/\*|[-/]\Z|" + _IDENT)
_DOLLAR = re.compile(rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$")
_DOLLAR_CUT = re.compile(rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\Z")
_ESCAPED = re.compile(rb"[^'\\]*+(?:\\.[^'\\]*+)*+", re.DOTALL)
_COMMENT_PART = re.compile(rb"/\*|\*/")
_LINE_END = re.compile(rb"[\n\r]")
# What may stand between the parts of one string; with a line end in it, a quote after it continues the string
# before it (the manual's 4.1.2.1), and in the same kind of quoting.
_GAP = re.compile(rb"(?:[ \t\n\r\f\v]|--[^\n\r]*+|-\Z)*+")
_COPY_START = re.compile(rb"[ \t]*+(\r?\n)?+")

_ROUTINE = re.compile(rb"create (?:or replace )?(?:function|procedure)\b")
_HEAD_WORDS = 5


class Lexer:
    """Pushed blocks of any size, it tells a sink of every statement.

    `escapes` says that backslashes escape in plain quotes (standard_conforming_strings is off); the sink sets it.
    `offset` and `line` are those of the first byte; without `stretches` every INSERT is told as a statement;
    `on_data` sees the COPY data pass, in pieces that it must not keep.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        escapes: bool = False,
        offset: int = 0,
        line: int = 1,
        stretches: bool = True,
        on_data: Callable[[memoryview], None] | None = None,
    ) -> None:
        self.escapes = escapes
        self._sink = sink
        self._on_data = on_data
        self._stretches = stretches
        self._buffer: bytearray = bytearray()
        self._base = offset  # where the buffer begins in the dump
        self._line = line  # the line at `_base`
        self._last = 10  # the byte before the buffer
        self._final = False
        self._copying = False
        self._copy_offset = 0
        self._copy_rows = 0
        self._copy_line = 0
        self._long_rows = False  # those before were
        self._awaits_copy = False
        self._skipped = False
        self._reset()

    def _reset(self) -> None:
        self._inside: bytes = b""  # the open quote: ' " E $tag$ or / for a comment
        self._started = False
        self._position = 0  # how far the statement at the buffer's start has been lexed
        self._token_end = 0
        self._comment_depth = 0
        self._parens = 0
        self._blocks = 0
        self._head: list[bytes] = []
        self._words = True
        self._routine = False
        self._begin_seen = False

    @property
    def line(self) -> int:
        """The line of the oldest byte not told yet."""
        return self._line

    def feed(self, block: bytes) -> None:
        """Lex one more block. Raises HostileError and DamagedError."""
        if 0 in block:
            raise DamagedError(
                f"The dump is damaged: a NUL byte at offset {self._base + len(self._buffer) + block.index(0)}.",
                "Restore another backup of this database.",
            )
        if self._buffer:
            self._buffer += block
            used = self._advance(self._buffer)
            self._consume(self._buffer, used)
            del self._buffer[:used]
        else:
            used = self._advance(block)
            self._consume(block, used)
            self._buffer = bytearray(memoryview(block)[used:])
        if len(self._buffer) > MAX_STATEMENT:
            raise HostileError(f"The statement at line {self._line} of the dump is longer than a server can take.")

    def skip(self, length: int, rows: int) -> None:
        """Take it that the next `length` bytes are COPY data of so many rows; what is fed then comes after them.

        DamagedError if no data can begin here; `feed` raises it if they do not end there.
        """
        if not self._copying or self._copy_rows != -1 or self._skipped or self._buffer != b"\n":
            raise not_as_outlined(self._line)
        self._base += length
        self._copy_rows = rows - 1
        self._skipped = True

    def finish(self) -> None:
        """Say that there are no more blocks. Raises DamagedError if something is left open."""
        self._final = True
        used = self._advance(self._buffer)
        self._consume(self._buffer, used)
        del self._buffer[:used]
        if self._copying or self._awaits_copy:
            raise cut_within(self._copy_line, "COPY data")
        if not self._started:
            return
        if self._inside:
            raise cut_within(self._line, {b"/": "a comment"}.get(self._inside, "a quoted string"))
        if any(True for _ in tokens(bytes(self._buffer))):
            raise cut_within(self._line, "a statement")

    def _consume(self, data: Buffer, used: int) -> None:
        if used:
            self._last = data[used - 1]
            self._base += used

    def _advance(self, data: Buffer) -> int:
        """Lex what can be lexed; the count of bytes that are done with."""
        start = 0
        while True:
            if self._copying:
                start, done = self._copy_data(data, start)
            elif self._awaits_copy:
                start, done = self._copy_begin(data, start)
            elif self._started:
                start, done = self._statement(data, start)
            else:
                start, done = self._boundary(data, start)
            if done:
                return start

    def _boundary(self, data: Buffer, start: int) -> tuple[int, bool]:
        """Pass what may stand between statements; the new position, and whether more bytes are needed."""
        found = _SPACE.match(data, start)
        position = found.end() if found else start
        self._line += data.count(b"\n", start, position)
        if position == len(data):
            return position, True
        first = data[position]
        if first == 0x3B:  # ;
            return position + 1, False
        if first == 0x5C or data.startswith(b"--", position):
            line_end = _LINE_END.search(data, position)
            if line_end is None and not self._final:
                return position, True
            end = line_end.start() if line_end else len(data)
            text = bytes(memoryview(data)[position:end])
            if first != 0x5C:
                self._sink.comment(text)
            elif (data[position - 1] if position else self._last) != 10:
                raise refused_backslash(self._line)
            else:
                self._sink.meta(text, self._line)
            return end, False
        if first == 0x2D and position + 1 == len(data) and not self._final:
            return position, True
        if first == 0x49 and self._stretches and not self.escapes and (stretch := _INSERTS.match(data, position)):
            self._sink.inserts(self._base + position, stretch.end() - position, self._line)
            self._line += data.count(b"\n", position, stretch.end())
            return stretch.end(), False
        self._reset()
        self._started = True
        return position, False

    def _statement(self, data: Buffer, start: int) -> tuple[int, bool]:
        """Lex on in the statement that begins at `start`; positions kept between calls are relative to it."""
        position = start + self._position
        while True:
            if self._inside:
                position = self._leave(data, start, position)
                if self._inside:
                    break
                continue
            found = (_JUMP_WORDS if self._words else _JUMP).search(data, position)
            if found is None:
                position = len(data)
                break
            token, at, end = found.group(), found.start(), found.end()
            if end == len(data) and not self._final and token[0] in _MAY_GO_ON:
                position = at
                break
            if token == b";" and not self._parens and not self._blocks:
                text = bytes(memoryview(data)[start:end])
                self._end(text, start)
                return end, False
            position = self._token(data, start, token, at, end)
            if position < 0:
                position = at
                break
        self._position = position - start
        return start, True

    def _end(self, text: bytes, start: int) -> None:
        line = self._line
        self._line += text.count(b"\n")
        self._started = False
        self._awaits_copy = self._sink.statement(text, self._base + start, line, tuple(self._head))
        self._copy_line = line

    def _token(self, data: Buffer, start: int, token: bytes, at: int, end: int) -> int:
        """Take one token; the position after it, or -1 if it may go on in the next block."""
        if token == b"'":
            self._inside = b"E" if self._escaped(data, start, at) else b"'"
        elif token == b'"':
            self._inside = b'"'
            self._word(b'"')
        elif token == b"$":
            return self._dollar(data, start, at)
        elif token == b"(":
            self._parens += 1
        elif token == b")":
            self._parens = max(0, self._parens - 1)
        elif token == b"\\":
            raise refused_backslash(self._line + data.count(b"\n", start, at))
        elif token == b"--":
            self._inside = b"-"
        elif token == b"/*":
            self._inside = b"/"
            self._comment_depth = 1
        elif self._words and token[0] in _IDENT_BYTES:
            self._word(token.lower())
        return end

    def _word(self, word: bytes) -> None:
        if len(self._head) < _HEAD_WORDS and (not self._head or self._head[0] == b"create"):
            self._head.append(word)
            self._routine = _ROUTINE.match(b" ".join(self._head)) is not None
            self._words = self._head[0] == b"create" and (self._routine or len(self._head) < _HEAD_WORDS)
        elif self._routine and not self._parens:
            if self._blocks:
                self._blocks += {b"case": 1, b"end": -1}.get(word, 0)
            elif word == b"atomic" and self._begin_seen:
                self._blocks = 1
            self._begin_seen = word == b"begin"

    def _escaped(self, data: Buffer, start: int, at: int) -> bool:
        """Whether backslashes escape in the string whose quote stands at `at`."""
        first = start + self._token_end
        if at > first:
            before = data[at - 1]
            alone = at - 1 == first or data[at - 2] not in _IDENT_BYTES
            if before in b"eE" and alone:
                return True
            if before in b"bBxX" and alone:
                return False
        return self.escapes

    def _dollar(self, data: Buffer, start: int, at: int) -> int:
        first = start + self._token_end
        run = at
        while run > first and data[run - 1] in _IDENT_BYTES:
            run -= 1
        if run < at and data[run] not in b"$0123456789":
            return at + 1  # it is part of an identifier
        if found := _DOLLAR.match(data, at):
            self._inside = found.group()
            return found.end()
        if not self._final and _DOLLAR_CUT.match(data, at):
            return -1
        return at + 1

    def _leave(self, data: Buffer, start: int, position: int) -> int:
        """Look for the end of the open quote or comment; the new position."""
        inside = self._inside
        if inside == b"E":
            return self._leave_escaped(data, start, position)
        if inside == b"/":
            return self._leave_comment(data, position)
        if inside == b"-":
            # A lone carriage return ends a comment too: the server reads on after it.
            found = _LINE_END.search(data, position)
            self._inside = b"" if found else inside
            return found.end() if found else len(data)
        # A doubled quote is two quotes side by side: leaving and entering again lexes the same.
        at = data.find(inside, position)
        if at < 0:
            return max(position, len(data) - len(inside) + 1)
        self._inside = b""
        self._token_end = at + len(inside) - start
        return at + len(inside)

    def _leave_comment(self, data: Buffer, position: int) -> int:
        while self._comment_depth:
            found = _COMMENT_PART.search(data, position)
            if found is None:
                return max(position, len(data) - 1)
            position = found.end()
            self._comment_depth += 1 if found.group() == b"/*" else -1
        self._inside = b""
        return position

    def _leave_escaped(self, data: Buffer, start: int, position: int) -> int:
        while True:
            found = _ESCAPED.match(data, position)
            position = found.end() if found else position
            if position == len(data) or data[position] == 0x5C:
                return position
            gap = _GAP.match(data, position + 1)
            after = gap.end() if gap else position + 1
            if after == len(data) and not self._final:
                return position  # whether the string goes on shows in the next block
            doubled = after == position + 1
            quoted = after < len(data) and data[after] == 0x27
            if quoted and (doubled or _LINE_END.search(data, position, after)):
                position = after + 1
                continue
            self._inside = b""
            self._token_end = position + 1 - start
            return position + 1

    def _copy_begin(self, data: Buffer, start: int) -> tuple[int, bool]:
        """Step over the rest of the COPY statement's line."""
        found = _COPY_START.match(data, start)
        end = found.end() if found else start
        if not found or not found.group(1):
            if bytes(data[end : end + 2]) in (b"", b"\r"):
                return start, True
            raise HostileError(
                f"Line {self._copy_line} of the dump is refused: something stands between COPY … FROM stdin "
                "and its data.",
                "pg_dump ends the line there; restore only dumps whose origin you know.",
            )
        self._awaits_copy = False
        self._copying = True
        self._copy_rows = -1  # the line end of the COPY statement itself is searched, and counted, too
        self._copy_offset = self._base + end
        return end - 1, False

    def _copy_data(self, data: Buffer, start: int) -> tuple[int, bool]:
        if self._skipped and copy_end.MARK.match(data, start) is None:
            if self._final or len(data) - start >= copy_end.LONGEST:
                raise not_as_outlined(self._copy_line)
            return start, True
        self._skipped = False
        cut = copy_end.CUT.search(data, max(start, len(data) - 4))
        limit = cut.start() if cut else len(data)
        found, rows = copy_end.end_of_data(data, start, limit, long_rows=self._long_rows)
        end = limit if found is None else found.start() + 1
        if self._on_data is not None and end > start:
            with memoryview(data) as whole, whole[start + (self._copy_rows < 0) : end] as piece:
                self._on_data(piece)
        self._long_rows = copy_end.are_long(rows, end - start)
        self._copy_rows += rows
        if found is None:
            return end, True
        self._copying = False
        self._line += self._copy_rows + 2
        self._sink.copied(self._copy_offset, self._base + end - self._copy_offset, self._copy_rows)
        return found.end(), False
