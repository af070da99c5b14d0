"""What a backup took, a restore gives back; where it can't, the user is told before the day comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.operations.restore import Parts
from tests.clusters import Database
from tests.operations.scene import Scene, scene_for


@pytest.fixture
def small(database: Database, tmp_path: Path) -> Scene:
    scene = scene_for(database, tmp_path, BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="uploads")
    (scene.app / "uploads").mkdir(parents=True)
    return scene


def test_config_files_that_a_glob_of_any_depth_found_come_back(small: Scene) -> None:
    (small.app / "deep" / "er").mkdir(parents=True)
    places = [small.app / path for path in ("settings.py", "deep/settings.py", "deep/er/settings.py")]
    for path in places:
        path.write_text(str(path))
    with small.service(BACKUP_CONFIG_FILES="**/settings.py") as service:
        taken = service.backup()
        for path in places:
            path.write_text("wrecked")
        service.restore(taken.name, Parts(database=False, files=False))
    assert [path.read_text() for path in places] == [str(path) for path in places]


def test_what_a_tree_had_and_the_backup_has_not_is_told_before_it_is_replaced(small: Scene) -> None:
    (small.app / "uploads" / ".env").write_text("A=1")
    (small.app / "uploads" / "cache").mkdir()
    with small.service(BACKUP_EXCLUDE="cache/") as service:
        taken = service.backup()
        plan = service.plan_restore(taken.name, Parts(database=False))
    assert [warning for warning in plan.warnings if "uploads/.env" in warning and "uploads/cache" in warning]
    assert plan.problems == ()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"BACKUP_FILE_TREES": "uploads, inner=uploads/inner"}, "the tree inner"),
        ({"BACKUP_DIR": "uploads/backups"}, "BACKUP_DIR"),
    ],
)
def test_a_tree_that_no_restore_will_swap_is_told_with_every_backup(
    small: Scene, more: dict[str, str], named: str
) -> None:
    (small.app / "uploads" / "inner").mkdir()
    with small.service(**more) as service:
        taken = service.backup()
        assert [warning for warning in service.warnings() if named in warning]
        assert service.plan_restore(taken.name, Parts(database=False)).problems != ()
