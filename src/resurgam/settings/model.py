"""The values that settings become: frozen, complete, without knowledge of where they stood.

A field has its variable's name in lower case. Paths are absolute and free of `..`; durations are seconds,
None meaning no limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from resurgam.settings.secret import Secret
from resurgam.settings.service_model import HealthLimits, Hooks, JwtRules, Messages, Schedule


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config file to back up: a path or glob relative to APP_DIR, with `/`, never leading out of it.

    `configured` is False for the built-in list, whose absent files are a warning rather than a failure.
    """

    pattern: str
    configured: bool

    @property
    def is_glob(self) -> bool:
        """Whether `pattern` may stand for any number of files."""
        return any(character in self.pattern for character in "*?[")


@dataclass(frozen=True, slots=True)
class FileTree:
    """A folder to back up whole, as `files/NAME` in the archive; `configured` as for ConfigFile."""

    name: str
    path: Path
    configured: bool


@dataclass(frozen=True, slots=True)
class Database:
    """Where the database is; what is None is libpq's to find (a service file, .pgpass, its own variables).

    `host` may be the folder of a Unix socket. `options` are further libpq keywords that a DATABASE_URL asked
    for (`sslmode` above all); whoever connects must pass them on.
    """

    host: str | None
    port: int | None
    name: str | None
    user: str | None
    password: Secret | None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Encryption:
    """How new archives are encrypted (`kind` None: not), and what opens encrypted ones.

    With `recipients` it is to them, else by the key: `key`, or what `key_command` prints.
    """

    kind: Literal["age", "gpg"] | None = None
    key: Secret | None = None
    key_command: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    identity_file: Path | None = None


@dataclass(frozen=True, slots=True)
class DrillRules:
    """Where backups are restored for practice, and by what they are judged there.

    Without a `database` of another server and without `embedded` (a throw-away server) it is the live one's server.
    `file` is drill.toml, where there is one.
    """

    database: Database | None = None
    embedded: bool = False
    file: Path | None = None
    each_backup: bool = False


@dataclass(frozen=True, slots=True)
class RepositoryRules:
    """Where the repository is (an absolute path, or a URL), what opens it, and its limits.

    At most one of `passphrase`, `command`, `identity_file` and `writer_key_file` is set; with none of them the recovery
    kit's file opens it. `prune_limit`: percent of its bytes that a prune may free without being asked.
    """

    place: str
    passphrase: Secret | None = None
    command: tuple[str, ...] = field(default=(), repr=False)
    identity_file: Path | None = None
    writer_key_file: Path | None = None
    kit_file: Path | None = None
    prune_limit: int = 50
    read_all: bool = False

    @property
    def folder(self) -> Path | None:
        """Where it is a folder of this machine."""
        return Path(self.place) if self.place.startswith("/") else None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a run is told. `warnings` are sentences for the user; `unavailable` names variables that are
    set and whose feature does not exist yet: a backup fails on them, everything else goes on. `secret_files` hold
    our own secrets and never enter an archive.
    """

    app_name: str
    app_dir: Path
    backup_enabled: bool
    backup_dir: Path
    backup_retention_days: int
    max_backups: int
    backup_keep_daily: int
    backup_keep_weekly: int
    backup_keep_monthly: int
    database: Database
    remote_backup_enabled: bool
    remote_backup_path: Path | None
    remote_backup_retention_days: int
    remote_max_backups: int
    backup_config_files: tuple[ConfigFile, ...]
    backup_file_trees: tuple[FileTree, ...]
    backup_exclude: tuple[str, ...]
    backup_state_file: Path
    backup_log_file: Path
    backup_dump_timeout: float | None
    backup_lock_timeout: float | None
    backup_connect_timeout: float | None
    backup_pg_bin: Path | None
    restore_connections: int
    restore_keep: float | None
    restore_safety_backup: bool
    schedule: Schedule = field(default_factory=Schedule)
    jwt: JwtRules | None = None
    messages: Messages = field(default_factory=Messages)
    hooks: Hooks = field(default_factory=Hooks)
    health: HealthLimits = field(default_factory=HealthLimits)
    drills: DrillRules = field(default_factory=DrillRules)
    encryption: Encryption = field(default_factory=Encryption)
    backup_shrink_limit: int = 50
    repository: RepositoryRules | None = None
    restore_database: Database | None = None
    on_shutdown: Literal["cancel", "finish"] = "cancel"
    config_path: Path | None = None
    env_path: Path | None = None
    secret_files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()

    def public(self) -> dict[str, object]:
        """The settings as JSON-ready values, for `doctor`; a secret shows only as whether it is set."""
        shown: dict[str, object] = {}
        for one in dataclasses.fields(self):
            shown[one.name] = _public(getattr(self, one.name))
        return shown


def _public(value: object) -> object:
    if isinstance(value, Secret):
        return "set"
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {one.name: _public(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {" ".join(key) if isinstance(key, tuple) else str(key): _public(item) for key, item in value.items()}
    if isinstance(value, (tuple, frozenset)):
        return [_public(item) for item in value]
    return value
