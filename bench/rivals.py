"""The same jobs by three programs: ours with a repository, restic and Borg, each with keys and caches of its own.

restic has its repository version 2 and compression on (its default there), Borg its defaults with repokey-blake2. All
repositories lie in one folder, so on one disk; making them is never counted.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench import measure
from bench.lab import DATABASE, Lab

RESURGAM = (sys.executable, "-m", "resurgam")
_PASSPHRASE = "correct horse battery staple"


class Rival(Protocol):
    """One program. `dump` and `files` take a backup; what is kept is one repository, made anew by `make`."""

    name: str

    def make(self) -> None: ...
    def size(self) -> int: ...
    def dump(self) -> measure.Run: ...
    def files(self) -> measure.Run: ...
    def verify(self) -> measure.Run: ...
    def restore_files(self, target: Path) -> measure.Run: ...
    def prune(self, keep: int) -> measure.Run: ...


def rivals(lab: Lab, place: Path, files: Path, empty: str) -> tuple[Ours, list[Rival]]:
    """Ours, and what is installed of the others. `files`: the folder to back up; `empty`: a database without tables."""
    others: list[Rival] = []
    if shutil.which("restic"):
        others.append(Restic(lab, place / "restic", files))
    if shutil.which("borg"):
        others.append(Borg(lab, place / "borg", files))
    return Ours(lab, place / "ours", files, empty), others


def tree_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@dataclass
class Ours:
    """Both databases and folders are given by the settings: a backup of the dump has no files, one of files no rows."""

    lab: Lab
    place: Path
    app: Path
    empty: str
    name: str = "ours"
    keep: int = 1_000_000

    def make(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        (self.place / "no-files" / "uploads").mkdir(parents=True)
        (self.place / "no-files" / "backend" / "templates").mkdir(parents=True)
        measure.run([*RESURGAM, "init"], self.environment(self.empty, self.app))

    def size(self) -> int:
        return tree_size(self.place / "repository")

    def dump(self) -> measure.Run:
        return self._run(DATABASE, self.place / "no-files", "backup", "--quiet", "--json")

    def files(self) -> measure.Run:
        return self._run(self.empty, self.app, "backup", "--quiet", "--json")

    def verify(self) -> measure.Run:
        return self._run(self.empty, self.app, "verify", "--all", "--full", "--quiet")

    def restore_files(self, target: Path) -> measure.Run:
        given = ("--folder", "files/uploads", "--target", str(target), "--yes", "--quiet")
        return self._run(self.empty, self.app, "restore", self.newest(), *given)

    def prune(self, keep: int) -> measure.Run:
        self.keep = keep
        try:
            return self._run(self.empty, self.app, "prune", "--accept")
        finally:
            self.keep = 1_000_000

    def list_backups(self) -> measure.Run:
        return self._run(self.empty, self.app, "list")

    def plan_prune(self) -> measure.Run:
        return self._run(self.empty, self.app, "prune", "--dry-run")

    def forget_cache(self) -> None:
        """As on a machine that never saw the repository: of the index and of the backups' metadata."""
        shutil.rmtree(self.place / "backups" / "repository-cache", ignore_errors=True)
        for catalog in (self.place / "backups").glob("catalog.sqlite*"):
            catalog.unlink()

    def newest(self) -> str:
        found = json.loads(self._run(self.empty, self.app, "list", "--json").output)
        backups = found if isinstance(found, list) else found["backups"]
        return max(str(one["backup_name"]) for one in backups)

    def _run(self, database: str, app: Path, *arguments: str) -> measure.Run:
        return measure.run([*RESURGAM, *arguments], self.environment(database, app))

    def environment(self, database: str, app: Path) -> dict[str, str]:
        return self.lab.environment() | {
            "DB_NAME": database,
            "APP_DIR": str(app),
            "BACKUP_DIR": str(self.place / "backups"),
            "BACKUP_LOG_FILE": str(self.place / "backup.log"),
            "BACKUP_REPOSITORY": str(self.place / "repository"),
            "BACKUP_ENCRYPTION_KEY": _PASSPHRASE,
            "BACKUP_RETENTION_DAYS": "3650",
            "MAX_BACKUPS": str(self.keep),
        }


@dataclass
class Restic:
    lab: Lab
    place: Path
    app: Path
    name: str = "restic"

    def make(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        self._run("init", "--repository-version", "2")

    def size(self) -> int:
        return tree_size(self.place / "repository")

    def dump(self) -> measure.Run:
        return _shell(
            f"pg_dump -d {DATABASE} | restic backup --quiet --stdin --stdin-filename dump.sql", self._environment()
        )

    def files(self) -> measure.Run:
        return self._run("backup", "--quiet", str(self.app))

    def verify(self) -> measure.Run:
        return self._run("check", "--read-data", "--quiet")

    def restore_files(self, target: Path) -> measure.Run:
        return self._run("restore", "latest", "--quiet", "--target", str(target))

    def prune(self, keep: int) -> measure.Run:
        # Snapshots of standard input are one group each by their paths; all are one application's.
        return self._run("forget", "--quiet", "--group-by", "", "--keep-last", str(keep), "--prune")

    def _run(self, *arguments: str) -> measure.Run:
        return measure.run(["restic", *arguments], self._environment())

    def _environment(self) -> dict[str, str]:
        return self.lab.environment() | {
            "RESTIC_REPOSITORY": str(self.place / "repository"),
            "RESTIC_PASSWORD": _PASSPHRASE,
            "RESTIC_CACHE_DIR": str(self.place / "cache"),
        }


@dataclass
class Borg:
    lab: Lab
    place: Path
    app: Path
    name: str = "borg"
    _number: int = 0

    def make(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        self._run("init", "--encryption", "repokey-blake2")

    def size(self) -> int:
        return tree_size(self.place / "repository")

    def dump(self) -> measure.Run:
        return _shell(f"pg_dump -d {DATABASE} | borg create ::{self._next()} -", self._environment())

    def files(self) -> measure.Run:
        return self._run("create", f"::{self._next()}", str(self.app))

    def verify(self) -> measure.Run:
        return self._run("check", "--verify-data")

    def restore_files(self, target: Path) -> measure.Run:
        return _shell(f"cd '{target}' && borg extract ::{self._number:06d}", self._environment())

    def prune(self, keep: int) -> measure.Run:
        return _shell(f"borg prune --keep-last={keep} && borg compact", self._environment())

    def _next(self) -> str:
        self._number += 1
        return f"{self._number:06d}"

    def _run(self, *arguments: str) -> measure.Run:
        return measure.run(["borg", *arguments], self._environment())

    def _environment(self) -> dict[str, str]:
        return self.lab.environment() | {
            "BORG_REPO": str(self.place / "repository"),
            "BORG_PASSPHRASE": _PASSPHRASE,
            "BORG_BASE_DIR": str(self.place / "base"),
        }


def _shell(script: str, environment: dict[str, str]) -> measure.Run:
    command: Sequence[str] = ["bash", "-c", f"set -e -o pipefail; {script}"]
    return measure.run(command, environment)
