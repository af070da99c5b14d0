"""Looks at everything a backup and a restore will need, and says what to do about each thing that is not right.

Rules: it creates, changes and repairs nothing; a check that fails never keeps the others from being made; no secret
is shown.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psycopg

from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.state import State
from resurgam.clock import Clock
from resurgam.durable import NETWORK_FILE_SYSTEMS, filesystem_type
from resurgam.errors import ResurgamError
from resurgam.operations.inventory import Inventory, megabytes
from resurgam.operations.kept import kept_sides
from resurgam.postgres.clients import find_clients
from resurgam.postgres.connection import Server, refuse_pooler, short_name
from resurgam.postgres.swap import maintenance_server
from resurgam.settings import Settings
from resurgam.sources.excludes import OWN_PREFIX
from resurgam.stores.folder import not_writable

if TYPE_CHECKING:
    from resurgam.operations.repository_opening import RepositoryAccess

Status = Literal["ok", "warning", "problem"]
_LOW = 0.2
_KEPT = "_(previous|undone)_[0-9]{14}(_[0-9a-f]+)?$"
_CLOCK_SECONDS = 60.0
_CLOCK_PROBLEM = 3600.0


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found, and how to mend it (empty if there is nothing to mend)."""

    name: str
    status: Status
    finding: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "status": self.status, "finding": self.finding, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class Doctor:
    """What is looked at. `inventory` and `state` open what exists; they are not called where that would create it."""

    settings: Settings
    server: Server
    clock: Clock
    inventory: Callable[[], Inventory]
    state: Callable[[], State]
    repository: Callable[[], RepositoryAccess]

    def examine(self) -> tuple[Check, ...]:
        """Every check, in the order in which a user would mend things."""
        parts = (
            ("settings", self._settings),
            ("database", self._database),
            ("backup folder", self._folder),
            ("encryption", self._encryption),
            ("repository", self._repository),
            ("state", self._state),
            ("log", self._log),
            ("remote folder", self._remote),
            ("application", self._application),
            ("left-overs", self._left_overs),
        )
        return tuple(check for name, part in parts for check in _guarded(name, part))

    def _settings(self) -> Iterator[Check]:
        settings = self.settings
        for warning in settings.warnings:
            yield Check("settings", "warning", warning)
        for name in settings.unavailable:
            yield Check(
                "settings",
                "problem",
                f"{name} is set, and this version does not have that feature: every backup fails.",
                f"Unset {name}.",
            )
        if not settings.backup_enabled:
            yield Check("settings", "warning", "BACKUP_ENABLED is false: no backup is taken.", "BACKUP_ENABLED=true")
        read = [str(path) for path in (settings.config_path, settings.env_path) if path is not None]
        yield Check("settings", "ok", f"Read from {' and '.join(['the environment', *read])}.")

    def _database(self) -> Iterator[Check]:
        with closing(self.server.connect()) as session:
            row = session.execute(
                """SELECT current_setting('server_version'), rolname, rolsuper, rolsuper OR rolcreatedb,
                          extract(epoch FROM clock_timestamp())::float8, pg_database_size(current_database())
                   FROM pg_roles WHERE rolname = current_user"""
            ).fetchone()
            if row is None:
                return
            version, role, superuser, creates, seconds, size = row
            kind = "a superuser" if superuser else "no superuser"
            yield Check(
                "database", "ok", f"PostgreSQL {version} answers for {self.server.describe()}, {megabytes(size):,} MB."
            )
            if creates:
                yield Check("role", "ok", f"{role} is {kind} and may create databases, which a restore needs.")
            else:
                yield Check(
                    "role",
                    "warning",
                    f"{role} may not create databases: backups work, a restore will be refused.",
                    f'As a superuser: ALTER ROLE "{role}" CREATEDB;',
                )
            yield self._clocks(seconds)
            yield from _guarded("client tools", lambda: self._tools(session.info.server_version))
            yield from _guarded("pooler", lambda: self._pooler(session))
        yield from _guarded("kept databases", self._kept_databases)

    def _clocks(self, server_seconds: float) -> Check:
        apart = abs(server_seconds - self.clock.now().timestamp())
        if apart <= _CLOCK_SECONDS:
            return Check("clock", "ok", "The server's clock and this machine's agree.")
        consequence = ": retention by age deletes nothing" if apart > _CLOCK_PROBLEM else ""
        status: Status = "problem" if apart > _CLOCK_PROBLEM else "warning"
        return Check(
            "clock", status, f"The server's clock is {apart:,.0f} s away{consequence}.", "Run NTP on both machines."
        )

    def _tools(self, server_version: int) -> Iterator[Check]:
        tools = find_clients(server_version, self.settings.backup_pg_bin, self.server.environment.get("PATH"))
        yield Check("client tools", "ok", f"pg_dump {tools.version} ({tools.pg_dump}) fits the server.")

    def _pooler(self, session: psycopg.Connection[tuple[Any, ...]]) -> Iterator[Check]:
        refuse_pooler(session, self.server)
        yield Check("pooler", "ok", "No connection pooler stands in between.")

    def _kept_databases(self) -> Iterator[Check]:
        live = self.server.database.name or self.server.database.user or ""
        with closing(maintenance_server(self.server).connect()) as session:
            rows = session.execute(
                "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname ~ %s ORDER BY datname", (_KEPT,)
            ).fetchall()
        for name, size in rows:
            suffix = re.search(_KEPT, name)
            if suffix is None or name != short_name(live, suffix[0]):
                continue  # another application's
            quoted = '"' + name.replace('"', '""') + '"'
            yield Check(
                "kept databases",
                "warning",
                f"{name} was replaced by a restore or undo and is kept{self._until(name)}: {megabytes(size):,} MB.",
                f"When you no longer need it: DROP DATABASE {quoted};",
            )

    def _folder(self) -> Iterator[Check]:
        path = self.settings.backup_dir
        owner = f"chown -R {os.geteuid()}:{os.getegid()} {path}"
        if not path.is_dir():
            yield Check("backup folder", "problem", f"BACKUP_DIR {path} is not there.", f"mkdir -p {path} && {owner}")
            return
        if os.access(path, os.W_OK | os.X_OK):
            yield Check("backup folder", "ok", f"BACKUP_DIR {path} ({_kind(path)}) is writable.")
        else:
            yield Check("backup folder", "problem", *not_writable(path))
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & stat.S_IRWXO:
            yield Check(
                "backup folder",
                "warning",
                f"Any user of this machine may look into BACKUP_DIR (mode {mode:o}).",
                f"chmod 700 {path}",
            )
        largest = 0
        if self.settings.repository is None:
            records = self._records()
            largest = max((record.size for record in records), default=0)
            yield from self._backups(records)
        yield _space("space", path, largest)

    def _repository(self) -> Iterator[Check]:
        if self.settings.repository is None:
            return
        from resurgam.operations.doctor_repository import look_at, repository_findings

        look = look_at(self.repository())
        for status, finding, fix in repository_findings(look):
            yield Check("repository", status, finding, fix)
        if not look.writes_only:
            yield from self._backups(self._records())

    def _records(self) -> list[BackupRecord]:
        inventory = self.inventory()
        inventory.refresh()
        return inventory.records()

    def _encryption(self) -> Iterator[Check]:
        from resurgam.operations.key_proof import encryption_findings

        for status, finding, fix in encryption_findings(self.settings, self.inventory, self.state):
            yield Check("encryption", status, finding, fix)

    def _backups(self, records: list[BackupRecord]) -> Iterator[Check]:
        damaged = [record.name for record in records if record.condition == "damaged"]
        good = [record for record in records if record.condition != "damaged"]
        for name in damaged:
            yield Check(
                "backups",
                "warning",
                f"{name} is damaged.",
                f"`resurgam show {name}` says how; `resurgam delete {name}`",
            )
        if not good:
            yield Check("backups", "warning", "There is no backup yet.", "resurgam backup")
            return
        hours = (self.clock.now() - good[0].taken_at).total_seconds() / 3600
        old = hours > 48
        finding = f"{len(good)} sound, the newest {good[0].name}, {hours:.1f} hours old."
        yield Check("backups", "warning" if old else "ok", finding, "Is the schedule (cron) running?" if old else "")

    def _state(self) -> Iterator[Check]:
        path = self.settings.backup_state_file
        kind = filesystem_type(path)
        if kind in NETWORK_FILE_SYSTEMS:
            yield Check(
                "state",
                "problem",
                f"{path} lies on a network file system ({kind}).",
                "Set BACKUP_STATE_FILE elsewhere.",
            )
            return
        if not path.exists():
            yield Check("state", "ok", f"{path} will be made by the first run.")
            return
        state = self.state()
        for warning in state.warnings:
            yield Check("state", "warning", warning)
        yield Check("state", "ok", f"{path} is sound.")
        pending = [journal for journal in state.open_journals() if not journal.alive]
        for journal in pending:
            yield Check(
                "state",
                "warning",
                f"The restore {journal.restore_id} did not end; it will be finished or put back.",
                "The next backup or restore does so.",
            )
        for run in state.jobs.latest(1):
            if run.outcome in ("failed", "degraded"):
                yield Check(
                    "last run",
                    "warning",
                    f"{run.kind} {run.target} of {run.started_at:%Y-%m-%d %H:%M} UTC: {run.outcome}. {run.reason}",
                    str(run.details.get("hint", "")),
                )
            else:
                when = f"{run.started_at:%Y-%m-%d %H:%M} UTC"
                yield Check("last run", "ok", f"{run.kind} {run.target} of {when}: {run.outcome or 'under way'}.")

    def _log(self) -> Iterator[Check]:
        path = self.settings.backup_log_file
        place = next(one for one in (path, *path.parents) if one.exists())
        if os.access(place, os.W_OK):
            yield Check("log", "ok", f"{path} can be written.")
        else:
            yield Check(
                "log",
                "warning",
                f"The log {path} can not be written.",
                f"mkdir -p {path.parent}, and give it to the user that runs Resurgam, or set BACKUP_LOG_FILE.",
            )

    def _remote(self) -> Iterator[Check]:
        if self.settings.repository is not None:
            return
        if not self.settings.remote_backup_enabled:
            yield Check(
                "remote folder", "ok", "No remote copies are made (REMOTE_BACKUP_ENABLED); a fire would take them all."
            )
            return
        remote = self.inventory().remote
        if remote is None:
            return
        remote.check()
        if not os.access(remote.path, os.W_OK | os.X_OK):
            yield Check("remote folder", "problem", f"{remote.path} is not writable.", "Check how it is mounted.")
            return
        yield Check("remote folder", "ok", f"{remote.path} ({_kind(remote.path)}) is mounted and writable.")
        yield _space("remote space", remote.path, 0)

    def _application(self) -> Iterator[Check]:
        settings = self.settings
        if not settings.app_dir.is_dir():
            yield Check("application", "problem", f"APP_DIR {settings.app_dir} is not there.", "Set APP_DIR.")
            return
        found = 0
        for config in settings.backup_config_files:
            path = settings.app_dir / config.pattern
            present = any(settings.app_dir.glob(config.pattern)) if config.is_glob else path.is_file()
            check = _present("config file", path, present, config.configured, "BACKUP_CONFIG_FILES", os.R_OK)
            found += check is None
            if check is not None:
                yield check
        for tree in settings.backup_file_trees:
            needs = os.R_OK | os.X_OK
            check = _present("tree", tree.path, tree.path.is_dir(), tree.configured, "BACKUP_FILE_TREES", needs)
            found += check is None
            if check is not None:
                yield check
        wanted = len(settings.backup_config_files) + len(settings.backup_file_trees)
        yield Check("application", "ok", f"{found} of {wanted} config files and trees are there and readable.")

    def _left_overs(self) -> Iterator[Check]:
        settings = self.settings
        places = {settings.app_dir, settings.backup_dir, *(tree.path.parent for tree in settings.backup_file_trees)}
        places |= {tree.path for tree in settings.backup_file_trees}
        places |= {(settings.app_dir / config.pattern).parent for config in settings.backup_config_files}
        for path in sorted(_kept_paths(places)):
            yield Check(
                "left-overs",
                "warning",
                f"{path} was replaced by a restore or undo and is kept{self._until(os.fspath(path))}: "
                f"{megabytes(_size(path)):,} MB.",
                f"When you no longer need it: rm -r '{path}'",
            )

    def _until(self, place: str) -> str:
        """For how long, as far as our journals know of it."""
        if not self.settings.backup_state_file.exists():
            return ""
        for side in kept_sides(self.state(), self.settings.backup_dir):
            if side.place == place:
                until = side.until(self.settings.restore_keep)
                when = "" if until is None else f" until {until:%Y-%m-%d %H:%M} UTC"
                return f" ({side.refused})" if side.refused else when
        return ""


def _guarded(name: str, part: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The part's checks; what it raises is its last one."""
    try:
        yield from part()
    except ResurgamError as error:
        yield Check(name, "problem", error.message, error.hint)
    except psycopg.Error as error:
        yield Check(name, "problem", " ".join(str(error).split()), "See the server's log.")
    except OSError as error:
        yield Check(name, "problem", f"{error.filename}: {error.strerror}.", "Check its owner and mode.")


def _present(what: str, path: Path, present: bool, configured: bool, setting: str, needs: int) -> Check | None:
    if not present:
        status: Status = "problem" if configured else "warning"
        return Check(what, status, f"{path} is not there.", f"Make it, or set {setting} to what there is.")
    if path.exists() and not os.access(path, needs):
        return Check(what, "problem", f"{path} is not readable.", "Let the user that runs Resurgam read it.")
    return None


def _space(name: str, path: Path, largest: int) -> Check:
    usage = shutil.disk_usage(path)
    share = usage.free / usage.total if usage.total else 1.0
    finding = f"{megabytes(usage.free):,.0f} MB ({share:.0%}) are free in {path}."
    fix = "Lower BACKUP_RETENTION_DAYS or MAX_BACKUPS and run `resurgam prune`, or use a larger disk."
    if usage.free < 2 * largest:
        return Check(name, "problem", f"{finding} That is less than two backups need.", fix)
    return Check(name, "warning" if share < _LOW else "ok", finding, fix if share < _LOW else "")


def _kept_paths(places: Iterable[Path]) -> Iterator[Path]:
    """`.resurgam-previous-ID-NAME`, and `.resurgam-ID/previous` inside mounted folders."""
    for place in places:
        try:
            names = sorted(path.name for path in place.iterdir())
        except OSError:
            continue
        for name in names:
            if name.startswith(f"{OWN_PREFIX}previous-"):
                yield place / name
            elif name.startswith(OWN_PREFIX) and (place / name / "previous").is_dir():
                yield place / name / "previous"


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum((Path(folder) / file).lstat().st_size for folder, _, files in os.walk(path) for file in files)


def _kind(path: Path) -> str:
    return filesystem_type(path) or "file system unknown"
