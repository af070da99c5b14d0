"""A disk gets full in the middle of a restore, an undo or a drill: the application's, or that of BACKUP_DIR.

Nothing is torn by it, and once there is room again the next start leaves nothing over (sentences 16, 19, 31, 34, 38).
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import create_database, drop_database
from tests.operations.aftermath import Way, World, attempt, forget_kept, old_or_new, settle, whole_side
from tests.operations.namespaces import in_child, mount, needs_mounts
from tests.operations.processes import Fault, Operation, command, start
from tests.operations.scene import scene_for
from tests.sampling import sample

_WAYS: tuple[Way, ...] = ("service", "next run")
_WRITES: dict[Operation, int] = {"restore": 28, "undo": 24, "drill": 14}
SAFE = {"RESTORE_SAFETY_BACKUP": "true"}


@pytest.fixture(scope="module")
def world(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = create_database(pg16)
    scene = scene_for(made, tmp_path_factory.mktemp("world")).make(reports=20)
    with scene.service() as service:
        archive = Path(service.backup().archive_path)
    yield World(scene, archive, scene.seen())
    forget_kept(scene)
    drop_database(pg16, made.name)


def _fill(folder: Path) -> Path:
    """Take all the room that is left, to the last byte; the file that has it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError:
                continue
    return filler


def _small_app(world: World, copy: Path) -> None:
    """The application's folder becomes a small disk with the same content."""
    app = world.scene.app
    subprocess.run(["cp", "-a", f"{app}/.", copy], check=True)
    used = int(subprocess.run(["du", "-sk", copy], capture_output=True, text=True, check=True).stdout.split()[0])
    mount("-t", "tmpfs", "-o", f"size={4 * used + 4096}k,mode=755", "none", app)
    subprocess.run(["cp", "-a", f"{copy}/.", app], check=True)


def _survives(world: World, root: Path, operation: Operation, write: int, disk: Path, way: Way) -> str:
    """What the operation said on stderr, and which side is up then; AssertionError if anything is torn or left."""
    case = attempt(world, root, operation, **SAFE)
    running = start(case.scene, *command(operation, case.name), fault=Fault("wait", write, "after"))
    filler = _fill(disk) if running.await_fault() else None
    running.go_on()
    code = running.end()
    said = (running.place / "err").read_text()
    assert code in (0, 1) and "Traceback" not in said, said
    if filler is not None:
        filler.unlink()
    settle(case.scene, operation, way)
    side = whole_side(case)
    assert old_or_new(case) == side
    assert code != 0 or operation == "drill" or side == "new"
    return side


@needs_mounts
@pytest.mark.parametrize("which", ["application", "backups"])
def test_a_disk_gets_full_at_a_write(world: World, tmp_path: Path, which: str) -> None:
    cases = [(operation, write) for operation, count in _WRITES.items() for write in range(count)]
    ways = itertools.cycle(_WAYS)
    (tmp_path / "copy").mkdir()
    (tmp_path / "disk").mkdir()

    def mounts() -> None:
        _small_app(world, tmp_path / "copy")
        mount("-t", "tmpfs", "-o", "size=32m", "none", tmp_path / "disk")

    def deed_of(operation: Operation, write: int, way: Way) -> Callable[[], str]:
        disk = world.scene.app if which == "application" else tmp_path / "disk"
        return lambda: _survives(world, tmp_path / "disk" / "root", operation, write, disk, way)

    for operation, write in sample(cases, 2, f"full {which}"):
        assert in_child(deed_of(operation, write, next(ways)), mounts=mounts) in ("old", "new")
