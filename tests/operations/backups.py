"""What the tests of backups share: a small application, and a backup that must fail and leave nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.errors import (
    ResurgamError,
)
from tests.clusters import Database
from tests.operations.scene import Scene, scene_for


def small_scene(database: Database, root: Path) -> Scene:
    """An application of two tables and a few files, for tests that need no more."""
    made = scene_for(database, root)
    made.execute(
        "CREATE TABLE reports (id int PRIMARY KEY, body text)",
        "INSERT INTO reports SELECT n, repeat('finding ', 20) FROM generate_series(1, 2000) n",
        "CREATE TABLE users (id int)",
    )
    for name in ("backend/templates", "uploads/2025"):
        (made.app / name).mkdir(parents=True)
    (made.app / "uploads/2025/a.txt").write_text("a")
    (made.app / "backend/templates/chest.html").write_text("<p>")
    for name in (".env.example", "docker-compose.yml", "requirements.txt", "backend/config.py"):
        (made.app / name).write_text("x = 1\n")
    (made.app / ".env").write_text("DB_PASSWORD=never-in-an-archive\n")
    return made


def fails(scene: Scene, kind: type[ResurgamError], match: str, **more: str) -> ResurgamError:
    """The backup fails with that, and nothing else happens: no archive, no prune, no left-overs, an ERROR line."""
    before = scene.archives()
    with scene.service(**more) as service:
        with pytest.raises(kind, match=match) as caught:
            service.backup()
        run = service.state.jobs.latest(1)[0]
        assert (run.outcome, run.reason) == ("failed", caught.value.message)
    assert scene.archives() == before
    assert scene.leftovers() == []
    assert " ERROR " in scene.log_lines()[-1]
    return caught.value
