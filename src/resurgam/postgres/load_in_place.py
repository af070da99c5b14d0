"""Loads a scanned dump in its own order within one transaction, which the caller has begun and will commit.

Nothing in the dump may end that transaction: its own BEGIN and COMMIT, which pg_dump writes around large objects, are
left out, and every other word about transactions is refused before anything is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import psycopg

from resurgam.errors import RestoreFailed
from resurgam.postgres.loadcheck import SkipRules, TargetFacts
from resurgam.postgres.loader import DumpReader
from resurgam.postgres.loadruns import RunExecutor
from resurgam.postgres.outline import checked_data, not_the_data
from resurgam.postgres.script import CopyBlock, Run, Script, Statement, TableName
from resurgam.postgres.session import Session, refusal
from resurgam.postgres.statements import codec, owner_of, parse_relation
from resurgam.postgres.tokens import tokens

_FRAME = re.compile(rb"(?:BEGIN|START\s+TRANSACTION|COMMIT|END)(?:\s+(?:WORK|TRANSACTION))?\s*;?\s*\Z", re.IGNORECASE)
_TRANSACTION = re.compile(
    rb"(?:BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE\s+TRANSACTION|DISCARD"
    rb"|SET\s+(?:LOCAL\s+)?TRANSACTION)(?![A-Za-z0-9_])",
    re.IGNORECASE,
)
_REFRESH = re.compile(rb"REFRESH\s+MATERIALIZED\s+VIEW\s", re.IGNORECASE)
_CLEAN = re.compile(rb"DROP\s", re.IGNORECASE)
_ON_EXTENSION = re.compile(rb"(?:CREATE|COMMENT\s+ON)\s+EXTENSION\s", re.IGNORECASE)


def one_transaction_problems(script: Script) -> Iterator[str]:
    """Why the script can't be loaded in one transaction."""
    lines = [
        str(item.line)
        for item in script.items
        if isinstance(item, Statement) and _TRANSACTION.match(item.text) and not _FRAME.match(item.text)
    ]
    if lines:
        yield (
            "The dump handles transactions itself, so that it can't be loaded in place, which is one transaction: line "
            f"{', '.join(lines[:5])}."
        )


def load_in_transaction(
    session: Session,
    script: Script,
    dump: DumpReader,
    facts: TargetFacts,
    stay: frozenset[str],
    progress: Callable[[int], None],
) -> tuple[dict[TableName, int], tuple[str, ...]]:
    """Load everything; answers the rows of COPY data by table, and sentences on what was left out.

    `stay`: extensions that are there and not ours. Raises RestoreFailed, HostileError and what `dump` raises; the
    transaction is then to be rolled back.
    """
    if dump.size != script.size:
        raise RestoreFailed(f"The dump has {dump.size:,} bytes, but {script.size:,} when it was scanned.")
    loading = _Loading(session, script, dump, facts, stay, progress)
    loading.run()
    if loading.rows != script.rows:
        raise RestoreFailed("The server took another number of rows than the dump holds; all is as it was.")
    counts = loading.skipped
    return loading.rows, tuple(f"{n} statement{'s' * (n > 1)} skipped: {why}." for why, n in counts.items())


class _Loading:
    def __init__(
        self,
        session: Session,
        script: Script,
        dump: DumpReader,
        facts: TargetFacts,
        stay: frozenset[str],
        progress: Callable[[int], None],
    ) -> None:
        self._session = session
        self._script = script
        self._dump = dump
        self._stay = stay
        self._progress = progress
        self._codec = codec(script.encoding)
        self._rules = SkipRules(facts, self._codec)
        self._owners: list[Statement] = []  # refused until the new owner has the rights that the script's end grants
        self.rows: dict[TableName, int] = dict.fromkeys(script.rows, 0)
        self.skipped: dict[str, int] = {}

    def run(self) -> None:
        for item in self._script.items:
            if isinstance(item, CopyBlock):
                self._copy(item)
            elif isinstance(item, Run):
                executor = RunExecutor(
                    self._session, item, lambda _, one: self._statement(one), self._skips, lambda *_: None
                )
                executor.execute(self._blocks_of(item))
            elif not self._skips(item):
                self._statement(item)
                self._progress(len(item.text))
        for item in self._owners:
            self._execute(item)

    def _blocks_of(self, run: Run) -> Iterator[bytes]:
        for block in self._dump.blocks(run.offset, run.length):
            yield block
            self._progress(len(block))

    def _skips(self, item: Statement) -> bool:
        reason = self._rules.reason(item)
        if not reason and self._is_about_what_stays(item.text):
            reason = "an extension of somebody else stays as it is"
        if reason:
            self.skipped[reason] = self.skipped.get(reason, 0) + 1
        return bool(reason)

    def _is_about_what_stays(self, text: bytes) -> bool:
        if not self._stay or not _ON_EXTENSION.match(text):
            return False
        words = [token for token in tokens(text[:500]) if token[1] not in (b"if", b"not", b"exists", b"comment", b"on")]
        at = next((i for i, token in enumerate(words) if token == ("word", b"extension")), len(words))
        named = parse_relation(words, at + 1, self._codec)
        return named is not None and named[0].name in self._stay

    def _copy(self, block: CopyBlock) -> None:
        data = self._dump.blocks(block.offset, block.length)
        if not block.seen:
            data = checked_data(block, data)
        try:
            count = self._session.copy_in(block.text, data, self._progress)
        except psycopg.Error as error:
            raise refusal(error, block.line) from None
        if count != block.rows:
            raise (
                not_the_data(block)
                if not block.seen
                else RestoreFailed(
                    f"The server took {count:,} rows of the table {block.table}, but the dump holds {block.rows:,}."
                )
            )
        self.rows[block.table.schema, block.table.name] += count

    def _statement(self, item: Statement) -> None:
        """Execute one statement; the few that may fail without harm within a savepoint."""
        text = item.text
        if _TRANSACTION.match(text):
            if _FRAME.match(text):
                return
            raise RestoreFailed(f"Line {item.line} of the dump would end the restore's transaction; all is as it was.")
        owner = owner_of(text, self._codec) is not None
        if not (owner or _REFRESH.match(text) or (_CLEAN.match(text) and item.toc is None)):
            self._execute(item)
            return
        self._session.execute(b"SAVEPOINT resurgam")
        try:
            self._session.execute_alone(text)
        except psycopg.Error as error:
            if not self._session.in_transaction or self._session.connection.closed:
                raise refusal(error, item.line) from None
            self._session.execute(b"ROLLBACK TO resurgam")
            if owner:
                self._owners.append(item)
            else:
                shown = text.decode("utf-8", "replace").strip()[:200]
                why = f"the server refused it (SQLSTATE {error.sqlstate}): {shown}"
                self.skipped[why] = self.skipped.get(why, 0) + 1
        self._session.execute(b"RELEASE resurgam")

    def _execute(self, item: Statement) -> None:
        try:
            if item.setting is not None:
                self._session.execute(item.text)
            else:
                self._session.execute_alone(item.text)
        except psycopg.Error as error:
            raise refusal(error, item.line) from None
