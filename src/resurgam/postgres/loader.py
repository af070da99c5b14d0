"""Loads a scanned plain dump into an empty database over several connections, without psql.

Rules:
- the script's order holds, except where loadplan.py is sure that statements may run side by side;
- a table is loaded whole by one connection, by TRUNCATE and COPY (FREEZE) in one transaction: it keeps the order of
  the rows and is the fastest way. Where something else may be in the table, or see its rows, plain COPY is used;
- the server's count of every COPY must equal the scanner's;
- an error names the line of the dump and the server's message, never values of rows;
- nothing is committed synchronously: the target is dropped on failure, and made durable as a whole on success.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import psycopg

from resurgam.errors import RestoreFailed
from resurgam.postgres.loadboard import Board
from resurgam.postgres.loadcheck import SkipRules, TargetFacts
from resurgam.postgres.loadplan import Group, Job, JobKind, State, plan
from resurgam.postgres.loadruns import RunExecutor
from resurgam.postgres.loadtargets import Targets, look_up
from resurgam.postgres.outline import checked_data, not_the_data
from resurgam.postgres.script import CopyBlock, Item, Run, Script, Statement, TableName
from resurgam.postgres.session import Session, base_settings, refusal
from resurgam.postgres.statements import codec, owner_of, parse_relation
from resurgam.postgres.tokens import tokens

_CLEANING = re.compile(
    rb"DROP\s|ALTER\s[^']*\sDROP\s|CREATE OR REPLACE VIEW\s|SELECT pg_catalog\.lo_unlink\(", re.IGNORECASE
)
# undefined table, schema, object, function, column; see the server's errcodes.txt
_ABSENT = frozenset({"42P01", "3F000", "42704", "42883", "42703"})
_DEADLOCK = "40P01"
_DENIED = "42501"
_ATTEMPTS = 6


class DumpReader(Protocol):
    """Random access to the plain dump, from several threads at once."""

    @property
    def size(self) -> int:
        """Bytes of the whole dump."""

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        """Exactly those bytes, in pieces of moderate size. Raises ArchiveError where they can't be had."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load. `parallel_workers` may help one index build of one connection; None leaves the server's setting."""

    facts: TargetFacts
    connections: int = 2
    skip_ownership: bool = False
    parallel_workers: int | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A statement that was left out, at a line of the dump."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was loaded; `rows` also counts those of INSERTs."""

    rows: dict[TableName, int]
    skipped_statements: tuple[Skipped, ...]
    warnings: tuple[str, ...]


def load(
    script: Script,
    dump: DumpReader,
    connect: Callable[[], psycopg.Connection],
    options: LoadOptions,
    progress: Callable[[int], None] | None = None,
) -> LoadReport:
    """Load `script`, whose bytes `dump` gives, into the empty database that `connect` connects to.

    `progress` is told the bytes of the dump done with so far, from any thread, one at a time. Raises RestoreFailed,
    HostileError, and what `dump` raises; the database is then half loaded and to be dropped. All connections are
    closed on return.
    """
    if dump.size != script.size:
        raise RestoreFailed(f"The dump has {dump.size:,} bytes, but {script.size:,} when it was scanned.")
    loading = _Loading(script, dump, connect, options, progress)
    try:
        loading.run()
    finally:
        loading.close()
    if loading.rows_copied != script.rows:
        raise RestoreFailed("The server took another number of rows than the dump holds.")
    return loading.report()


class _Loading:
    """One load: its connections, counts and progress."""

    def __init__(
        self,
        script: Script,
        dump: DumpReader,
        connect: Callable[[], psycopg.Connection],
        options: LoadOptions,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._script = script
        self._dump = dump
        self._connect = connect
        self._options = options
        self._progress = progress
        self._codec = codec(script.encoding)
        self._rules = SkipRules(options.facts, self._codec, skip_ownership=options.skip_ownership)
        self._base = base_settings(options.facts.server_version, options.parallel_workers)
        self._stop = threading.Event()
        self._sessions: list[Session] = []
        self._lock = threading.Lock()
        self._bytes = 0
        self._bound = False  # the first session holds more than settings: temporary tables, a role
        self._cleaning = True  # nothing but what `pg_dump --clean` begins with has been executed yet
        self.rows_copied: dict[TableName, int] = dict.fromkeys(script.rows, 0)
        self._rows_inserted: dict[TableName, int] = {}
        self._skipped: list[Skipped] = []
        self._ending = False
        self._owners: list[Statement] = []  # refused until the new owner has the rights that the script's end grants

    def run(self) -> None:
        stages = plan(self._script, self._skips)
        for stage in stages:
            if isinstance(stage, Group):
                self._group(stage)
            else:
                self._item(self._session(0), stage.item, stage.state)
                self._bound = self._bound or _binds(stage.item)
        self._ending = True
        for item in self._owners:
            self._statement(self._session(0), item)
        if self._session(0).in_transaction:
            raise RestoreFailed("The dump leaves a transaction open at its end; the live database was not touched.")
        self._session(0).make_durable()
        if self._progress:
            self._progress(self._script.size)

    def report(self) -> LoadReport:
        counts: dict[str, int] = {}
        for skipped in self._skipped:
            counts[skipped.reason] = counts.get(skipped.reason, 0) + 1
        rows = dict(self.rows_copied)
        for name, count in self._rows_inserted.items():
            rows[name] = rows.get(name, 0) + count
        warnings = tuple(f"{n} statement{'s' * (n > 1)} skipped: {why}." for why, n in counts.items())
        return LoadReport(rows, tuple(sorted(self._skipped, key=lambda s: s.line)), warnings)

    def close(self) -> None:
        for session in self._sessions:
            session.connection.close()

    def _session(self, number: int) -> Session:
        while len(self._sessions) <= number:
            self._sessions.append(Session(self._connect(), self._base, self._stop))
        return self._sessions[number]

    def _skips(self, item: Statement) -> bool:
        if reason := self._rules.reason(item):
            self._skipped.append(Skipped(item.line, reason))
            return True
        return False

    def _advance(self, count: int) -> None:
        with self._lock:
            self._bytes = min(self._bytes + count, self._script.size)
            if self._progress:
                self._progress(self._bytes)

    # Groups of jobs

    def _group(self, group: Group) -> None:
        session = self._session(0)
        targets = look_up(session, group)
        if self._bound or session.in_transaction or targets.keep_order:
            for item, state in sorted(
                ((item, job.state) for job in group.jobs for item in job.items), key=lambda pair: pair[0].offset
            ):
                self._item(session, item, state)
            return
        jobs = group.jobs
        targets.chain(jobs)
        count = min(self._options.connections, len(jobs))
        board = Board(jobs)
        sessions = [self._session(number) for number in range(count)]
        with ThreadPoolExecutor(count, thread_name_prefix="load") as pool:
            workers = [
                pool.submit(self._work, board, number, sessions[number], jobs, targets) for number in range(count)
            ]
            try:
                wait(workers, return_when=FIRST_EXCEPTION)
            finally:
                self._finish(board, workers, sessions)
        if board.first_halted is not None:
            workers[board.first_halted].result()

    def _finish(self, board: Board, workers: list[Future[None]], sessions: list[Session]) -> None:
        """Wait for all workers; if one failed, or we are interrupted, the others are cancelled first."""
        if all(worker.done() and worker.exception() is None for worker in workers):
            return
        board.halt(None)
        self._stop.set()
        while not all(worker.done() for worker in workers):
            for session, worker in zip(sessions, workers, strict=True):
                if not worker.done():
                    session.cancel()
            wait(workers, timeout=1)

    def _work(self, board: Board, number: int, session: Session, jobs: tuple[Job, ...], targets: Targets) -> None:
        ended = False
        try:
            while (taken := board.take()) is not None:
                index, may_defer = taken
                job = jobs[index]
                freeze = job.kind is JobKind.DATA and targets.may_truncate(index, job)
                if self._job(session, job, freeze=freeze, may_defer=may_defer):
                    board.done(index)
                else:
                    board.defer(index)
            ended = True
        finally:
            if not ended:
                board.halt(number)

    def _job(self, session: Session, job: Job, *, freeze: bool, may_defer: bool) -> bool:
        """Do a job; False if a check refused its data and it should be tried again after all other data."""
        session.settle(job.state)
        if job.kind is not JobKind.DATA:
            for item in job.items:
                self._item(session, item, job.state)
            return True
        blocks = [item for item in job.items if isinstance(item, CopyBlock)]
        for attempt in range(_ATTEMPTS):
            try:
                self._table(session, blocks, freeze=freeze)
                return True
            except psycopg.Error as error:
                session.rollback()
                state = error.sqlstate or ""
                if state == _DEADLOCK and attempt + 1 < _ATTEMPTS:
                    continue
                if may_defer and (state == "23514" or state.startswith("P0")):
                    return False
                raise refusal(error, blocks[0].line) from None
        return False

    def _table(self, session: Session, blocks: list[CopyBlock], *, freeze: bool) -> None:
        session.execute(b"BEGIN")
        if freeze:
            name = blocks[0].table.sql().encode(self._codec, "surrogateescape")
            session.execute(b"LOCK TABLE ONLY " + name + b" IN ACCESS EXCLUSIVE MODE")
            found = session.execute(b"SELECT 1 FROM ONLY " + name + b" LIMIT 1")
            freeze = found[0].ntuples == 0
        if freeze:
            session.execute(b"TRUNCATE ONLY " + name)
        counts = [self._copy(session, block, freeze=freeze) for block in blocks]
        session.execute(b"COMMIT")
        for block, count in zip(blocks, counts, strict=True):
            self._copied(block, count)

    def _copy(self, session: Session, block: CopyBlock, *, freeze: bool) -> int:
        text = block.text
        if freeze and block.plain:
            text = text.rstrip().removesuffix(b";") + b"\nWITH (FREEZE)"
        data = self._dump.blocks(block.offset, block.length)
        if not block.seen:
            data = checked_data(block, data)
        count = session.copy_in(text, data, self._advance)
        if count != block.rows and not block.seen:
            raise not_the_data(block)
        if count != block.rows:
            raise RestoreFailed(
                f"The server took {count:,} rows of the table {block.table}, but the dump holds {block.rows:,} "
                f"(line {block.line})."
            )
        return count

    def _copied(self, block: CopyBlock, count: int) -> None:
        name = (block.table.schema, block.table.name)
        with self._lock:
            self.rows_copied[name] += count

    # Single items

    def _item(self, session: Session, item: Item, state: State) -> None:
        session.settle(state)
        if isinstance(item, Run):
            executor = RunExecutor(session, item, self._statement, self._skips_in_run, self._inserted)
            executor.execute(self._blocks_of(item))
        elif isinstance(item, CopyBlock):
            try:
                self._copied(item, self._copy(session, item, freeze=False))
            except psycopg.Error as error:
                raise refusal(error, item.line) from None
        else:
            if not self._clean(session, item):
                self._statement(session, item)
            self._advance(len(item.text))

    def _clean(self, session: Session, item: Statement) -> bool:
        """Do one of the statements by which `pg_dump --clean` begins; False once something else has come.

        In an empty database there is nothing to drop, which some of them mind even with IF EXISTS (the views that
        stand in for those of a circle, for one). psql would report that and go on.
        """
        self._cleaning = self._cleaning and item.toc is None and _CLEANING.match(item.text) is not None
        if not self._cleaning:
            return False
        try:
            session.execute_alone(item.text)
        except psycopg.Error as error:
            if error.sqlstate not in _ABSENT:
                raise refusal(error, item.line) from None
            self._skipped.append(Skipped(item.line, "there is nothing to drop in an empty database"))
        return True

    def _statement(self, session: Session, item: Statement) -> None:
        """Execute one statement; again after a deadlock, which reciprocal foreign keys do cause."""
        for attempt in range(_ATTEMPTS):
            try:
                session.execute_alone(item.text)
                return
            except psycopg.Error as error:
                denied = error.sqlstate == _DENIED and not session.in_transaction and not self._ending
                if denied and owner_of(item.text, self._codec) is not None:
                    self._owners.append(item)
                    return
                if (
                    _REFRESH.match(item.text)
                    and (error.sqlstate or "")[:2] in _OF_THE_VIEW
                    and not session.in_transaction
                ):
                    self._skipped.append(Skipped(item.line, _not_refreshed(item.text, error.sqlstate)))
                    return
                if error.sqlstate != _DEADLOCK or attempt + 1 == _ATTEMPTS or session.in_transaction:
                    raise refusal(error, item.line) from None

    def _blocks_of(self, run: Run) -> Iterator[bytes]:
        for block in self._dump.blocks(run.offset, run.length):
            yield block
            self._advance(len(block))
            if self._stop.is_set():
                raise RestoreFailed("Loading was stopped.")

    def _skips_in_run(self, item: Statement) -> bool:
        with self._lock:
            return self._skips(item)

    def _inserted(self, text: bytes, count: int) -> None:
        """Count the rows of one INSERT under the table that it names."""
        named = parse_relation(list(islice(tokens(text), 6)), 2, self._codec)
        if named is not None:
            name = (named[0].schema, named[0].name)
            self._rows_inserted[name] = self._rows_inserted.get(name, 0) + count


_REFRESH = re.compile(rb"REFRESH\s+MATERIALIZED\s+VIEW\s", re.IGNORECASE)
# A view's own trouble (a function it may not call, a row that can't be computed), not the server's (disk, shutdown).
_OF_THE_VIEW = frozenset({"0A", "21", "22", "23", "42", "P0"})


def _not_refreshed(text: bytes, sqlstate: str | None) -> str:
    """What is derived must not keep back what is not; but it is told."""
    statement = text.decode("utf-8", "backslashreplace").strip()[:200]
    return f"the server could not refresh a view (SQLSTATE {sqlstate}), which is empty until this succeeds: {statement}"


# Statements that leave nothing in the session but what settings hold; every other one may.
_FREE = re.compile(
    rb"(?:CREATE(?!\s+(?:(?:GLOBAL|LOCAL)\s+)?TEMP)|ALTER|COMMENT|GRANT|REVOKE|REFRESH|DROP|SECURITY|BEGIN|COMMIT|ANALYZE"
    rb"|SELECT \* FROM pg_catalog\.pg_restore_|SELECT pg_catalog\.lo_unlink)(?![a-z])",
    re.IGNORECASE,
)


def _binds(item: Item) -> bool:
    """Whether the session may hold more than settings after this: another role, temporary tables, cursors."""
    return isinstance(item, Statement) and not _FREE.match(item.text)
