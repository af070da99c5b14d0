"""Executes a run: lexes its span of the dump again, sends INSERTs in batches and large objects one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import psycopg

from resurgam.postgres.lexer import Lexer
from resurgam.postgres.script import Run, RunKind, Statement
from resurgam.postgres.session import Session, refusal

# Each batch of INSERTs is one transaction, as all statements of one message are.
_BATCH = 1 << 18


class RunExecutor:
    """One run on one session. `statement` executes, `skips` decides, `inserted` is told each INSERT's rows."""

    def __init__(
        self,
        session: Session,
        run: Run,
        statement: Callable[[Session, Statement], None],
        skips: Callable[[Statement], bool],
        inserted: Callable[[bytes, int], None],
    ) -> None:
        self._session = session
        self._run = run
        self._statement = statement
        self._skips = skips
        self._inserted = inserted
        self._batch: list[Statement] = []
        self._size = 0

    def execute(self, blocks: Iterable[bytes]) -> None:
        """Execute the run, whose bytes `blocks` are. Raises RestoreFailed, and what `blocks` raises."""
        run = self._run
        lexer = Lexer(self, escapes=run.escapes, offset=run.offset, line=run.line, stretches=False)
        for block in blocks:
            lexer.feed(block)
        lexer.finish()
        self._flush()

    def statement(self, text: bytes, offset: int, line: int, head: tuple[bytes, ...]) -> bool:
        item = Statement(text, offset, line)
        if self._run.kind is RunKind.LARGE_OBJECTS:
            if not (text.startswith(b"ALTER") and self._skips(item)):
                self._statement(self._session, item)
            return False
        self._batch.append(item)
        self._size += len(text)
        if self._size >= _BATCH:
            self._flush()
        return False

    def _flush(self) -> None:
        batch, self._batch, self._size = self._batch, [], 0
        if not batch:
            return
        try:
            results = self._session.execute(b"\n".join(item.text for item in batch))
        except psycopg.Error as error:
            if self._session.in_transaction:
                raise refusal(error, batch[0].line) from None
            self._one_by_one(batch)
            return
        for item, result in zip(batch, results, strict=True):
            self._inserted(item.text, result.command_tuples or 0)

    def _one_by_one(self, batch: list[Statement]) -> None:
        """The batch was rolled back: find the statement that the server refuses."""
        for item in batch:
            try:
                results = self._session.execute(item.text)
            except psycopg.Error as error:
                raise refusal(error, item.line) from None
            self._inserted(item.text, results[0].command_tuples or 0)

    def inserts(self, offset: int, length: int, line: int) -> None:
        raise AssertionError("this lexer tells every statement")

    def comment(self, text: bytes) -> None:
        return

    def meta(self, text: bytes, line: int) -> None:
        raise AssertionError("the scanner ended the run before a meta-command")

    def copied(self, offset: int, length: int, rows: int) -> None:
        raise AssertionError("the scanner ended the run before COPY")
