"""One connection that loads: settings as the script has them, statements, and COPY at the level of libpq.

COPY is written by non-blocking PQputCopyData, and results are awaited by poll(2), because psycopg's binding holds
the GIL in both: blocking calls would keep every other connection's thread waiting (seen: an index build of 4 s that
nothing ran beside).
"""

from __future__ import annotations

import re
import select
import threading
from collections.abc import Callable, Iterable, Mapping

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from resurgam.errors import HostileError, RestoreFailed
from resurgam.postgres.flush import FLUSH, not_durable
from resurgam.postgres.script import Statement

_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY)
_COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)
# Larger pieces only grow libpq's buffer.
_PIECE = 1 << 18
_COPY_CONTEXT = re.compile(r"COPY .*?, line \d+", re.DOTALL)


def base_settings(server_version: int, parallel_workers: int | None) -> dict[str, str]:
    """Settings of every loading connection, before those of the script.

    Without synchronous commits a crash of the server may lose what was loaded, never tear it: the database being
    loaded is dropped then, and the finished one is made durable before it is swapped in.
    """
    settings = {
        "synchronous_commit": "off",
        "standard_conforming_strings": "on",
        "datestyle": "ISO",
        "intervalstyle": "postgres",
        "default_transaction_read_only": "off",
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "idle_session_timeout": "0",
    }
    if parallel_workers is not None:
        settings["max_parallel_maintenance_workers"] = str(parallel_workers)
    if server_version >= 170000:
        settings["transaction_timeout"] = "0"
    return settings


class Session:
    """A connection with what it has been told to set. Methods raise psycopg.Error as the server sent it."""

    def __init__(self, connection: psycopg.Connection, base: Mapping[str, str], stop: threading.Event) -> None:
        self.connection = connection
        self._pgconn = connection.pgconn
        self._stop = stop
        self._base = base
        self._applied: dict[str, Statement] = {}
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)
        self._poll_both = select.poll()
        self._poll_both.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)
        connection.autocommit = True
        for name in base:
            self.execute(self._basic(name))

    def _basic(self, name: str) -> bytes:
        return f"SET {name} = '{self._base[name]}'".encode()

    @property
    def in_transaction(self) -> bool:
        return self._pgconn.transaction_status != pq.TransactionStatus.IDLE

    def settle(self, state: Mapping[str, Statement]) -> None:
        """Make the script's settings those of `state`. Raises RestoreFailed."""
        if self._applied is state:
            return
        for name in [name for name in self._applied if name not in state]:
            quoted = ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
            self.execute(self._basic(name) if name in self._base else f"RESET {quoted}".encode())
            del self._applied[name]
        for name, statement in state.items():
            if self._applied.get(name) is not statement:
                try:
                    self.execute(statement.text)
                except psycopg.Error as error:
                    raise refusal(error, statement.line) from None
                self._applied[name] = statement

    def execute(self, text: bytes) -> list[pq.abc.PGresult]:
        """Send statements, in one go, and wait for all their results."""
        self._pgconn.send_query(text)
        results: list[pq.abc.PGresult] = []
        failed: pq.abc.PGresult | None = None
        while result := self._result():
            if result.status in _COPYING:
                self.connection.close()
                raise HostileError("A statement of the dump began a COPY that the scanner had not seen; refused.")
            if result.status not in _GOOD:
                failed = failed or result
            results.append(result)
        if failed is not None:
            raise error_from_result(failed, encoding=self.connection.info.encoding)
        return results

    def make_durable(self) -> None:
        """Flush all that was committed while this session lived. RestoreFailed if it does not live any more."""
        self.settle({})
        try:
            self.execute(FLUSH)
        except psycopg.Error as error:
            raise not_durable(error) from None

    def _result(self) -> pq.abc.PGresult | None:
        """The next result, waited for without the GIL, which psycopg's get_result() would hold."""
        while self._pgconn.is_busy():
            if self._poll.poll(1000):
                self._pgconn.consume_input()
        return self._pgconn.get_result()

    def execute_alone(self, text: bytes) -> list[pq.abc.PGresult]:
        """The same for a statement of the script: it must leave quoting and encoding as they are."""
        before = self._lexing()
        results = self.execute(text)
        if self._lexing() != before:
            raise HostileError("A statement of the dump changed how strings are read without a SET; refused.")
        return results

    def _lexing(self) -> tuple[bytes | None, bytes | None]:
        status = self._pgconn.parameter_status
        return status(b"standard_conforming_strings"), status(b"client_encoding")

    def copy_in(self, text: bytes, blocks: Iterable[bytes], sent: Callable[[int], None]) -> int:
        """Run a COPY FROM stdin; the count of rows that the server took. Raises what `blocks` raises, too."""
        result = self._pgconn.exec_(text)  # exec_() releases the GIL, and leaves COPY to be written
        if result.status != pq.ExecStatus.COPY_IN:
            raise error_from_result(result, encoding=self.connection.info.encoding)
        self._pgconn.nonblocking = 1
        try:
            complaint = self._write(blocks, sent)
            answer = self._result()
            while more := self._result():
                answer = more
        finally:
            self._pgconn.nonblocking = 0
        if answer is None or answer.status != pq.ExecStatus.COMMAND_OK:
            raise error_from_result(answer, encoding=self.connection.info.encoding) if answer else complaint
        return answer.command_tuples or 0

    def _write(self, blocks: Iterable[bytes], sent: Callable[[int], None]) -> psycopg.Error:
        """Write all data; if the server answers before its end, stop, its answer tells why."""
        pgconn = self._pgconn
        ended = False
        try:
            for block in blocks:
                view = memoryview(block)
                for start in range(0, len(view), _PIECE):
                    pgconn.put_copy_data(view[start : start + _PIECE])
                    self._flush()
                    if self._poll.poll(0):
                        pgconn.consume_input()
                sent(len(block))
            ended = True
            pgconn.put_copy_end()
            self._flush()
        except psycopg.OperationalError as error:
            return error
        finally:
            if not ended and pgconn.status == pq.ConnStatus.OK:
                self._abandon()
        return psycopg.OperationalError("the server did not answer COPY")

    def _abandon(self) -> None:
        """End a COPY without its data; the server may have ended it already."""
        try:
            self._pgconn.put_copy_end(b"the dump could not be read on")
            self._flush()
        except (psycopg.OperationalError, RestoreFailed):
            return

    def _flush(self) -> None:
        while self._pgconn.flush() == 1:
            if any(event & ~select.POLLOUT for _, event in self._poll_both.poll(1000)):
                self._pgconn.consume_input()
            if self._stop.is_set():
                raise RestoreFailed("Loading was stopped.")

    def rollback(self) -> None:
        """Leave a transaction, if the connection still lives."""
        if self._pgconn.status == pq.ConnStatus.OK and self.in_transaction:
            self.execute(b"ROLLBACK")

    def cancel(self) -> None:
        """Stop what the server is doing for this connection; from any thread."""
        if self._pgconn.status != pq.ConnStatus.OK:
            return
        try:
            self.connection.cancel_safe(timeout=5)
        except psycopg.Error:
            return  # the server is gone, or the statement has ended meanwhile


def refusal(error: psycopg.Error, line: int) -> RestoreFailed:
    """The server's refusal of what stands at a line of the dump, without anything that may be row data.

    DETAIL, HINT and the values in data exceptions (SQLSTATE class 22) hold values of rows; so does CONTEXT, but for
    the table and the line within the COPY data.
    """
    said = (error.diag.message_primary or str(error)).strip()
    state = error.sqlstate or ""
    if state.startswith("22"):
        said = said.split(": ")[0]
    elif state.startswith("P0") and error.diag.context:
        said = "a function of the dump raised an exception"
    where = _COPY_CONTEXT.match(error.diag.context or "")
    place = f" ({where.group()} of its data)" if where else ""
    code = f" (SQLSTATE {state})" if state else ""
    return RestoreFailed(
        f"Loading failed at line {line} of the dump{place}: {said}{code}. The live database was not touched.",
        _HINTS.get(state, "Look at that line of the dump; the server's log holds the details."),
    )


_HINTS = {
    "53100": "The server's disk is full: make room and restore again.",
    "42501": "Restore as the role that owned the database, or as a superuser.",
    "57P01": "The server was shut down meanwhile; restore again.",
}
