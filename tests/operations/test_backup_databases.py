"""Databases that are not quite ordinary are backed up and come back."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from resurgam.errors import (
    StorageError,
)
from resurgam.operations.restore import Parts
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database, create_database, drop_database
from tests.operations.backups import small_scene
from tests.operations.namespaces import in_child, mount, needs_mounts, own_mounts
from tests.operations.scene import Scene, scene_for


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


# Databases that are not quite ordinary


def test_partitions_by_the_hash_of_an_enum_which_pg_dump_loads_through_their_root(scene: Scene) -> None:
    scene.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
        "CREATE TABLE moods (mood mood, day int) PARTITION BY HASH (mood)",
        *(f"CREATE TABLE moods_{n} PARTITION OF moods FOR VALUES WITH (MODULUS 3, REMAINDER {n})" for n in range(3)),
        "INSERT INTO moods SELECT m, n FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 5) n",
    )
    with scene.service() as service:
        taken = service.backup()
        assert ["public", "moods", 15] in taken.metadata["database"]["tables"]
        scene.execute("DELETE FROM moods")
        service.restore(taken.name, Parts(database=True, config=False, files=False))
    assert scene.execute("SELECT mood::text, sum(day)::int FROM moods GROUP BY moods.mood ORDER BY moods.mood") == [
        ("sad", 15),
        ("ok", 15),
        ("happy", 15),
    ]


def test_a_client_encoding_set_for_the_database_does_not_touch_the_dump(scene: Scene) -> None:
    scene.execute('CREATE TABLE "naïve" (said text)', "INSERT INTO \"naïve\" VALUES ('ünïcode 😀')")
    scene.administer(f"ALTER DATABASE \"{scene.database}\" SET client_encoding = 'LATIN1'")
    with scene.service() as service:
        taken = service.backup()
        scene.administer(f"ALTER DATABASE \"{scene.database}\" SET client_encoding = 'UTF8'")
        scene.execute('DROP TABLE "naïve"')
        service.restore(taken.name, Parts(database=True, config=False, files=False))
    scene.administer(f'ALTER DATABASE "{scene.database}" RESET client_encoding')
    assert scene.execute('SELECT said FROM "naïve"') == [("ünïcode 😀",)]


def test_a_login_trigger_of_the_backup_writes_nothing_while_it_is_restored(scene: Scene) -> None:
    if scene.server.version < 17:
        pytest.skip("event triggers on login came with 17")
    scene.execute(
        "CREATE TABLE logins (at timestamptz)",
        "CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql"
        " AS 'BEGIN INSERT INTO logins VALUES (now()); END'",
        "CREATE EVENT TRIGGER seen ON login EXECUTE FUNCTION seen()",
        "ALTER EVENT TRIGGER seen ENABLE ALWAYS",
    )
    with scene.service() as service:
        service.restore(service.backup().name, Parts(database=True, config=False, files=False))


def test_the_comment_on_a_database_of_another_encoding(pg: EmbeddedServer, tmp_path: Path) -> None:
    database = create_database(pg)
    with psycopg.connect(pg.dsn(), autocommit=True) as session:
        session.execute(f'DROP DATABASE "{database.name}"'.encode())
        session.execute(f'CREATE DATABASE "{database.name}" TEMPLATE template0 ENCODING LATIN1 LOCALE "C"'.encode())
    made = scene_for(database, tmp_path)
    try:
        made.execute(f"COMMENT ON DATABASE \"{database.name}\" IS E'\\u00c4rzte'")
        with made.service(BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none") as service:
            service.restore(service.backup().name, Parts())
        comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        assert made.execute(comment) == [("Ärzte",)]
    finally:
        drop_database(pg, database.name)


@needs_mounts
def test_a_folder_mounted_read_only_is_called_that(scene: Scene) -> None:
    def refused() -> str:
        mount("--bind", scene.backups, scene.backups)
        mount("-o", "remount,ro,bind", scene.backups)
        with scene.service() as service, pytest.raises(StorageError) as caught:
            service.backup()
        return f"{caught.value.message} {caught.value.hint}"

    with scene.service() as service:
        service.backup()
    told = in_child(refused, mounts=own_mounts)
    assert "mounted read-only" in told and "chown" not in told


def test_a_database_whose_name_looks_like_a_connection_string(pg: EmbeddedServer, tmp_path: Path) -> None:
    database = create_database(pg, prefix="host=nowhere dbname")
    try:
        with scene_for(database, tmp_path).service(BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none") as service:
            service.restore(service.backup().name, Parts())
    finally:
        drop_database(pg, database.name)


def test_two_backups_within_a_second_have_two_names(scene: Scene) -> None:
    with scene.service() as service:
        taken = [service.backup() for _ in range(3)]
    assert len(scene.archives()) == 3
    assert [one.metadata["sequence"] for one in taken] == [1, 2, 3]


def test_a_clock_that_goes_back_keeps_the_order(scene: Scene) -> None:
    with scene.service() as service:
        first = service.backup().name
        scene.clock.ahead -= 1200
        second = service.backup().name
        assert [one["backup_name"] for one in service.list_backups()] == [second, first]
