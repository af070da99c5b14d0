"""What drill.toml asks a restored copy. Each answer is a sentence; none of them changes the copy or leaves it.

Rules:
- SQL runs in a read-only transaction, with a time-out; so does the list of what a column refers to.
- Programs get no password: RESURGAM_DRILL_DSN names the copy without it, PGPASSFILE leads libpq to it. What they start
  ends with them.
- An assertion that can't be evaluated has failed.
"""

from __future__ import annotations

import os
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import STDOUT, Popen, TimeoutExpired
from threading import Thread
from typing import IO, Any

import psycopg
from psycopg import sql

from resurgam import processes
from resurgam.clock import Clock
from resurgam.postgres.connection import Server
from resurgam.settings.drill_file import Assertion, CommandAssertion, HttpAssertion, References, SqlAssertion

_LISTED = 20
_POLL_SECONDS = 0.1
_KEPT_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Restored:
    """The restored copy: its database (sessions with these options), its files, and where drill.toml lies."""

    server: Server
    options: str
    files: Path
    base: Path


@dataclass(frozen=True, slots=True)
class Checked:
    """One assertion's result. `message` says what was found; `missing`: the first values that no file belongs to."""

    kind: str
    name: str
    passed: bool
    message: str
    seconds: float
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        told = {"kind": self.kind, "name": self.name, "passed": self.passed, "message": self.message}
        return {**told, "seconds": round(self.seconds, 3), "missing": list(self.missing)}


@dataclass(frozen=True, slots=True)
class _Answer:
    passed: bool
    message: str
    missing: tuple[str, ...] = ()


def check_assertions(assertions: tuple[Assertion, ...], copy: Restored, clock: Clock) -> tuple[Checked, ...]:
    """Ask one after the other; all of them, whatever fails."""
    checked = []
    for one in assertions:
        began = clock.monotonic()
        answer = _ask(one, copy)
        kind = _KINDS[type(one)]
        seconds = clock.monotonic() - began
        checked.append(Checked(kind, one.name, answer.passed, answer.message, seconds, answer.missing))
    return tuple(checked)


_KINDS = {SqlAssertion: "sql", References: "references", CommandAssertion: "command", HttpAssertion: "http"}


def _ask(one: Assertion, copy: Restored) -> _Answer:
    try:
        if isinstance(one, SqlAssertion):
            return _ask_sql(one, copy)
        if isinstance(one, References):
            return _follow(one, copy)
        if isinstance(one, CommandAssertion):
            with _program(one.run, copy) as program:
                return program.ended(one.timeout)
        return _get(one, copy)
    except psycopg.errors.QueryCanceled:
        return _Answer(False, f"took longer than {one.timeout:g} s")
    except psycopg.Error as error:
        return _Answer(False, " ".join(str(error.diag.message_primary or error).split()))
    except OSError as error:
        return _Answer(False, f"could not be started: {error.strerror} ({error.filename})")


def _ask_sql(one: SqlAssertion, copy: Restored) -> _Answer:
    with _reading(copy, one.timeout) as session:
        cursor = session.execute(one.query.encode())
        rows = cursor.fetchmany(2) if cursor.description else []
    if len(rows) != 1 or len(rows[0]) != 1:
        return _Answer(False, "did not answer one value")
    found = rows[0][0]
    if one.between is not None:
        try:
            value = float(found)
        except (TypeError, ValueError):
            return _Answer(False, f"found {found!r:.200}, which is no number")
        low, high = one.between
        return _Answer(low <= value <= high, f"found {found}, wanted {low:g} to {high:g}")
    # A numeric of the server is no float of TOML; a boolean is neither 1 nor "true".
    same = found is one.expect if isinstance(one.expect, bool) else str(found) == str(one.expect) or found == one.expect
    return _Answer(same, f"found {_shown(found)}, wanted {_shown(one.expect)}")


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value!r:.200}"


@contextmanager
def _reading(copy: Restored, timeout: float) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with closing(copy.server.connect(options=copy.options)) as session, session.transaction(force_rollback=True):
        session.execute("SET TRANSACTION READ ONLY")
        session.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(max(1, int(timeout * 1000))))
        yield session


def _follow(one: References, copy: Restored) -> _Answer:
    folder = copy.files / one.files
    if not folder.is_dir():
        return _Answer(False, f"the backup holds no files/{one.files}")
    table = sql.Identifier(one.schema, one.table) if one.schema else sql.Identifier(one.table)
    query = sql.SQL("SELECT DISTINCT {0}::text FROM {1} WHERE {0} IS NOT NULL").format(
        sql.Identifier(one.column), table
    )
    count = absent = 0
    listed: list[str] = []
    with _reading(copy, one.timeout) as session, session.cursor("resurgam_references") as cursor:
        cursor.execute(query)
        for (value,) in cursor:
            count += 1
            if not _is_file(folder, value.removeprefix(one.strip)):
                absent += 1
                if len(listed) < _LISTED:
                    listed.append(value[:300])
    message = f"{count:,} values, {absent:,} without a file" if absent else f"{count:,} values, each with its file"
    return _Answer(not absent, message, tuple(listed))


def _is_file(folder: Path, value: str) -> bool:
    """Whether it names a file (or a link) of the restored tree, and nothing outside of it."""
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in value:
        return False
    place = folder
    try:
        for part in parts[:-1]:
            place /= part
            if not stat.S_ISDIR(place.lstat().st_mode):
                return False
        mode = (place / parts[-1]).lstat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


@dataclass(slots=True)
class _Program:
    """A program under way, and the end of what it says."""

    process: Popen[bytes]
    said: bytearray = field(default_factory=bytearray)
    _reader: Thread | None = None

    def listen(self) -> None:
        assert self.process.stdout is not None
        self._reader = Thread(target=self._keep, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _keep(self, stream: IO[bytes]) -> None:
        with stream:
            while block := os.read(stream.fileno(), 65536):
                self.said = (self.said + block)[-_KEPT_BYTES:]

    def ended(self, timeout: float) -> _Answer:
        """Wait for its end."""
        try:
            status = self.process.wait(timeout)
        except TimeoutExpired:
            return _Answer(False, f"took longer than {timeout:g} s and was ended{self.tail()}")
        return _Answer(status == 0, f"ended with exit status {status}{self.tail() if status else ''}")

    def tail(self) -> str:
        """The last that it said."""
        if self._reader is not None and self.process.poll() is not None:
            self._reader.join(1.0)
        text = " ".join(bytes(self.said).decode("utf-8", "replace").split())
        return f": {text[-500:]}" if text else ""


@contextmanager
def _program(words: tuple[str, ...], copy: Restored) -> Iterator[_Program]:
    """Run a program beside the block; it is gone afterwards, with all that it started. OSError if it can't be run."""
    first = str(copy.base / words[0]) if "/" in words[0] else words[0]
    with copy.server.tool_access() as access:
        environment = {
            **access.environment,
            "RESURGAM_DRILL_DSN": dsn_of(copy.server),
            "RESURGAM_DRILL_FILES": str(copy.files),
        }
        if "PGPASSFILE" in environment and access.pass_fds:
            # Of our process, not of the reader's: a program that the program starts does not inherit the descriptor.
            environment["PGPASSFILE"] = environment["PGPASSFILE"].replace("/proc/self/", f"/proc/{os.getpid()}/")
        process = processes.start(
            (first, *words[1:]), environment, stderr=STDOUT, pass_fds=access.pass_fds, own_session=True
        )
        program = _Program(process)
        program.listen()
        try:
            yield program
        finally:
            processes.end_group(process)


def dsn_of(server: Server) -> str:
    """`postgresql://USER@HOST:PORT/NAME?…` without the password, as libpq and applications take it."""
    place = server.database
    query: dict[str, str] = {key: value for key, value in place.options if key != "options"}
    host = place.host or ""
    if host.startswith("/"):
        query["host"], host = host, ""
    user = f"{_escaped(place.user)}@" if place.user else ""
    port = f":{place.port}" if place.port else ""
    shown = f"[{host}]" if ":" in host else _escaped(host)
    more = f"?{urllib.parse.urlencode(query)}" if query else ""
    return f"postgresql://{user}{shown}{port}/{_escaped(place.name or '')}{more}"


def _escaped(text: str) -> str:
    return urllib.parse.quote(text, safe="")


class _Unredirected(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer too."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _get(one: HttpAssertion, copy: Restored) -> _Answer:
    if not one.start:
        return _asked_until(one, lambda: None)
    with _program(one.start, copy) as program:
        answer = _asked_until(one, program.process.poll)
        return answer if answer.passed else _Answer(False, answer.message + program.tail())


def _asked_until(one: HttpAssertion, ended: Callable[[], int | None]) -> _Answer:
    """Ask until the answer is the wanted one, the program has ended, or the time is over."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Unredirected())
    deadline, found = time.monotonic() + one.timeout, "nothing answered"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with opener.open(one.url, timeout=max(0.1, left)) as response:
                status = response.status
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
        except (OSError, ValueError) as error:
            status, found = 0, f"nothing answered ({error})"
        if status == one.status:
            return _Answer(True, f"answered {status}")
        if status:
            found = f"answered {status}"
        code = ended()
        if code is not None:
            return _Answer(False, f"{found}; the program ended with {code}")
        time.sleep(_POLL_SECONDS)
    return _Answer(False, f"{found} within {one.timeout:g} s, wanted {one.status}")
