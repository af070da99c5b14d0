"""Delete removes both copies, `--local` one; what can't be reached is not forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resurgam import readiness
from resurgam.errors import NotFoundError, StorageError, UsageError
from tests.clusters import Database
from tests.operations.scene import Scene, scene_for


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    remote = tmp_path / "remote"
    more: dict[str, Any] = {"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": str(remote)}
    made = scene_for(database, tmp_path, BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none", **more)
    made.app.mkdir()
    made.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id")
    with made.service() as service:
        list(readiness.set_up(service))
    return made


def _places(scene: Scene, name: str) -> set[str]:
    return {place for place in ("backups", "remote") if (scene.root / place / f"{name}.tar.gz").exists()}


def test_both_copies_go(scene: Scene) -> None:
    with scene.service() as service:
        name, other = service.backup().name, service.backup().name
        assert _places(scene, name) == {"backups", "remote"}
        planned = service.delete(name, dry_run=True)
        assert planned.dry_run and _places(scene, name) == {"backups", "remote"}
        answer = service.delete(name).to_json()
        assert answer["message"] == f"Backup {name} deleted successfully"
        assert sorted(answer["deleted"]) == ["local", "remote"] and answer["remaining"] == []
        assert _places(scene, name) == set() and _places(scene, other) == {"backups", "remote"}
        with pytest.raises(NotFoundError):
            service.delete(name)


def test_the_local_copy_alone(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        answer = service.delete(name, local_only=True)
        assert answer.remaining == ("remote",) and _places(scene, name) == {"remote"}
        assert service.verify(name).to_json()["archive_path"] == str(scene.root / "remote" / f"{name}.tar.gz")
        with pytest.raises(NotFoundError, match="no local copy"):
            service.delete(name, local_only=True)
        service.delete(name)
        assert _places(scene, name) == set()


def test_a_remote_that_is_not_there_keeps_both(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        (scene.root / "remote/.resurgam-remote").unlink()
        with pytest.raises(StorageError, match="nothing was deleted"):
            service.delete(name)
        assert _places(scene, name) == {"backups", "remote"}
        service.delete(name, local_only=True)
        assert _places(scene, name) == {"remote"}


def test_a_pinned_one_stays(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        service.pin(name)
        with pytest.raises(UsageError, match="pinned"):
            service.delete(name)
        service.pin(name, remove=True)
        service.delete(name)


def test_damaged_and_foreign_ones_can_be_deleted(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        (scene.backups / f"{name}.tar.gz").write_bytes(b"")
        service.delete(name)
        assert _places(scene, name) == set()
