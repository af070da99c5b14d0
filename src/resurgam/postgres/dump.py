"""Runs pg_dump and pg_dumpall: their bytes as they come, their failure as one error that says which table."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

from psycopg.conninfo import make_conninfo

from resurgam import processes
from resurgam.clock import Clock
from resurgam.errors import ClientToolError
from resurgam.postgres.clients import ClientTools
from resurgam.postgres.connection import Server

_READ = 1 << 20
_KEPT_LINES = 12
# The holder has every table already. So pg_dump waits for a lock only behind somebody who waits for the holder, that
# is for us, and would do so for ever.
_LOCK_WAIT_MS = 1000
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", None)
_POLL_SECONDS = 0.5
# Ends of connections and of other tools' options; the server's own wording is passed on.
_TROUBLE = re.compile(r"(error|fatal|warning|detail|hint)\b", re.IGNORECASE)
_USUAL = re.compile(r"circular foreign-key|You might not be able|Consider using a full dump|pg_dump: (detail|hint):")


class TablesContended(ClientToolError):
    """pg_dump could not lock what the snapshot's holder has locked: somebody stands in line for it, behind us."""


class Dump:
    """One run of pg_dump in plain format. `blocks` reads it to its end and checks how it ended.

    `encoding` should be the database's own: nothing need be converted then, which a client_encoding set for the
    database or role could make impossible.
    """

    def __init__(
        self,
        server: Server,
        tools: ClientTools,
        snapshot: str,
        encoding: str | None = None,
        *,
        clock: Clock,
        timeout: float | None = None,
        on_phase: Callable[[str], None] | None = None,
        restrict_key: str = "",
    ) -> None:
        """`restrict_key`: what stands behind `\\restrict` instead of a random word, where pg_dump lets us choose it."""
        self._restrict_key = restrict_key
        self._server, self._tools, self._snapshot, self._clock = server, tools, snapshot, clock
        self._timeout, self._on_phase, self._encoding = timeout, on_phase, encoding
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.warnings: list[str] = []

    def blocks(self) -> Generator[bytes, None, None]:
        """The dump's bytes, as pg_dump writes them.

        TablesContended, before the first byte, if the snapshot must be taken anew; ClientToolError if it fails, is
        killed, or takes longer than the time-out (seconds from its start); closing the iterator ends the process.
        """
        with self._server.tool_access() as access:
            command: list[str | Path] = [
                self._tools.pg_dump,
                "--verbose",
                "--no-password",
                f"--lock-wait-timeout={_LOCK_WAIT_MS}",
                f"--snapshot={self._snapshot}",
                f"--dbname={access.conninfo}",
            ]
            if self._encoding is not None:
                command.append(f"--encoding={self._encoding}")
            if self._restrict_key and _takes_restrict_key(self._tools):
                command.append(f"--restrict-key={self._restrict_key}")
            process = _start(command, access.environment, access.pass_fds)
            errors = threading.Thread(target=self._watch, args=(process,), daemon=True)
            errors.start()
            try:
                yield from self._read(process)
                status = process.wait()
                errors.join()
                if status != 0:
                    raise self._failed(status)
            finally:
                processes.end(process)  # its server session ends with it
                errors.join()

    def _read(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        stdout = _pipe(process.stdout)
        if _F_SETPIPE_SZ is not None:
            with contextlib.suppress(OSError):  # over the user's limit for pipes: smaller pieces, nothing worse
                fcntl.fcntl(stdout, _F_SETPIPE_SZ, _READ)
        deadline = None if self._timeout is None else self._clock.monotonic() + self._timeout
        # Whole blocks of one size: pg_dump writes in small pieces, whose odd sizes would fragment our memory.
        block, filled = memoryview(bytearray(_READ)), 0
        while True:
            if deadline is not None:
                self._wait_for(stdout, deadline)
            count = os.readv(stdout, [block[filled:]])
            filled += count
            if filled == _READ or (filled and not count):
                yield bytes(block[:filled])
                filled = 0
            if not count:
                return

    def _wait_for(self, stdout: int, deadline: float) -> None:
        while not select.select([stdout], [], [], _POLL_SECONDS)[0]:
            if self._clock.monotonic() > deadline:
                break
        if self._clock.monotonic() > deadline:
            raise ClientToolError(
                f"pg_dump took longer than BACKUP_DUMP_TIMEOUT ({self._timeout:g} s) and was ended.",
                "Raise BACKUP_DUMP_TIMEOUT, or unset it: there is no limit by default.",
            )

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Follow what `-v` tells, and keep what it says last."""
        for raw in _stream(process.stderr):
            line = raw.decode("utf-8", "backslashreplace").strip()
            if not _TROUBLE.search(line):
                if self._on_phase is not None and "dumping contents of" in line:
                    self._on_phase(line.split(": ", 1)[-1])
                continue
            self._last_lines.append(line)
            if "warning:" in line and not _USUAL.search(line) and len(self.warnings) < _KEPT_LINES:
                self.warnings.append(line)

    def _failed(self, status: int) -> ClientToolError:
        said = " ".join(self._last_lines) or "it said nothing"
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed with exit status {status}"
        kind = TablesContended if "query was: lock table" in said.lower() else ClientToolError
        return kind(f"pg_dump {self._tools.version} {how}: {said}", "Nothing was published, and nothing was pruned.")


def dump_parts(server: Server, tools: ClientTools, options: Sequence[str], fd: int) -> None:
    """Write a plain dump of what `options` select into an open file. ClientToolError if pg_dump fails."""
    with server.tool_access() as access:
        command: list[str | Path] = [
            tools.pg_dump,
            "--no-password",
            "--no-publications",
            "--no-subscriptions",
            f"--file=/dev/fd/{fd}",
            f"--dbname={access.conninfo}",
            *options,
        ]
        process = _start(command, access.environment, (*access.pass_fds, fd))
        try:
            _, err = process.communicate()
        finally:
            processes.end(process)
    if process.returncode != 0:
        said = " ".join(err.decode("utf-8", "backslashreplace").split())
        raise ClientToolError(f"pg_dump {tools.version} failed: {said}", "The live database is as it was.")


def _takes_restrict_key(tools: ClientTools) -> bool:
    """Minor versions of August 2025 have the option: 13.22, 14.19, 15.14, 16.10, 17.6."""
    try:
        answer = subprocess.run([tools.pg_dump, "--help"], capture_output=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False  # the dump itself will tell what is wrong
    return b"--restrict-key" in answer


def dump_globals(server: Server, tools: ClientTools) -> bytes:
    """Roles, their settings and memberships, and tablespaces, as far as the role may read them; no password hashes.

    ClientToolError if pg_dumpall fails.
    """
    with server.tool_access() as access:
        command: list[str | Path] = [
            tools.pg_dumpall,
            "--globals-only",
            "--no-role-passwords",
            "--no-password",
            f"--dbname={access.conninfo}",
        ]
        if server.database.name is not None:
            # Its value is read as a connection string where it looks like one, as a name with = in it does.
            command.append(f"--database={make_conninfo('', dbname=server.database.name)}")
        process = _start(command, access.environment, access.pass_fds)
        try:
            out, err = process.communicate()
        finally:
            processes.end(process)
    if process.returncode != 0:
        said = " ".join(err.decode("utf-8", "backslashreplace").split())
        raise ClientToolError(
            f"pg_dumpall {tools.version} could not read the roles: {said}",
            "The role must be able to read pg_roles; on managed servers every role is.",
        )
    return out


def _start(
    command: Sequence[str | Path], environment: dict[str, str], pass_fds: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    try:
        return processes.start(command, environment, pass_fds=pass_fds)
    except OSError as error:
        raise ClientToolError(
            f"{Path(command[0]).name} could not be started ({error.strerror}).", "`resurgam doctor` looks for it."
        ) from None


def _pipe(stream: IO[bytes] | None) -> int:
    return _stream(stream).fileno()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream
