"""Restores the database in place, where the role may not create another one to load beside it.

Everything is dropped and loaded within one transaction, whose COMMIT is the restore's commit (docs/ordering.md). Its id
is journalled before it changes anything, so that after a crash the server tells which side is up. No previous database
is kept: the safety backup, which is always taken first, is the way back. Whoever asks for the tables meanwhile waits,
and then sees the old or the new ones whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from resurgam.clock import Clock
from resurgam.errors import DatabaseError, RestoreFailed
from resurgam.operations.check_fingerprint import recorded_fingerprint
from resurgam.operations.progress import Progress
from resurgam.operations.restore_database import DatabasePlan, LoadedDatabase, require_rows
from resurgam.postgres.connection import Server
from resurgam.postgres.in_place import (
    blockers_ended,
    dropping,
    extensions_that_stay,
    read_present,
    transaction_committed,
)
from resurgam.postgres.load_in_place import load_in_transaction
from resurgam.postgres.loadcheck import read_facts
from resurgam.postgres.multiset import same_rows
from resurgam.postgres.roles import create_roles
from resurgam.postgres.session import Session, base_settings
from resurgam.postgres.taking import table_digest

Journal = Callable[[str, dict[str, Any]], None]
NOT_KEPT = "The database was replaced in place, so no previous one is kept: to take this back, restore {}."
_LOCK_TIMEOUT = "15s"
_WAITED_FOR = ("55P03", "40P01")  # lock_not_available, deadlock_detected
_TOLD = 20


@dataclass(slots=True)
class InPlace:
    """A transaction that has dropped the old and loaded the new, not yet committed."""

    session: Session
    server: Server
    maintenance: Server
    xid: str
    began: float
    clock: Clock

    def require_equal(self, plan: DatabasePlan, metadata: dict[str, Any]) -> None:
        """RestoreFailed if a table's rows are not those that were backed up. Definitions are not compared: pg_dump
        can't see what is not committed.
        """
        expected = recorded_fingerprint(metadata)
        assert expected is not None  # the plan refuses a backup without one
        wrong = [
            ".".join(part for part in table if part)
            for table, wanted in expected.tables.items()
            if table in plan.script.rows
            and (
                table_digest(plan.script, plan.dump, table) != wanted[1]
                or not same_rows(self.session.connection, plan.script, plan.dump, table)
            )
        ]
        if wrong:
            raise RestoreFailed(
                f"The loaded tables are not what was backed up: {', '.join(wrong[:_TOLD])}. The database is as it was.",
                "Use another backup; `resurgam verify` tells whether this one is damaged.",
            )

    def commit(self) -> float:
        """Commit; answers for how long the tables were locked, in seconds. RestoreFailed if it is not committed."""
        try:
            self.session.execute(b"SET LOCAL synchronous_commit = on; COMMIT")
        except psycopg.Error as error:
            pid = self.session.connection.info.backend_pid
            self.session.connection.close()
            if _committed(self.maintenance, self.xid, pid) is not True:
                raise RestoreFailed(
                    f"The restore in place could not be committed ({error.diag.message_primary or error}).",
                    "Restore again; the next backup or restore settles what this one left.",
                ) from None
        return self.clock.monotonic() - self.began


def _committed(server: Server, xid: str, pid: int) -> bool | None:
    try:
        with closing(server.connect()) as connection:
            return transaction_committed(connection, xid, pid)
    except DatabaseError:
        return None


@contextmanager
def replaced_in_place(
    plan: DatabasePlan, safety: str, journal: Journal, clock: Clock, progress: Progress
) -> Iterator[tuple[InPlace, LoadedDatabase]]:
    """Drop and load in one transaction, count the rows in it, and hand it over; it is rolled back at the block's end
    unless it was committed. `safety`: the backup that takes it back. RestoreFailed with the database as it was.
    """
    facts = plan.facts
    if plan.create_roles:
        with closing(plan.maintenance.connect()) as maintenance:
            create_roles(maintenance, plan.create_roles, facts)
            facts = replace(read_facts(maintenance), extensions=facts.extensions)
    options = "-c event_triggers=off" if facts.superuser and facts.server_version >= 170_000 else ""
    with closing(plan.server.connect(options=options)) as connection:
        session = Session(connection, base_settings(facts.server_version, None), threading.Event())
        session.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED")
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        assert row is not None
        open_ = InPlace(session, plan.server, plan.maintenance, str(row[0]), clock.monotonic(), clock)
        mine = {"database": plan.live, "xid": open_.xid, "pid": connection.info.backend_pid, "safety": safety}
        journal("in_place", mine)
        stay = extensions_that_stay(read_present(connection))
        progress.phase("Dropping what is replaced")
        _drop(session, plan)
        progress.phase("Loading the database", plan.script.size)
        rows, warnings = load_in_transaction(session, plan.script, plan.dump, facts, stay, progress.advance)
        progress.phase("Counting the rows")
        session.execute(b"RESET ALL; SET lock_timeout = 0; SET statement_timeout = 0; SET client_encoding = 'UTF8'")
        session.execute(b"SET row_security = off; SET CONSTRAINTS ALL IMMEDIATE")
        require_rows(connection, plan.script.rows)
        yield open_, LoadedDatabase(rows, warnings)


def _drop(session: Session, plan: DatabasePlan) -> None:
    """Drop what is ours; sessions in the way are ended, if we may."""
    connection = session.connection
    try:
        with blockers_ended(plan.maintenance, connection.info.backend_pid):
            session.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'".encode())
            for statement in dropping(connection):
                session.execute(statement.encode())
            session.execute(b"SET LOCAL lock_timeout = 0")
    except psycopg.Error as error:
        if error.sqlstate in _WAITED_FOR:
            raise RestoreFailed(
                f"Other sessions hold locks in {plan.live} that our role can't end; the database is as it was.",
                "Stop the application (docker-compose stop backend) and restore again.",
            ) from None
        raise RestoreFailed(
            f"What is to be replaced in {plan.live} could not be dropped ({error.diag.message_primary or error}); "
            "the database is as it was.",
            "With very many objects the server needs a larger max_locks_per_transaction."
            if error.sqlstate == "53200"
            else "",
        ) from None
