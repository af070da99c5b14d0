"""Backup, accident, restore: everything comes back."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from resurgam.demo.proof import differences
from resurgam.errors import (
    UsageError,
)
from resurgam.operations.restore import Parts
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database, Role
from tests.operations.namespaces import in_child, mount, needs_mounts
from tests.operations.scene import CONFIG, Scene, lost, protected, scene_for


def test_everything_comes_back_for_a_superuser(pg: EmbeddedServer, database: Database, tmp_path: Path) -> None:
    _round(scene_for(database, tmp_path).make())


def test_everything_comes_back_for_a_plain_owner(
    pg: EmbeddedServer, owned_database: Database, owner_role: Role, tmp_path: Path
) -> None:
    _round(scene_for(owned_database, tmp_path, owner_role).make())


def test_a_table_of_another_role_comes_back_for_a_plain_owner(
    pg: EmbeddedServer, owned_database: Database, owner_role: Role, tmp_path: Path
) -> None:
    """Its new owner may have it only with rights in the schema, which the dump grants last."""
    scene = scene_for(owned_database, tmp_path, owner_role)
    other = f"{owner_role.name}_other"
    scene.administer(f"CREATE ROLE {other}")
    scene.administer(f"GRANT {other} TO {owner_role.name}")
    try:
        scene.execute(
            "CREATE SCHEMA ward",
            f"GRANT ALL ON SCHEMA ward TO {other}",
            "CREATE TABLE ward.beds (id int)",
            f"ALTER TABLE ward.beds OWNER TO {other}",
        )
        with scene.service(BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none") as service:
            restored = service.restore(service.backup().name, Parts())
        assert scene.execute("SELECT tableowner::text FROM pg_tables WHERE schemaname = 'ward'") == [(other,)]
        scene.administer(f"DROP DATABASE {restored.previous_database}")
        scene.execute("DROP SCHEMA ward CASCADE")
    finally:
        scene.administer(f"DROP ROLE IF EXISTS {other}")


def _round(scene: Scene) -> None:
    before = scene.seen()
    with scene.service() as service:
        taken = service.backup()
        assert service.verify(taken.name).rows == sum(rows for _, _, rows in taken.metadata["database"]["tables"])
        scene.wreck()
        damaged = scene.seen()
        assert len(lost(before, damaged)) > 10
        restored = service.restore(taken.name, Parts())
    assert lost(before, scene.seen()) == []
    assert scene.leftovers() == []
    # What was replaced is kept, as it was.
    assert restored.previous_database is not None
    assert scene.databases() == {restored.previous_database}
    kept = scene.seen(scene.server.dsn(restored.previous_database, scene.role, scene.password))
    assert kept.tables == damaged.tables
    for kept_path in restored.kept:
        assert kept_path.previous is not None and kept_path.previous.exists()


@pytest.mark.parametrize(
    "parts", [Parts(True, False, False), Parts(False, True, False), Parts(False, False, True), Parts(False, True, True)]
)
def test_only_what_was_asked_for_comes_back(scene: Scene, parts: Parts) -> None:
    before = protected(scene.seen())
    with scene.service() as service:
        taken = service.backup()
        scene.wreck()
        (scene.app / "docker-compose.yml").write_text("services: {}\n")
        damaged = protected(scene.seen())
        result = service.restore(taken.name, parts)
    after = protected(scene.seen())
    expected = replace(
        before if parts.database else damaged,
        files={
            name: (before if _wanted(name, parts) else damaged).files[name]
            for name in (before.files.keys() | damaged.files.keys())
            if name in (before if _wanted(name, parts) else damaged).files
        },
    )
    assert differences(expected, after) == []
    shown = result.to_json()
    assert shown["restored_database"] is parts.database
    assert bool(shown["restored_config"]) is parts.config
    assert bool(shown["restored_files"]) is parts.files
    assert bool(scene.databases()) is parts.database
    assert scene.leftovers() == []


def _wanted(name: str, parts: Parts) -> bool:
    return parts.config if name in CONFIG else parts.files


def test_nothing_asked_for_is_a_mistake(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        with pytest.raises(UsageError):
            service.restore(name, Parts(False, False, False))


def test_a_missing_database_is_created(scene: Scene) -> None:
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
        scene.administer(f"DROP DATABASE {scene.database}")
        result = service.restore(name, Parts())
    assert result.previous_database is None
    assert scene.databases() == set()
    assert lost(before, scene.seen()) == []


def test_a_lost_machine_is_rebuilt_from_the_archive_alone(
    scene: Scene, database: Database, tmp_path: Path, server: EmbeddedServer
) -> None:
    """Scenario 1: no database, no folders, no catalog, no state."""
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
    archive = (scene.backups / f"{name}.tar.gz").read_bytes()
    scene.administer(f"DROP DATABASE {scene.database}")
    shutil.rmtree(scene.app)
    shutil.rmtree(scene.backups)
    scene.app.mkdir()
    scene.backups.mkdir()
    (scene.backups / f"{name}.tar.gz").write_bytes(archive)
    with scene.service() as service:
        assert [one["backup_name"] for one in service.list_backups()] == [name]
        service.restore(name, Parts())
    after = scene.seen()
    # The folder `backend` itself is in no backup: only what is in it.
    assert lost(before, after) == []


def test_restoring_twice_at_once_in_a_row_keeps_every_replaced_side(scene: Scene) -> None:
    """Two restores within one second must not want the same names."""
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
        kept = {service.restore(name, Parts()).previous_database for _ in range(3)}
        service.plan_restore(name, Parts())
    assert len(kept) == 3
    assert scene.databases() == kept
    assert lost(before, scene.seen()) == []


def test_a_database_with_the_longest_name(server: EmbeddedServer, database: Database, tmp_path: Path) -> None:
    long = (database.name + "_" + "ü" * 40).encode()[:62].decode(errors="ignore")
    scene = replace(scene_for(database, tmp_path), database=long)
    scene.administer(f'CREATE DATABASE "{long}" TEMPLATE template0')
    scene.make()
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
        scene.wreck()
        first, second = (service.restore(name, Parts()).previous_database for _ in range(2))
    assert first and second and first != second
    assert max(len(first.encode()), len(second.encode())) <= 63
    assert lost(before, scene.seen()) == []


def test_an_archive_of_a_newer_state_is_not_needed_to_go_back_and_forth(scene: Scene) -> None:
    """Restore the old one, then the newer one: each is exactly what it was."""
    with scene.service() as service:
        first, old = scene.seen(), service.backup().name
        scene.wreck()
        # A restore fills materialized views anew: one that is out of date does not stay so.
        scene.execute("REFRESH MATERIALIZED VIEW public.reports_per_month")
        second, new = scene.seen(), service.backup().name
        service.restore(old, Parts())
        assert lost(first, scene.seen()) == []
        service.restore(new, Parts())
        assert lost(second, scene.seen()) == []


def test_the_answer_has_the_manuals_keys(scene: Scene) -> None:
    with scene.service() as service:
        taken = service.backup()
        answer = service.restore(taken.name, Parts()).to_json()
    assert answer["success"] is True
    assert answer["backup_name"] == taken.name
    assert answer["backup_date"] == taken.metadata["datetime"][:19]
    assert answer["warning"] == "Application may need to be restarted after restore completes"
    json.dumps(answer)


def test_a_database_that_refuses_connections_is_replaced(scene: Scene) -> None:
    """Scenario 2, corruption: nobody gets in any more, and that is when a restore is needed most."""
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
        scene.wreck()
        scene.administer(f"ALTER DATABASE {scene.database} ALLOW_CONNECTIONS false")
        result = service.restore(name, Parts())
    assert result.previous_database is not None
    assert lost(before, scene.seen()) == []


def test_a_glob_of_config_files_goes_both_ways(scene: Scene) -> None:
    with scene.service(BACKUP_CONFIG_FILES="**/*.py, *.yml, requirements.txt") as service:
        taken = service.backup()
        assert "backend/config.py" in taken.metadata["configuration"]["files"]
        before = scene.seen()
        (scene.app / "backend/config.py").unlink()
        (scene.app / "docker-compose.yml").write_text("broken")
        service.restore(taken.name, Parts(False, True, False))
    assert lost(before, scene.seen()) == []


@needs_mounts
def test_config_files_that_are_mounted_by_themselves(scene: Scene) -> None:
    """docker-compose mounts single files: they can't be renamed over, only written."""
    with scene.service() as service:
        name = service.backup().name
    before = protected(scene.seen())

    def mounts() -> None:
        for number, file in enumerate(("docker-compose.yml", "backend/config.py")):
            source = scene.root / f"source{number}"
            source.write_text("changed\n")
            mount("--bind", source, scene.app / file)

    def deed() -> list[str]:
        with scene.service() as service:
            service.restore(name, Parts(False, True, False))
        return [(scene.app / file).read_text() for file in ("docker-compose.yml", "backend/config.py")]

    expected = [(scene.app / file).read_text() for file in ("docker-compose.yml", "backend/config.py")]
    assert in_child(deed, mounts=mounts) == expected
    assert protected(scene.seen()).tables == before.tables
