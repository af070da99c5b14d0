"""Runs the real commands against a sample application of a test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from resurgam.demo.application import create_application
from tests.clusters import Database, Role

ROOT = Path(__file__).parents[2]
RESURGAM = (sys.executable, "-m", "resurgam")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its answer: exactly one JSON value on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """Its answer, which is an error's."""
        answer = self.json
        assert set(answer) == {"success", "error", "code", "hint"}
        assert answer["success"] is False
        assert self.code != 0
        return dict(answer)


@dataclass(slots=True)
class Scene:
    """An application, its backup folder, and the settings that lead to them."""

    folder: Path
    database: Database
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    @property
    def log(self) -> str:
        path = self.app / "logs" / "backup.log"
        return path.read_text() if path.exists() else ""

    def environment(self, **changes: str | None) -> dict[str, str]:
        """The process's environment; a change to None takes a variable out."""
        merged: dict[str, str | None] = {"PATH": os.environ["PATH"], "TZ": "UTC", **self.settings, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def run(self, *arguments: str, **changes: str | None) -> Done:
        return self.execute([*RESURGAM, *arguments], self.environment(**changes))

    def execute(self, command: Sequence[str], environment: Mapping[str, str]) -> Done:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=60,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **changes: str | None) -> subprocess.Popen[str]:
        """A command that goes on while the test looks at it."""
        return subprocess.Popen(
            [*RESURGAM, *arguments],
            env=self.environment(**changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def backup(self) -> str:
        """Take a backup; its name."""
        done = self.run("backup", "--json")
        assert done.code == 0, done
        return str(done.json["backup_name"])

    @property
    def only_name(self) -> str:
        """The name of the one backup there is."""
        (path,) = self.backups.glob("*.tar.gz")
        return path.name.removesuffix(".tar.gz")

    def archives(self) -> dict[str, bytes]:
        """Every file that is or could become a backup, whole."""
        return {path.name: path.read_bytes() for path in sorted(self.backups.glob("*radiology*"))} | {
            path.name: path.read_bytes() for path in sorted(self.backups.glob(".*partial"))
        }

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.dsn, autocommit=True) as session:
            cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


def make_scene(folder: Path, database: Database, reports: int = 40) -> Scene:
    """A sample application and the manual's variables for it."""
    scene = Scene(folder, database)
    create_application(database.dsn, scene.app, reports)
    server = database.server
    scene.settings = {
        "APP_DIR": str(scene.app),
        "BACKUP_DIR": str(scene.backups),
        "DB_HOST": server.host,
        "DB_PORT": str(server.port),
        "DB_NAME": database.name,
        "DB_USER": server.superuser,
        "DB_PASSWORD": server.password,
        "BACKUP_PG_BIN": str(server.bin),
    }
    return scene


def log_in_as(scene: Scene, role: Role) -> dict[str, str]:
    """Settings that log in as another role."""
    return {"DB_USER": role.name, "DB_PASSWORD": role.password}


def wrapped_tools(scene: Scene, script: str) -> dict[str, str]:
    """A pg_dump that runs `script` (of sh) with the real one as $PG_DUMP; --version is the real one's."""
    place = Path(tempfile.mkdtemp(prefix="tools-", dir=scene.folder))
    real = scene.database.server.bin
    (place / "pg_dumpall").write_text(f'#!/bin/sh\nexec "{real}/pg_dumpall" "$@"\n')
    (place / "pg_dump").write_text(
        f'#!/bin/sh\nPG_DUMP="{real}/pg_dump"\n[ "$1" = --version ] && exec "$PG_DUMP" --version\n{script}\n'
    )
    for tool in place.iterdir():
        tool.chmod(0o755)
    return {"BACKUP_PG_BIN": str(place)}


def wait_for(path: Path, seconds: float = 20) -> None:
    """Until the file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)
