"""The runbooks of the manual's scenarios, followed as they are written, on real servers: everything comes back."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from resurgam import readiness
from resurgam.demo.proof import Fingerprint
from resurgam.operations.repository_keys import prove_kit
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import drop_database
from tests.deploy.runbook import Block, Person, all_ways, blocks, knows_kit
from tests.operations.scene import Scene, lost

_DATABASE = "radiology_db"
_ROLE = "app_user"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (apt-get install curl)")


@contextmanager
def _application(server: EmbeddedServer, root: Path) -> Iterator[Scene]:
    """The runbooks' database and a folder, on a server that lives on."""
    scene = Scene(server, _DATABASE, server.superuser, server.password, root)
    scene.administer(f"CREATE DATABASE {_DATABASE} TEMPLATE template0")
    scene.administer(f"CREATE ROLE {_ROLE} LOGIN")
    try:
        yield scene
    finally:
        scene.drop_previous()
        drop_database(server, _DATABASE)
        scene.administer(f"DROP ROLE {_ROLE}")


@pytest.fixture
def scene(pg16: EmbeddedServer, tmp_path: Path) -> Iterator[Scene]:
    """A small application: reports, of which some columns are the database's own, and an upload."""
    with _application(pg16, tmp_path) as made:
        made.execute(
            "CREATE TABLE reports (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text,"
            " length int GENERATED ALWAYS AS (length(body)) STORED, created_at timestamptz DEFAULT now())",
            "INSERT INTO reports (body) SELECT 'finding ' || n FROM generate_series(1, 500) n",
            f"ALTER TABLE reports OWNER TO {_ROLE}",
        )
        for name in ("backend/templates", "uploads/2025"):
            (made.app / name).mkdir(parents=True)
        (made.app / "uploads/2025/scan.pdf").write_bytes(b"%PDF a scan")
        for name in (".env.example", "docker-compose.yml", "requirements.txt", "backend/config.py"):
            (made.app / name).write_text("x = 1\n")
        yield made


@pytest.fixture(scope="module")
def new_server(pg16: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """A machine that has seen nothing: another server of the same version."""
    with EmbeddedServer(pg16.bin, fsync=False) as server:
        yield server


@pytest.fixture
def empty_server(new_server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    yield new_server
    with psycopg.connect(new_server.dsn(), autocommit=True) as session:
        session.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
        session.execute(f"DROP ROLE IF EXISTS {_ROLE}")


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _reports(scene: Scene) -> list[tuple[object, ...]]:
    return scene.execute("SELECT id, body, length, created_at FROM reports ORDER BY id")


def _at_home(scene: Scene) -> Person:
    """Someone on the machine that is protected, with its settings."""
    port = _free_port()
    environment = scene.environment(
        PATH=str(scene.server.bin),
        PGPORT=str(scene.server.port),
        PGUSER=scene.role,
        PGPASSWORD=scene.password,
        SERVICE_PORT=port,
        RESTORE_SAFETY_BACKUP="true",
    )
    places = {"/app": str(scene.app), "localhost:8000": f"127.0.0.1:{port}"}
    return Person(scene.root / "person", environment, places)


@contextmanager
def _busy(scene: Scene, person: Person) -> Iterator[subprocess.Popen[bytes]]:
    """The application, which uses the database until it is stopped; the service runs beside it."""
    person.follow([Block("before", "docker-compose up -d\n")])
    application = subprocess.Popen(
        [scene.server.bin / "psql", "-X", "-d", scene.dsn, "-c", "SELECT pg_sleep(300)"], stderr=subprocess.DEVNULL
    )
    try:
        (person.stand_ins / "app.pid").write_text(str(application.pid))
        yield application
    finally:
        application.kill()
        application.wait()
        person.end()


def _backed_up(scene: Scene) -> str:
    with scene.service() as service:
        return str(service.backup().to_json()["backup_name"])


@pytest.mark.parametrize("way", ["terminal", "api"])
def test_a_corrupt_database_is_restored_while_the_application_is_stopped(scene: Scene, way: str) -> None:
    assert all_ways("database-corruption") == {"terminal", "api"}
    name, reports = _backed_up(scene), _reports(scene)
    scene.execute("UPDATE reports SET body = 'corrupt'")
    (scene.app / "uploads/2025/newer.pdf").write_bytes(b"%PDF newer")
    person = _at_home(scene)
    person.knows(name)
    with _busy(scene, person) as application:
        seen = person.follow(blocks("database-corruption", way))
        assert application.wait(5) != 0
        assert (person.stand_ins / "service.pid").exists()
    assert _reports(scene) == reports
    assert (person.stand_ins / "app.out").read_text() == "500\n"
    assert (scene.app / "uploads/2025/newer.pdf").exists()
    kept = [other for other in scene.databases() if "_previous_" in other]
    assert len(kept) == 1
    if way == "terminal":
        for told in (f"{name} is sound: ", f"Restored {name} ", f"as {kept[0]}", "saved      the state before"):
            assert told in seen, (told, seen)
    else:
        for told in ("Backup verification passed", '"state":"ok"', '"safety_backup":"radiology_'):
            assert told in seen, (told, seen)
    assert len(scene.archives()) == 3  # the one restored, the safety backup, and the runbook's last


@pytest.mark.parametrize("way", ["terminal", "api"])
def test_deleted_rows_and_files_are_fetched_beside_what_is_live(scene: Scene, way: str) -> None:
    assert all_ways("accidental-deletion") == {"terminal", "api", "some", "all", "undo"}
    name, reports = _backed_up(scene), _reports(scene)
    scene.execute("DELETE FROM reports WHERE id IN (17, 18)", "INSERT INTO reports (body) VALUES ('since')")
    since = _reports(scene)[-1]
    (scene.app / "uploads/2025/scan.pdf").unlink()
    person = _at_home(scene)
    person.knows(name)
    with _busy(scene, person) as application:
        seen = person.follow(blocks("accidental-deletion", way, "some"))
        assert application.poll() is None
    assert "INSERT 0 2\n" in seen
    assert f"{name} is sound: " in seen
    assert _reports(scene) == [*reports, since]
    assert (scene.app / "uploads/2025/scan.pdf").read_bytes() == b"%PDF a scan"
    assert [path.name for path in (scene.app / "uploads/2025").iterdir()] == ["scan.pdf"]
    assert scene.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("reports",)]
    assert scene.databases() == set()
    assert len(scene.archives()) == 2


def test_everything_goes_back_to_the_backups_time_and_forth_again(scene: Scene) -> None:
    name, reports = _backed_up(scene), _reports(scene)
    scene.execute("DELETE FROM reports WHERE id IN (17, 18)", "INSERT INTO reports (body) VALUES ('since')")
    since = _reports(scene)
    (scene.app / "uploads/2025/scan.pdf").unlink()
    person = _at_home(scene)
    person.knows(name)
    steps = blocks("accidental-deletion", "terminal", "all", "undo")
    at = next(number for number, step in enumerate(steps) if "resurgam undo" in step.code)
    with _busy(scene, person):
        seen = person.follow(steps[:at])
        assert f"Restored {name} " in seen
        assert _reports(scene) == reports
        assert (scene.app / "uploads/2025/scan.pdf").read_bytes() == b"%PDF a scan"
        assert len(scene.archives()) == 3
        person.follow(steps[at:])
    assert _reports(scene) == since
    assert not (scene.app / "uploads/2025/scan.pdf").exists()


@pytest.fixture
def sample(pg16: EmbeddedServer, tmp_path: Path) -> Iterator[Scene]:
    """The sample application, whose database belongs to a role that a new server does not have."""
    with _application(pg16, tmp_path / "old") as made:
        made.make(40)
        made.execute(f"ALTER TABLE reports OWNER TO {_ROLE}", f"GRANT SELECT ON users TO {_ROLE}")
        yield made


def _in_a_repository(scene: Scene) -> tuple[str, Path]:
    """A backup in a repository, and its proven recovery kit; the passphrase dies with the machine."""
    scene.more |= {
        "BACKUP_REPOSITORY": str(scene.root / "repository"),
        "BACKUP_ENCRYPTION_KEY": "of the machine that was lost",
    }
    kit = scene.root / "kit.txt"
    with scene.service() as service:
        readiness.set_up(service)
        readiness.make_repository(service, (), kit)
        prove_kit(readiness.repository(service).keys(), kit.read_text())
    name = _backed_up(scene)
    scene.more.clear()
    return name, kit


def _rescued(scene: Scene, server: EmbeddedServer, app: Path) -> Scene:
    """The application where it was restored to."""
    return Scene(server, _DATABASE, server.superuser, server.password, scene.root.parent, app_at=app)


def _in(server: EmbeddedServer, port: str) -> dict[str, str]:
    """An environment in which libpq and Resurgam find the port, which is 5432 for everybody else."""
    return {"PATH": str(server.bin), "PGPORT": str(server.port), "SERVICE_PORT": port}


@pytest.mark.parametrize(
    ("kept_as", "way"), [("archives", "terminal"), ("archives", "api"), ("repository", "terminal")]
)
def test_a_lost_system_comes_back_on_a_new_one(
    sample: Scene, empty_server: EmbeddedServer, tmp_path: Path, kept_as: str, way: str
) -> None:
    assert all_ways("system-failure") == {"terminal", "api", "archives", "repository"}
    name, kit = (_backed_up(sample), None) if kept_as == "archives" else _in_a_repository(sample)
    before, port = sample.seen(), _free_port()
    at = tmp_path / "person" / "work" / "radiology-rag"
    new = _rescued(sample, empty_server, at)
    environment = new.environment(
        **_in(empty_server, port),
        PGPASSWORD=empty_server.password,
        BACKUP_DIR=str(at / "backups"),
        BACKUP_LOG_FILE=str(at / "logs" / "backup.log"),
        RESTORE_SAFETY_BACKUP="true",
    )
    places = {
        "/mnt/remote_storage/backups": str(sample.backups),
        "/mnt/remote_storage/repository": str(sample.root / "repository"),
        "localhost:8000": f"127.0.0.1:{port}",
    }
    person = Person(tmp_path / "person", environment, places)
    person.knows(name)
    if kit is not None:
        knows_kit(person, "system-failure", kit.read_text())
    repository = person.stand_ins / "repository"
    shutil.copytree(sample.app, repository, ignore=shutil.ignore_patterns("uploads", "templates", ".env"))
    try:
        seen = person.follow(blocks("system-failure", kept_as, way))
    finally:
        person.end()
    assert (f"Restored {name} " if way == "terminal" else '"state":"ok"') in seen
    assert f"{name} is sound: " in seen
    assert re.search(r"\b40 \| 20", seen)
    assert lost(before, new.seen()) == []


def _in_seconds(found: Fingerprint) -> Fingerprint:
    return replace(found, files={name: re.sub(r"\d{9}( |$)", " ", what, count=1) for name, what in found.files.items()})


@pytest.mark.parametrize(("kept_as", "way"), [("file", "a"), ("file", "b"), ("repository", "a"), ("repository", "b")])
def test_one_archive_and_the_page_are_enough(
    sample: Scene, empty_server: EmbeddedServer, tmp_path: Path, kept_as: str, way: str
) -> None:
    assert all_ways("one-archive") == {"a", "b", "other", "file", "repository"}
    name, kit = (_backed_up(sample), None) if kept_as == "file" else _in_a_repository(sample)
    before = sample.seen()
    rescue, app = tmp_path / "rescue", tmp_path / "new-app"
    usb = sample.backups if kit is None else sample.root
    places = {"/mnt/usb": str(usb), "/srv/rescue": str(rescue), "/app": str(app)}
    answers = {"The password again: ": empty_server.password}
    person = Person(tmp_path / "person", _in(empty_server, "0"), places, answers)
    person.knows(name)
    if kit is not None:
        knows_kit(person, "one-archive", kit.read_text())
    seen = person.follow(blocks("one-archive", kept_as, way))
    assert f"readable\n{name}/\n{name}/backup_metadata.json\n" in seen
    assert "Dumped from database version 16" in seen
    *_, wanted, there = re.findall(r'\["public","reports",(\d+)\]|^public\|reports\|(\d+)$', seen, re.MULTILINE)
    assert wanted[0] == there[1] == "40"
    in_archive, on_disk = seen.split()[-2:]
    assert in_archive == on_disk != "0"
    assert (f"{name} is sound: " in seen) == (way == "a" or kit is not None)
    assert (f"Restored {name} " in seen) == (way == "a")
    new = _rescued(sample, empty_server, app)
    if way == "a":
        assert lost(before, new.seen()) == []
        return
    # tar knows whole seconds; what the database had set for itself is given back as the page says, and one is shown.
    differences = lost(_in_seconds(before), _in_seconds(new.seen()))
    assert [one for one in differences if "'database this database'" not in one] == []
