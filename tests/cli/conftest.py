"""Sample applications for the tests of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resurgam.postgres.embedded import EmbeddedServer
from tests.cli.commands import Scene, make_scene
from tests.clusters import Database, create_database, drop_database


@pytest.fixture
def scene(tmp_path: Path, database: Database) -> Scene:
    """An application without any backup yet."""
    return make_scene(tmp_path, database)


@pytest.fixture(scope="module")
def backed_up(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """An application with one backup. A module's tests share it, so none may change it."""
    database = create_database(pg16)
    scene = make_scene(tmp_path_factory.mktemp("shared"), database)
    scene.backup()
    yield scene
    drop_database(pg16, database.name)
