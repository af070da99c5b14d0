"""What must hold after a death or an accident in the middle of a restore, an undo or a drill, and the next start."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest

from resurgam import keeping
from resurgam.demo.proof import Fingerprint
from resurgam.errors import BusyError, RestoreRefused
from resurgam.operations.restore import Parts, Wishes
from tests.operations.processes import Operation
from tests.operations.scene import TREES, Scene, lost
from tests.operations.undoing import accident

Way = Literal["service", "next run"]


@dataclass(frozen=True, slots=True)
class World:
    """An application, the archive of it, and what that gives back. Every attempt has backups and a state of its own."""

    scene: Scene
    archive: Path
    restored: Fingerprint

    @property
    def name(self) -> str:
        return self.archive.name.removesuffix(".tar.gz")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Before an operation: what is there, and what it would make of that."""

    scene: Scene
    name: str
    operation: Operation
    old: Fingerprint
    new: Fingerprint


def attempt(world: World, root: Path, operation: Operation, **more: str) -> Attempt:
    """An accident in the application; for an undo also the restore that is to be undone."""
    root.mkdir()
    scene = replace(world.scene, root=root, app_at=world.scene.app, more=more)
    scene.backups.mkdir()
    shutil.copy(world.archive, scene.backups)
    forget_kept(scene)
    old = accident(scene)
    if operation != "undo":
        return Attempt(scene, world.name, operation, old, world.restored if operation == "restore" else old)
    with scene.service() as service:
        service.restore(world.name, Parts(), Wishes(safety=False))
    return Attempt(scene, world.name, operation, scene.seen(), old)


def forget_kept(scene: Scene) -> None:
    """Remove what earlier attempts kept, as a user may."""
    scene.drop_previous()
    for path in kept_paths(scene):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def kept_paths(scene: Scene) -> list[Path]:
    places = (scene.app, *(scene.app / tree for tree in TREES), scene.app / "backend")
    return [
        path for place in places if place.is_dir() for path in place.iterdir() if path.name.startswith(".resurgam-")
    ]


def settle(scene: Scene, operation: Operation, way: Way) -> None:
    """The next start, unaided. The server may need a moment to notice that a client is dead."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with scene.service() as service:
                if way == "service":
                    if service.sweep():
                        return
                else:
                    service.drill() if operation == "drill" else service.backup()
                    return
        except BusyError:
            pass
        assert time.monotonic() < deadline, "a dead run still excludes others"
        time.sleep(0.05)


def old_or_new(made: Attempt, *, crashed: bool = False) -> Literal["old", "new"]:
    """Which of them is up, whole, with no left-overs; and that undo works from there, or says that it can't.

    `crashed`: the server did, and has lost the counts that tell whether what is kept was written to.
    """
    scene = made.scene
    side = whole_side(made)
    nothing_left(scene)
    with scene.service() as service:
        # The latest can be taken back, whichever side is up; what did nothing leaves nothing to undo.
        if made.operation == "undo" or (made.operation == "restore" and side == "new"):
            if crashed and keeping.plan_undo(service).changes:
                with pytest.raises(RestoreRefused, match="counts were reset"):
                    keeping.undo(service)
            keeping.undo(service, accept_changes=crashed)
            other = made.new if side == "old" else made.old
            assert lost(other, scene.seen()) == []
        else:
            assert (scene.databases(), kept_paths(scene)) == (set(), [])
            with pytest.raises(RestoreRefused, match="nothing to undo"):
                keeping.undo(service)
    nothing_left(scene)
    return side


def whole_side(made: Attempt) -> Literal["old", "new"]:
    after = made.scene.seen()
    to_old, to_new = lost(made.old, after), lost(made.new, after)
    assert not to_old or not to_new, f"neither whole: from the old {to_old[:4]}, from the new {to_new[:4]}"
    return "new" if not to_new else "old"


def nothing_left(scene: Scene) -> None:
    """No scratch, staging or partial file; no open journal, drill or job; every archive that is there is whole."""
    assert scene.leftovers() == []
    assert [name for name in scene.databases() if "_drill_" in name] == []
    assert scene.administer("SELECT rolname FROM pg_roles WHERE rolname LIKE '%\\_drill\\_%'") == []
    with scene.service() as service:
        assert service.state.open_journals() == ()
        assert service.state.drills.dead() == ()
        assert [job.id for job in service.state.jobs.latest(50) if job.outcome is None] == []
        service.verify_all()
