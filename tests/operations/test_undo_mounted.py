"""Undo where folders and files are mount points, which can't be exchanged whole (sentence 34 of docs/ordering.md)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resurgam import keeping
from resurgam.demo.proof import Fingerprint
from resurgam.errors import RestoreRefused
from resurgam.operations.restore import Parts
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import create_database, drop_database
from tests.operations.namespaces import KILLED, count_changes, in_child, mount, needs_mounts
from tests.operations.scene import Scene, lost, scene_for
from tests.operations.undoing import accident
from tests.sampling import sample

# Where something is mounted in the application's folder.
PLACES = {
    "a folder": ("uploads",),
    "a folder in the tree": ("uploads/2025",),
    "a file": ("docker-compose.yml",),
    "all of them": ("uploads", "backend", "backend/templates", "requirements.txt"),
}


@pytest.fixture(params=PLACES)
def mounted(
    request: pytest.FixtureRequest, pg16: EmbeddedServer, tmp_path: Path
) -> Iterator[tuple[Scene, str, Callable[[], None]]]:
    """An application, the name of its backup, and what mounts volumes over parts of it, with the same contents."""
    made = create_database(pg16)
    scene = scene_for(made, tmp_path).make(reports=10)
    with scene.service() as service:
        name = service.backup().name
    volumes = {}
    for number, place in enumerate(PLACES[request.param]):
        volumes[place] = tmp_path / f"volume{number}"
        subprocess.run(["cp", "-a", scene.app / place, volumes[place]], check=True)

    def mounts() -> None:
        for place, volume in volumes.items():
            mount("--bind", volume, scene.app / place)

    yield scene, name, mounts
    drop_database(pg16, made.name)


def _changed(scene: Scene) -> Fingerprint:
    """An accident that leaves mount points alone, which nobody can remove."""
    scene.execute("DELETE FROM public.notifications", "CREATE TABLE IF NOT EXISTS after_backup (id int)")
    (scene.app / "docker-compose.yml").write_text("changed\n")
    (scene.app / "requirements.txt").write_text("changed\n")
    (scene.app / "backend/templates/added.html").write_text("added")
    (scene.app / "uploads/new.txt").write_text("new")
    (scene.app / "uploads/2025/new.txt").write_text("new")
    shutil.rmtree(scene.app / "uploads/odd names", ignore_errors=True)
    return _seen(scene)


def _seen(scene: Scene) -> Fingerprint:
    """The application without what is kept for undo: within a mount there is no other place for it."""
    found = scene.seen()
    return replace(found, files={name: what for name, what in found.files.items() if "/.resurgam-" not in f"/{name}"})


def _left(scene: Scene) -> list[str]:
    """What is left over; a folder that holds nothing but what is kept is not."""
    return [found for found in scene.leftovers() if not _is_kept(Path(found))]


def _is_kept(path: Path) -> bool:
    return path.is_dir() and [entry.name for entry in path.iterdir()] == ["previous"]


def _restore(scene: Scene, name: str, parts: Parts) -> tuple[Fingerprint, Fingerprint]:
    before = _changed(scene)
    with scene.service() as service:
        service.restore(name, parts)
    return before, _seen(scene)


def _undo(scene: Scene) -> None:
    with scene.service() as service:
        keeping.undo(service)


@needs_mounts
def test_sentence_34_there_and_back_and_there_again(mounted: tuple[Scene, str, Callable[[], None]]) -> None:
    scene, name, mounts = mounted

    def deed() -> list[Any]:
        before, restored = _restore(scene, name, Parts())
        found: list[Any] = [bool(lost(before, restored))]
        for wanted in (before, restored, before):
            _undo(scene)
            found += [lost(wanted, _seen(scene)), _left(scene)]
        return found

    assert in_child(deed, mounts=mounts) == [True, [], [], [], [], [], []]


@needs_mounts
def test_sentence_34_killed_at_any_change(mounted: tuple[Scene, str, Callable[[], None]]) -> None:
    scene, name, mounts = mounted
    parts = Parts(False, True, True)

    def settled(before: Fingerprint, restored: Fingerprint) -> tuple[bool, bool, list[str]]:
        """Whether the old, the new side is whole, and what is left."""
        with scene.service() as service:
            assert service.sweep()
        after = _seen(scene)
        return not lost(restored, after), not lost(before, after), _left(scene)

    in_child(lambda: _restore(scene, name, parts), mounts=mounts)
    changes = count_changes(lambda: _undo(scene), mounts)
    for number in sample(range(changes), 1, f"mounted undo {changes}"):
        before, restored = in_child(lambda: _restore(scene, name, parts), mounts=mounts)
        assert in_child(lambda: _undo(scene), mounts=mounts, kill_at=number) == KILLED
        old, new, left = in_child(lambda: settled(before, restored), mounts=mounts)  # noqa: B023
        assert (old or new, left) == (True, []), number


@needs_mounts
def test_sentence_35_what_was_kept_is_under_another_mount_now(pg16: EmbeddedServer, tmp_path: Path) -> None:
    """The volume was mounted after the restore: what was kept is out of reach, so undo refuses and touches nothing."""
    made = create_database(pg16)
    scene = scene_for(made, tmp_path).make(reports=10)
    with scene.service() as service:
        name = service.backup().name
    (tmp_path / "volume").mkdir()
    accident(scene)

    def deed() -> tuple[str, list[str]]:
        with scene.service() as service:
            service.restore(name, Parts())
            mount("--bind", tmp_path / "volume", scene.app)
            seen = scene.seen()
            try:
                keeping.undo(service)
            except RestoreRefused as error:
                return str(error), lost(seen, scene.seen())
        return "undone", []

    said, changed = in_child(deed, mounts=lambda: None)
    assert "is not there any more" in said and changed == []
    drop_database(pg16, made.name)
