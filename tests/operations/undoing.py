"""What the tests of undo share."""

from __future__ import annotations

import shutil
import time

from resurgam.demo.proof import Fingerprint
from tests.operations.scene import Scene


def accident(scene: Scene) -> Fingerprint:
    """Something that a restore changes everywhere: a table, a tree, a config file; what the application is then."""
    scene.execute("DELETE FROM public.notifications", "CREATE TABLE IF NOT EXISTS after_backup (id int)")
    (scene.app / "docker-compose.yml").write_text(f"{time.monotonic()}\n")
    (scene.app / "requirements.txt").unlink(missing_ok=True)
    (scene.app / "uploads/new.txt").write_text("new")
    shutil.rmtree(scene.app / "uploads/odd names", ignore_errors=True)
    return scene.seen()
