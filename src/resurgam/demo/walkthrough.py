"""`resurgam demo`: a sample application is backed up, wrecked as in the manual's scenario 3, restored, and compared.

It uses the same operations as every other face, on a throw-away server. It leaves nothing running; the archive
stays, so that it can be looked into, until the next demo replaces it.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import psycopg

from resurgam.demo.application import Application, create_application, differences, fingerprint, wreck
from resurgam.demo.proof import Fingerprint
from resurgam.errors import StorageError
from resurgam.operations.restore import Parts
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.service import Service

DATABASE = "radiology_db"
# What the manual says is backed up, and the `.env` that a restore must leave alone.
_PROTECTED = (
    ".env",
    ".env.example",
    "docker-compose.yml",
    "requirements.txt",
    "backend/config.py",
    "backend/templates",
    "uploads",
)
_SHOWN_DIFFERENCES = 4


def run_demo(reports: int, out: TextIO) -> int:
    """Tell the whole story on `out`; 0 if everything came back exactly, 1 if not. Takes seconds, not minutes."""
    story = _Story(out)
    kept = _archive_folder()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="resurgam-demo-") as scratch:
        server = EmbeddedServer()
        story.line(f"Starting a throw-away PostgreSQL {server.version}")
        with server:
            equal = _tell(story, server, Path(scratch) / "app", kept, reports)
    story.line(f"\nAll of it took {time.monotonic() - started:.1f} s. Nothing is left running.")
    archive = min(kept.glob("*.tar.gz"))
    story.line(f"The backup is still there. Look into it with plain tar:\n\n    tar tzf {archive}\n")
    return 0 if equal else 1


def _tell(story: _Story, server: EmbeddedServer, folder: Path, kept: Path, reports: int) -> bool:
    dsn = server.dsn(DATABASE)
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0".encode())
    with story.step(f"Making a radiology application with {reports:,} reports"):
        application = create_application(dsn, folder, reports)
    story.note(_sizes(application))
    with Service.from_environment(_environment(server, folder, kept)) as service:
        return _protect(story, service, dsn, folder)


def _protect(story: _Story, service: Service, dsn: str, folder: Path) -> bool:
    with story.step("Backing it up: database, configuration and files as one"):
        taken = service.backup()
    content = int(taken.metadata["backup_size_bytes"])
    story.note(f"{taken.name}: {_megabytes(content)} of contents in an archive of {_megabytes(taken.size)}")
    with story.step("Verifying the backup, byte by byte"):
        verified = service.verify(taken.name)
    story.note(f"{verified.total_files:,} files, {verified.tables} tables with {verified.rows:,} rows")
    before = _protected(fingerprint(dsn, folder))

    story.line("\nThe accident: someone deletes reports and uploads (scenario 3 of the manual)")
    damage = wreck(dsn, folder)
    lost = differences(before, _protected(fingerprint(dsn, folder)))
    story.note(f"{damage.reports:,} reports and {damage.files:,} files are gone; {len(lost):,} things differ")
    with story.step("Backing up what is left, before touching it"):
        service.backup()

    with story.step(f"Restoring {taken.name}"):
        restored = service.restore(taken.name, Parts())
    story.note(f"the database was out of reach for {restored.offline * 1000:.0f} ms, while the new one took its place")
    paths = sum(1 for kept in restored.kept if kept.previous is not None)
    story.note(f"what it replaced is kept: the database {restored.previous_database}, and {paths} files and folders")
    return _prove(story, before, _protected(fingerprint(dsn, folder)))


def _prove(story: _Story, before: Fingerprint, after: Fingerprint) -> bool:
    """Show the comparison table by table, and file by file in sum."""
    story.line("\nIs it exactly what it was?")
    for name, (rows, digest) in before.tables.items():
        same = after.tables.get(name) == (rows, digest)
        story.line(f"   {'equal    ' if same else 'DIFFERENT'}  {name:<32} {rows:>9,} rows  {digest[:16]}")
    for label, old, new in (
        ("sequences", before.sequences, after.sequences),
        ("large objects", before.large_objects, after.large_objects),
        ("definitions (columns, indexes, keys, views, triggers, grants, …)", before.objects, after.objects),
        ("files and folders (bytes, modes, owners, times, links)", before.files, after.files),
    ):
        equal = sum(1 for name in old if new.get(name) == old[name])
        story.line(f"   {'equal    ' if dict(old) == dict(new) else 'DIFFERENT'}  {equal:,} of {len(old):,} {label}")
    found = differences(before, after)
    for difference in found[:_SHOWN_DIFFERENCES]:
        story.line(f"      {difference}")
    story.line("\nYes, table by table and file by file." if not found else f"\nNO: {len(found):,} things differ.")
    return not found


class _Story:
    """Prints steps with the time that they took."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def note(self, text: str) -> None:
        if text:
            self.line(f"   {text}")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what begins, and at its end how long it took."""
        self._out.write(f"\n{what} … ")
        self._out.flush()
        started = time.monotonic()
        yield
        self.line(f"{time.monotonic() - started:.2f} s")


def _protected(found: Fingerprint) -> Fingerprint:
    """Without files that no backup holds: folders that merely contain protected ones, and what a restore keeps."""
    files = {
        name: what
        for name, what in found.files.items()
        if any(name == place or name.startswith(f"{place}/") for place in _PROTECTED)
    }
    return replace(found, files=files)


def _archive_folder() -> Path:
    """An empty folder of ours alone, at the same place each time; a demo's archives are worth nothing later."""
    place = Path(tempfile.gettempdir()) / f"resurgam-demo-{os.geteuid()}"
    if place.is_symlink() or (place.exists() and place.stat().st_uid != os.geteuid()):
        raise StorageError(f"{place} belongs to someone else.", "Set TMPDIR to a folder of your own.")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=stat.S_IRWXU)
    return place


def _environment(server: EmbeddedServer, folder: Path, backups: Path) -> Mapping[str, str]:
    """The manual's variables, and nothing of the caller's own settings."""
    return {
        "APP_DIR": str(folder),
        "BACKUP_DIR": str(backups),
        "DB_HOST": server.host,
        "DB_PORT": str(server.port),
        "DB_NAME": DATABASE,
        "DB_USER": server.superuser,
        "DB_PASSWORD": server.password,
        "BACKUP_PG_BIN": str(server.bin),
    }


def _sizes(application: Application) -> str:
    with psycopg.connect(application.dsn) as session:
        row = session.execute("SELECT pg_database_size(current_database())").fetchone()
    size = sum(path.lstat().st_size for path in application.folder.rglob("*") if path.is_file())
    kind = "pgvector embeddings" if application.vectors else "embeddings as arrays"
    database = _megabytes(int(row[0])) if row else "?"
    return f"database {database} with {kind}, {application.files:,} files of {_megabytes(size)}"


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MB"
