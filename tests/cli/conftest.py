"""A sample application for each test of the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Scene, make_scene
from tests.clusters import Database


@pytest.fixture
def scene(tmp_path: Path, database: Database) -> Scene:
    """An application without any backup yet."""
    return make_scene(tmp_path, database)
