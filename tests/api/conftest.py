"""The API of an application that has one backup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resurgam.postgres.embedded import EmbeddedServer
from tests.api.calling import Api, api_on
from tests.clusters import Database, create_database, drop_database


@pytest.fixture(scope="session")
def with_backup(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, str]]:
    """An API that tests share which neither count on its history nor delete the one backup, whose name this is too."""
    made = create_database(pg16)
    with api_on(made, tmp_path_factory.mktemp("api")) as api:
        yield api, api.backup()
    drop_database(pg16, made.name)


@pytest.fixture
def api(database: Database, tmp_path: Path) -> Iterator[Api]:
    """The API of an application without a backup, for a test of its own."""
    with api_on(database, tmp_path) as made:
        yield made
