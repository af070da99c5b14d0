"""Age deletes only where the clocks agree (design: commit protocols): a clock that jumped must not empty a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clusters import Database
from tests.operations.scene import Scene, scene_for

FORTY_DAYS = 40 * 24 * 3600.0


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    made = scene_for(database, tmp_path, BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none")
    made.execute("CREATE TABLE t (id int)")
    made.app.mkdir()
    with made.service() as service:
        for _ in range(3):
            service.backup()
    return made


def test_a_local_clock_that_jumped_deletes_nothing_by_age(scene: Scene) -> None:
    scene.clock.ahead += FORTY_DAYS
    with scene.service() as service:
        planned = service.prune(dry_run=True)
        service.prune()
    assert len(scene.archives()) == 3
    assert all(one.decision.keep for one in planned.decisions)
    assert any("clocks" in one.decision.reason for one in planned.decisions)


def test_a_backup_by_a_clock_that_jumped_deletes_nothing_by_age_and_says_so(scene: Scene) -> None:
    scene.clock.ahead += FORTY_DAYS
    with scene.service() as service:
        result = service.backup()
    assert len(scene.archives()) == 4
    assert any("clocks" in warning for warning in result.warnings)


def test_the_cap_still_works_while_the_server_is_down(scene: Scene) -> None:
    with scene.service(DB_PORT="1", MAX_BACKUPS="1") as service:
        service.prune()
    assert len(scene.archives()) == 1
