"""What was kept and holds subscriptions: dropped with them, the publisher's slots left alone; or it stays, and why.

The numbers are those of docs/ordering.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from resurgam.operations.kept import kept_sides
from resurgam.operations.restore import Parts
from resurgam.operations.sweep_kept import sweep_kept
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.service import Service
from tests.clusters import Database, Role, create_database, drop_database
from tests.operations.backups import small_scene
from tests.operations.scene import Scene, scene_for

_SLOT = "resurgam_test_slot"
_OPTIONS = f"create_slot = false, slot_name = '{_SLOT}'"
_DISABLED = f"connect = false, {_OPTIONS}"
_ENABLED = f"copy_data = false, {_OPTIONS}"


@dataclass(frozen=True)
class Publisher:
    """Another database, with a publication and a slot that changes wait in."""

    database: Database

    @property
    def slots(self) -> int:
        with psycopg.connect(self.database.dsn) as session:
            return len(session.execute("SELECT FROM pg_replication_slots WHERE slot_name = %s", (_SLOT,)).fetchall())

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.database.dsn, autocommit=True) as session:
            session.execute(statement.encode())


@pytest.fixture
def publisher(pg: EmbeddedServer) -> Iterator[Publisher]:
    made = Publisher(create_database(pg, prefix="publisher"))
    made.execute("CREATE TABLE users (id int)")
    made.execute("CREATE PUBLICATION nothing; CREATE PUBLICATION something FOR TABLE users")
    made.execute(f"SELECT pg_create_logical_replication_slot('{_SLOT}', 'pgoutput')")
    yield made
    for _ in range(100):  # whoever replicated may be just ending
        with psycopg.connect(pg.dsn(), autocommit=True) as session:
            session.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", (_SLOT,)
            )
            try:
                session.execute("SELECT pg_drop_replication_slot(%s)", (_SLOT,))
                break
            except psycopg.errors.ObjectInUse:
                time.sleep(0.05)
    drop_database(pg, made.database.name)


def _drop_subscription(server: EmbeddedServer, kept: str) -> None:
    with psycopg.connect(server.dsn(kept), autocommit=True) as session:
        session.execute("ALTER SUBSCRIPTION follows DISABLE; ALTER SUBSCRIPTION follows SET (slot_name = NONE)")
        session.execute("DROP SUBSCRIPTION follows")


@pytest.fixture
def kept(pg: EmbeddedServer, database: Database, tmp_path: Path) -> Iterator[tuple[Scene, Service, str]]:
    """A database that a restore has replaced."""
    scene = small_scene(database, tmp_path)
    yield from _restored(scene)


def _restored(scene: Scene) -> Iterator[tuple[Scene, Service, str]]:
    with scene.service() as service:
        name = service.backup().name
        previous = service.restore(name, Parts(True, False, False)).previous_database
        assert previous is not None
        yield scene, service, previous
    query = f"SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = '{previous}'"
    if scene.administer(query):
        _drop_subscription(scene.server, previous)


def _subscribe(scene: Scene, kept: str, publisher: Publisher, publication: str, options: str) -> None:
    with psycopg.connect(scene.server.dsn(kept), autocommit=True) as session:
        where = publisher.database.dsn.replace("'", "''")
        session.execute(
            f"CREATE SUBSCRIPTION follows CONNECTION '{where}' PUBLICATION {publication} WITH ({options})".encode()
        )


def _sweep(service: Service) -> list[str]:
    now = service.clock.now() + timedelta(hours=73)
    with service.folder.lock():
        return list(sweep_kept(service.state, service.server, service.folder.path, 72 * 3600.0, now))


def test_sentence_37_a_disabled_subscription_goes_with_its_database_and_its_slot_stays(
    kept: tuple[Scene, Service, str], publisher: Publisher
) -> None:
    scene, service, previous = kept
    _subscribe(scene, previous, publisher, "something", _DISABLED)
    publisher.execute("INSERT INTO users VALUES (1)")
    with psycopg.connect(scene.server.dsn(previous)) as session:
        session.execute("SELECT 1")
        assert [line for line in _sweep(service) if "somebody uses it" in line]
    assert scene.administer("SELECT subname, subslotname FROM pg_subscription") == [("follows", _SLOT)]
    (told,) = _sweep(service)
    assert told.startswith("Removed") and f"its slots {_SLOT}, drop them there" in told
    assert scene.databases() == set()
    assert scene.administer("SELECT subname FROM pg_subscription") == []
    assert publisher.slots == 1
    assert kept_sides(service.state, service.folder.path) == ()


def test_sentence_37_an_enabled_subscription_keeps_its_database(
    kept: tuple[Scene, Service, str], publisher: Publisher
) -> None:
    scene, service, previous = kept
    _subscribe(scene, previous, publisher, "nothing", _ENABLED)
    (told,) = _sweep(service)
    assert "its subscription follows is enabled" in told and previous in told
    assert _sweep(service) == []  # told once
    assert scene.databases() == {previous}
    assert scene.administer("SELECT subname, subenabled FROM pg_subscription") == [("follows", True)]
    (reason,) = [one for one in service.health().reasons if one.code == "kept_changed"]
    assert "is enabled" in reason.message
    # Disabled, and with nobody left in it, it goes.
    with psycopg.connect(scene.server.dsn(previous), autocommit=True) as session:
        session.execute("ALTER SUBSCRIPTION follows DISABLE")
    assert _swept_at_last(service).startswith("Removed")
    assert scene.databases() == set() and publisher.slots == 1


def _swept_at_last(service: Service) -> str:
    """The worker that replicated takes a moment to leave."""
    for _ in range(200):
        if told := [line for line in _sweep(service) if line.startswith("Removed")]:
            return told[0]
        time.sleep(0.05)
    raise AssertionError("it stays")


def test_sentence_37_what_was_replicated_into_it_keeps_it(
    kept: tuple[Scene, Service, str], publisher: Publisher
) -> None:
    scene, service, previous = kept
    _subscribe(scene, previous, publisher, "something", _ENABLED)
    publisher.execute("INSERT INTO users VALUES (77)")
    with psycopg.connect(scene.server.dsn(previous), autocommit=True) as session:
        for _ in range(200):
            if session.execute("SELECT id FROM users").fetchall() == [(77,)]:
                break
            time.sleep(0.05)
        assert session.execute("SELECT id FROM users").fetchall() == [(77,)]
        session.execute("ALTER SUBSCRIPTION follows DISABLE")
    (told,) = _sweep(service)
    assert "somebody wrote to it" in told
    assert scene.databases() == {previous}


def test_sentence_37_a_subscription_that_our_role_may_not_drop_keeps_it(
    pg: EmbeddedServer, owned_database: Database, owner_role: Role, publisher: Publisher, tmp_path: Path
) -> None:
    scene = scene_for(owned_database, tmp_path, owner_role)
    (scene.app / "uploads").mkdir(parents=True)
    scene.execute("CREATE TABLE users (id int)")
    scene.more |= {"BACKUP_FILE_TREES": "", "BACKUP_CONFIG_FILES": ""}
    for found, service, previous in _restored(scene):
        _subscribe(found, previous, publisher, "something", _DISABLED)
        (told,) = _sweep(service)
        assert "must be owner of subscription follows" in told
        assert found.databases() == {previous}
        (reason,) = [one for one in service.health().reasons if one.code == "kept_changed"]
        assert "must be owner of subscription follows" in reason.message
        assert found.administer("SELECT subname, subslotname FROM pg_subscription") == [("follows", _SLOT)]
