"""The values that settings become: frozen, complete, without knowledge of where they stood.

A field has its variable's name in lower case. Paths are absolute and free of `..`; durations are seconds,
None meaning no limit.
"""

from __future__ import annotations

import dataclasses
import hmac
from dataclasses import dataclass
from pathlib import Path


class Secret:
    """A text that no repr, log line, traceback or JSON shows; `reveal` is the one way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself: for a passfile or a connection, never for a message."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = (text.encode("utf-8", "surrogateescape") for text in (self._text, other._text))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not pickled")

    def __deepcopy__(self, memo: object) -> Secret:
        return self


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
    config_path: Path | None = None
    env_path: Path | None = None
    secret_files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()

    def public(self) -> dict[str, object]:
        """The settings as JSON-ready values, for `doctor`; a secret shows only as whether it is set."""
        shown: dict[str, object] = {}
        for field in dataclasses.fields(self):
            shown[field.name] = _public(getattr(self, field.name))
        return shown


def _public(value: object) -> object:
    if isinstance(value, Secret):
        return "set"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (ConfigFile, FileTree, Database)):
        return {field.name: _public(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_public(item) for item in value]
    return value
