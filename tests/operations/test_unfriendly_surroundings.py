"""What surrounds an application must neither hinder its backup and restore nor leak into them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from resurgam.errors import HostileError, StorageError
from resurgam.operations.restore import Parts
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database, Role
from tests.operations.scene import Scene, scene_for

FILES = Parts(database=False, config=False)


@pytest.fixture
def small(database: Database, tmp_path: Path) -> Scene:
    scene = scene_for(database, tmp_path)
    (scene.app / "uploads").mkdir(parents=True)
    (scene.app / "uploads" / "scan.txt").write_text("content")
    return scene


@pytest.mark.parametrize("setting", ["statement_timeout = '15ms'", "default_transaction_read_only = on"])
def test_a_role_s_own_settings_do_not_stop_a_restore(
    pg: EmbeddedServer, owned_database: Database, owner_role: Role, tmp_path: Path, setting: str
) -> None:
    scene = scene_for(owned_database, tmp_path, owner_role)
    scene.execute("CREATE TABLE long AS SELECT n, md5(n::text) FROM generate_series(1, 200000) n")
    scene.administer(f'ALTER ROLE "{owner_role.name}" SET {setting}')
    with scene.service() as service:
        restored = service.restore(service.backup().name, Parts())
    assert restored.loaded is not None and restored.loaded.rows == {("public", "long"): 200_000}
    assert scene.leftovers() == []


def test_a_database_without_an_encoding_is_backed_up_and_restored(server: EmbeddedServer, tmp_path: Path) -> None:
    name = "test_plain_bytes"
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    try:
        scene = Scene(server, name, server.superuser, server.password, tmp_path)
        scene.app.mkdir()
        scene.execute("CREATE TABLE reports (name text)", "INSERT INTO reports VALUES ('\xe4')")
        with scene.service() as service:
            service.restore(service.backup().name, Parts())
        assert scene.execute("SELECT encode(name::bytea, 'hex') FROM reports") in ([("c3a4",)], [(b"c3a4",)])
    finally:
        with psycopg.connect(server.dsn(), autocommit=True) as session:
            rows = session.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (name,)).fetchall()
            for (found,) in rows:
                session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(found)))


def test_a_dead_remote_mount_makes_a_backup_degraded_and_no_more(small: Scene) -> None:
    # What stat(2) answers there is an error, as on a FUSE mount whose server died, and not "there is no such file".
    remote = small.root / ("a" * 300)
    with small.service(REMOTE_BACKUP_ENABLED="true", REMOTE_BACKUP_PATH=str(remote)) as service:
        taken = service.backup()
        assert Path(taken.archive_path).exists() and len(taken.failures) == 1
        assert [one["backup_name"] for one in service.list_backups()] == [taken.name]
        (small.app / "uploads" / "scan.txt").unlink()
        service.restore(taken.name, FILES)
    assert (small.app / "uploads" / "scan.txt").read_text() == "content"


def test_a_backup_folder_that_can_not_be_made_is_an_error_in_the_log(small: Scene) -> None:
    (small.root / "file").write_text("")
    with small.service(BACKUP_DIR=str(small.root / "file" / "backups")) as service, pytest.raises(StorageError):
        service.backup()
    assert [line for line in small.log_lines() if " ERROR " in line and "can not be made" in line]


def test_another_name_of_the_env_file_is_not_archived_with_a_tree(small: Scene) -> None:
    (small.app / ".env").write_text("DB_SECRET=1\n")
    os.link(small.app / ".env", small.app / "uploads" / "settings")
    with small.service() as service:
        taken = service.backup()
    with tarfile.open(taken.archive_path) as archive:
        assert not [name for name in archive.getnames() if name.endswith("settings")]
    assert any("settings holds secrets" in warning for warning in taken.warnings)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.REGTYPE])
def test_a_tree_that_is_no_folder_is_refused(small: Scene, kind: bytes) -> None:
    """An empty folder would take the live one's place."""
    name = "radiology_backup_20250101_000000"
    with small.service() as service:
        service.folder.prepare()
        with tarfile.open(small.backups / f"{name}.tar.gz", "w:gz") as archive:
            for path, content in (("backup_metadata.json", json.dumps({"backup_name": name})), ("files/uploads", "")):
                entry = tarfile.TarInfo(f"{name}/{path}")
                entry.size = len(content)
                if path.startswith("files/"):
                    entry.type, entry.linkname = kind, "/etc"
                archive.addfile(entry, io.BytesIO(content.encode()))
        before = small.app / "uploads" / "scan.txt"
        with pytest.raises(HostileError, match="should be a folder"):
            service.restore(name, FILES)
    assert before.read_text() == "content"
    assert small.leftovers() == []
