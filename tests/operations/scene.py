"""A protected application for the tests of whole operations: a database, a folder, settings, and who looks at them."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from resurgam.demo.application import create_application, wreck
from resurgam.demo.proof import Fingerprint, differences, fingerprint
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.service import Service
from resurgam.settings import load_settings
from tests.clusters import Database, Role

CONFIG = (".env.example", "docker-compose.yml", "requirements.txt", "backend/config.py")
TREES = ("backend/templates", "uploads")


@dataclass
class SkippingClock:
    """The real time, and no waiting: to sleep moves it forward."""

    ahead: float = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return self.now().timestamp()

    def sleep(self, seconds: float) -> None:
        self.ahead += seconds


@dataclass
class Scene:
    """One application and where its backups go."""

    server: EmbeddedServer
    database: str
    role: str
    password: str
    root: Path
    more: dict[str, str] = field(default_factory=dict)
    clock: SkippingClock = field(default_factory=SkippingClock)
    app_at: Path | None = None

    @property
    def app(self) -> Path:
        return self.app_at or self.root / "app"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.database, self.role, self.password)

    @property
    def admin(self) -> str:
        """The superuser's way to another database of the server."""
        return self.server.dsn()

    def environment(self, **more: str) -> dict[str, str]:
        """The manual's variables."""
        return {
            "PATH": "/usr/bin:/bin",
            "APP_DIR": str(self.app),
            "BACKUP_DIR": str(self.backups),
            "BACKUP_LOG_FILE": str(self.root / "backup.log"),
            "DB_HOST": self.server.host,
            "DB_PORT": str(self.server.port),
            "DB_NAME": self.database,
            "DB_USER": self.role,
            "DB_PASSWORD": self.password,
            "BACKUP_PG_BIN": str(self.server.bin),
            "RESTORE_SAFETY_BACKUP": "false",
            **self.more,
            **more,
        }

    @contextmanager
    def service(self, **more: str) -> Iterator[Service]:
        environment = self.environment(**more)
        settings = load_settings(environment, folder=self.root)
        with Service(settings, environment, clock=self.clock) as service:
            yield service

    def make(self, reports: int = 40) -> Scene:
        create_application(self.dsn, self.app, reports=reports)
        return self

    def wreck(self) -> None:
        wreck(self.dsn, self.app)

    def seen(self, dsn: str | None = None) -> Fingerprint:
        """All of the application; to compare with what a backup gives back, `protected` takes the rest away."""
        return fingerprint(dsn or self.dsn, self.app)

    def execute(self, *statements: str) -> list[Any]:
        """Run statements as the application's role; the rows of the last."""
        with psycopg.connect(self.dsn, autocommit=True) as session:
            for statement in statements:
                cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def administer(self, statement: str) -> list[Any]:
        with psycopg.connect(self.admin, autocommit=True) as session:
            cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def archives(self) -> list[str]:
        return sorted(path.name for path in self.backups.glob("*.tar.gz"))

    def databases(self) -> set[str]:
        """Every database that is this application's or was made beside it, without the live one."""
        rows = self.administer(f"SELECT datname FROM pg_database WHERE datname LIKE '{self.database[:40]}%'")
        return {name for (name,) in rows} - {self.database}

    def leftovers(self) -> list[str]:
        """What only a run under way may have: partial files, staging, databases that were never swapped in."""
        found = [name for name in self.databases() if "_previous_" not in name and "_undone_" not in name]
        found += [path.name for path in self.backups.iterdir() if path.name.endswith(".partial")]
        places = (self.root, self.backups, self.app, *(self.app / tree for tree in TREES), self.app / "backend")
        for place in places:
            if place.is_dir():
                found += [
                    str(path)
                    for path in place.iterdir()
                    if path.name.startswith(".resurgam-")
                    and "previous" not in path.name
                    and path.name not in (".resurgam-state", ".resurgam-remote")
                ]
        return found

    def drop_previous(self) -> None:
        for name in self.databases():
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            with psycopg.connect(self.admin, autocommit=True) as session:
                session.execute(statement)

    def log_lines(self) -> list[str]:
        path = self.root / "backup.log"
        return path.read_text().splitlines() if path.exists() else []


def protected(found: Fingerprint) -> Fingerprint:
    """Without the files that no backup holds."""
    places = (*CONFIG, *TREES)
    files = {
        name: what
        for name, what in found.files.items()
        if any(name == place or name.startswith(f"{place}/") for place in places)
    }
    return replace(found, files=files)


def lost(before: Fingerprint, after: Fingerprint) -> list[str]:
    """What differs in what a backup holds."""
    return differences(protected(before), protected(after))


def scene_for(database: Database, root: Path, role: Role | None = None, **more: str) -> Scene:
    server = database.server
    if role is None:
        return Scene(server, database.name, server.superuser, server.password, root, dict(more))
    return Scene(server, database.name, role.name, role.password, root, dict(more))


def tools(folder: Path, real: Path, pg_dump: str = "", pg_dumpall: str = "") -> Path:
    """A folder for BACKUP_PG_BIN whose programs first run a piece of shell; `$REAL` is the true one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, piece in (("pg_dump", pg_dump), ("pg_dumpall", pg_dumpall)):
        script = folder / name
        script.write_text(
            f"#!/bin/sh\nREAL={real / name}\n"
            'if [ "$1" = --version ]; then exec "$REAL" --version; fi\n'
            f'{piece}\nexec "$REAL" "$@"\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return folder


def keys(value: Mapping[str, Any], *wanted: str) -> dict[str, Any]:
    return {key: value[key] for key in wanted}
