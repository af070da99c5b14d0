"""The server crashes, sessions are ended, a disk fills up, in the middle of a restore, an undo or a drill.

A process waits at one of its writes to the state, the accident happens, and it goes on. Whatever it then says, the
application is the old or the new one whole, and the next start leaves nothing over.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import create_database
from tests.operations.aftermath import Way, World, attempt, old_or_new, settle, whole_side
from tests.operations.processes import Fault, Operation, command, start
from tests.operations.scene import Scene, scene_for
from tests.sampling import sample

OPERATIONS: tuple[Operation, ...] = ("restore", "undo", "drill")
WAYS: tuple[Way, ...] = ("service", "next run")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On a server of its own, to be crashed, that makes a commit durable as late as PostgreSQL allows."""
    lazy = {"synchronous_commit": "off", "wal_writer_delay": "10s", "autovacuum": "off"}
    with EmbeddedServer(major=16, fsync=False, settings=lazy) as server:
        made = create_database(server)
        scene = scene_for(made, tmp_path_factory.mktemp("world")).make(reports=20)
        with scene.service() as service:
            archive = Path(service.backup().archive_path)
        scene.administer("CHECKPOINT")
        yield World(scene, archive, scene.seen())


@pytest.fixture(scope="module")
def writes(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[Operation, int]:
    """How many writes to the state each operation makes."""
    found: dict[Operation, int] = {}
    for operation in OPERATIONS:
        case = attempt(world, tmp_path_factory.mktemp("count") / operation, operation)
        counted = start(case.scene, *command(operation, case.name), fault=Fault())
        assert counted.end() == 0
        found[operation] = counted.writes()
    return found


def crash(scene: Scene) -> None:
    """What `pg_ctl restart -m immediate` does to everybody: one backend is killed, and the server starts anew."""
    # What the application had before the operation has long been durable.
    with psycopg.connect(scene.admin, autocommit=True) as session:
        os.kill(session.info.backend_pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        with suppress(psycopg.OperationalError):
            while time.monotonic() < deadline:
                session.execute("SELECT 1")
    while True:
        with suppress(psycopg.OperationalError):
            scene.administer("SELECT 1")
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end_sessions(scene: Scene) -> None:
    """As an administrator who wants everybody out."""
    scene.administer(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )


@pytest.mark.parametrize("accident", [crash, end_sessions])
def test_sentences_16_19_31_and_34_whatever_happens_to_the_server(
    world: World, writes: dict[Operation, int], tmp_path: Path, accident: Callable[[Scene], None]
) -> None:
    cases = [(operation, number) for operation in OPERATIONS for number in range(writes[operation])]
    ways = itertools.cycle(WAYS)
    for number, (operation, write) in enumerate(sample(cases, 3, f"{accident.__name__} writes")):
        case = attempt(world, tmp_path / str(number), operation)
        world.scene.administer("CHECKPOINT")
        running = start(case.scene, *command(operation, case.name), fault=Fault("wait", write, "after"))
        if running.await_fault():
            accident(case.scene)
            running.go_on()
        code = running.end()
        assert code in (0, 1), (operation, write, (running.place / "err").read_text())
        side = whole_side(case)
        assert operation == "drill" or side == ("new" if code == 0 else "old"), (operation, write)
        settle(case.scene, operation, next(ways))
        assert old_or_new(case, crashed=accident is crash) == side
