"""The lab: one database and one folder of a real application's size, made once and kept under a cache folder.

At scale 1 the database's plain dump has about 675 MB, and the folder 20,150 files of 448 MB in total:
texts that compress well, and scans that hardly do.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from resurgam.demo.application import create_database
from resurgam.demo.sample_files import create_files
from resurgam.postgres.embedded import EmbeddedServer

# Changes when the lab's contents change, so that no figures come from an old one.
_VERSION = 2
_REPORTS = 290_800
_FILES = 20_150
_SCANS = 150
_BYTES = 448_000_000
DATABASE = "lab"


@dataclass(frozen=True, slots=True)
class Lab:
    """A running server with the lab's database, the application's folder, its plain dump, a folder to work in."""

    server: EmbeddedServer
    app: Path
    dump: Path
    work: Path
    files: int
    files_bytes: int

    def environment(self) -> dict[str, str]:
        """For `resurgam` (DB_*, APP_DIR, BACKUP_DIR) and for PostgreSQL's own tools (PG*)."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DB_", "BACKUP_"))}
        # As installed, our modules are there as bytecode; compiling them takes 0.2 s of every run.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        host, port, password = self.server.host, str(self.server.port), self.server.password
        return kept | {
            "PATH": f"{self.server.bin}:{os.environ.get('PATH', os.defpath)}",
            "DB_HOST": host,
            "DB_PORT": port,
            "DB_NAME": DATABASE,
            "DB_USER": self.server.superuser,
            "DB_PASSWORD": password,
            "APP_DIR": str(self.app),
            "BACKUP_DIR": str(self.work / "backups"),
            # Not in APP_DIR, where the lab is kept.
            "BACKUP_LOG_FILE": str(self.work / "backup.log"),
            "PGHOST": host,
            "PGPORT": port,
            "PGUSER": self.server.superuser,
            "PGPASSWORD": password,
        }

    def sql(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser, each by itself."""
        with psycopg.connect(self.server.dsn(database), autocommit=True) as session:
            for statement in statements:
                session.execute(statement.encode())


@contextmanager
def open_lab(cache: Path, scale: float, major: int) -> Iterator[Lab]:
    """Make what is missing of the lab, start a server with fsync on, load the database."""
    place = cache / f"lab-{_VERSION}-{scale:g}-pg{major}"
    work = cache / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with EmbeddedServer(major=major) as server:
            lab = Lab(server, place / "app", place / "lab.sql", work, *_make(place, scale, server))
            load(lab, DATABASE, lab.dump)
            yield lab
    finally:
        shutil.rmtree(work, ignore_errors=True)


def load(lab: Lab, database: str, dump: Path) -> None:
    """Make a database and load a plain dump with psql."""
    lab.sql(f"CREATE DATABASE {database} TEMPLATE template0")
    subprocess.run(
        ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", dump],
        check=True,
        env=lab.environment(),
        stdout=subprocess.DEVNULL,
    )
    lab.sql("CHECKPOINT")


def _make(place: Path, scale: float, server: EmbeddedServer) -> tuple[int, int]:
    if not (place / "lab.sql").exists():
        print(f"Making the lab at scale {scale:g} in {place} (once)", flush=True)
        place.mkdir(parents=True, exist_ok=True)
        with psycopg.connect(server.dsn(), autocommit=True) as session:
            session.execute("CREATE DATABASE making TEMPLATE template0")
            create_database(server.dsn("making"), max(100, int(_REPORTS * scale)), seed=1)
            partial = place / "lab.sql.partial"
            subprocess.run(
                [server.bin / "pg_dump", "-d", "making", "-f", partial],
                check=True,
                env=_tool_environment(server),
            )
            session.execute("DROP DATABASE making")
        shutil.rmtree(place / "app", ignore_errors=True)
        _make_files(place / "app", scale)
        partial.rename(place / "lab.sql")
    sizes = [path.stat().st_size for path in (place / "app").rglob("*") if path.is_file() and not path.is_symlink()]
    return len(sizes), sum(sizes)


def _tool_environment(server: EmbeddedServer) -> dict[str, str]:
    return os.environ | {
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": server.superuser,
        "PGPASSWORD": server.password,
    }


def _make_files(app: Path, scale: float) -> None:
    """Half of the bytes in few large scans, half in many small files; a third of the small ones do not compress."""
    rng = random.Random(7)
    made = create_files(app, 20, rng)
    scans = max(1, int(_SCANS * scale))
    small = max(10, int(_FILES * scale) - scans - made)
    half = int(_BYTES * scale / 2)
    pixels = bytes(range(0, 256, 16)) * 16  # sixteen grey levels: noise that compresses to a half
    for number, size in enumerate(_sizes(rng, scans, half)):
        content = rng.randbytes(size) if number % 2 else rng.randbytes(size).translate(pixels)
        _write(app / "uploads" / "scans" / f"{number // 50:02d}" / f"{number:04d}.dcm", content)
    words = b"normal lung liver lesion nodule image series axial mm contrast stable".split()
    for number, size in enumerate(_sizes(rng, small, half)):
        if number % 3 == 0:
            content = rng.randbytes(size)
        else:
            content = (b"%d " % number + b" ".join(rng.choices(words, k=size // 4)))[:size]
        _write(app / "uploads" / "files" / f"{number % 200:03d}" / f"{number:06d}.bin", content)


def _sizes(rng: random.Random, count: int, total: int) -> list[int]:
    """So many sizes that differ much, and together give the total."""
    weights = [rng.uniform(0.2, 1.8) for _ in range(count)]
    unit = total / sum(weights)
    return [int(weight * unit) for weight in weights]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
