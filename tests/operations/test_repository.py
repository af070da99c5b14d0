"""BACKUP_REPOSITORY: the same calls with the same results, from a repository in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam import readiness
from resurgam.operations.restore import Parts
from tests.operations.scene import Scene, lost

ALL = Parts(database=True, config=True, files=True)
KEY = "correct horse battery staple"


@pytest.fixture
def scene(scene: Scene) -> Scene:
    scene.more |= {"BACKUP_REPOSITORY": str(scene.root / "repository"), "BACKUP_ENCRYPTION_KEY": KEY}
    with scene.service() as service:
        readiness.make_repository(service)
    return scene


def test_a_backup_is_taken_listed_verified_and_restored(scene: Scene) -> None:
    before = scene.seen()
    with scene.service() as service:
        taken = service.backup()
        assert taken.archive_path.startswith(f"{scene.root}/repository/manifests/")
        assert Path(taken.archive_path).is_file()
        assert taken.failures == () and taken.metadata["sequence"] == 1
    assert scene.archives() == []
    with scene.service() as service:
        (listed,) = service.list_backups()
        assert listed["archive_path"] == taken.archive_path and listed["locations"] == ["repository"]
        assert listed["size_bytes"] == taken.size
        assert service.show(taken.name)["metadata"] == taken.metadata
        checked = service.verify(taken.name)
        assert checked.total_files == taken.metadata["total_files"] and checked.path == taken.archive_path
    scene.wreck()
    with scene.service() as service:
        restored = service.restore(taken.name, ALL)
        assert restored.plan.name == taken.name
    assert lost(before, scene.seen()) == []
