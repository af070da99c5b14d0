"""Applications for the tests of restores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database, create_database, drop_database
from tests.operations.scene import Scene, scene_for


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return scene_for(database, tmp_path).make()


@pytest.fixture(scope="session")
def whole(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Path]]:
    """An application that no test changes, with a backup of it."""
    made = create_database(pg16)
    scene = scene_for(made, tmp_path_factory.mktemp("whole")).make()
    with scene.service() as service:
        taken = service.backup()
    yield scene, Path(taken.archive_path)
    drop_database(pg16, made.name)


@pytest.fixture
def standing(whole: tuple[Scene, Path], tmp_path: Path) -> Scene:
    """The same application, with a backup folder of the test's own that holds the backup; nothing may change it."""
    scene, archive = whole
    own = replace(scene, root=tmp_path, app_at=scene.app)
    own.backups.mkdir()
    shutil.copy(archive, own.backups)
    return own
