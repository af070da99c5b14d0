"""kill -9 of the real process, from the command line and as a service's worker, at every write and at any moment.

The application is then the old or the new one whole; the next start finishes or puts back what was begun, unaided
(sentences 19, 31, 32 and 34 of docs/ordering.md), and nothing is left over.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import create_database, drop_database
from tests.operations.aftermath import Attempt, Way, World, attempt, forget_kept, old_or_new, settle
from tests.operations.processes import Fault, Operation, When, command, killed_after, start, worker
from tests.operations.scene import scene_for
from tests.sampling import randomness, sample

Face = Literal["command", "worker"]
OPERATIONS: tuple[Operation, ...] = ("restore", "undo", "drill")
FACES: tuple[Face, ...] = ("command", "worker")
MOMENTS: tuple[When, ...] = ("before", "after")
WAYS: tuple[Way, ...] = ("service", "next run")
PIECES = 8
# A safety backup is cut as well.
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


def _run(made: Attempt, face: Face, fault: Fault | None, after: float | None = None) -> tuple[int, int]:
    """Its exit code and the writes it made; killed after so many seconds, where no fault says when."""
    scene = made.scene
    if face == "command":
        started = start(scene, *command(made.operation, made.name), fault=fault)
        killed = after is not None and killed_after(started, after)
        return (-signal.SIGKILL if killed else started.end()), started.writes()
    with scene.service() as service:
        started = worker(scene, service, made.operation, made.name, fault)
        killed = after is not None and killed_after(started, after)
        return (-signal.SIGKILL if killed else started.end()), started.writes()


@pytest.fixture(scope="module")
def usual(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[Operation, tuple[int, float]]:
    """How many writes each operation makes when nothing happens to it, and how many seconds it takes."""
    found: dict[Operation, tuple[int, float]] = {}
    for operation in OPERATIONS:
        case = attempt(world, tmp_path_factory.mktemp("usual") / operation, operation, **SAFE)
        began = time.monotonic()
        code, writes = _run(case, "command", Fault())
        assert code == 0 and writes >= {"restore": 20, "undo": 15, "drill": 5}[operation]
        found[operation] = writes, time.monotonic() - began
    return found


def test_sentences_19_31_32_and_34_killed_at_every_write_of_the_state(
    world: World, usual: dict[Operation, tuple[int, float]], tmp_path: Path
) -> None:
    cases = [
        (operation, face, number, when)
        for operation, face in itertools.product(OPERATIONS, FACES)
        for number in range(usual[operation][0])
        for when in MOMENTS
    ]
    ways = itertools.cycle(WAYS)
    seen = set()
    for number, (operation, face, write, when) in enumerate(sample(cases, 7, "kill writes")):
        case = attempt(world, tmp_path / str(number), operation, **SAFE)
        # Progress is told every second: a quicker run, or a worker, may not have a last write.
        code, _ = _run(case, face, Fault("kill", write, when))
        assert code in (-signal.SIGKILL, 0), (operation, face, write, when)
        settle(case.scene, operation, next(ways))
        seen.add((operation, old_or_new(case)))
    assert len(seen) >= 2


@pytest.mark.parametrize("piece", range(PIECES))
def test_sentences_19_31_32_and_34_killed_at_random_moments(
    world: World, usual: dict[Operation, tuple[int, float]], tmp_path: Path, piece: int
) -> None:
    """200 of them in `make soak`, in pieces that can be run one by one."""
    rng = randomness("kill moments")
    combinations = list(itertools.product(OPERATIONS, FACES, WAYS))
    cases = [(*combinations[number % len(combinations)], rng.uniform(0.1, 1.0)) for number in range(200)]
    for number, (operation, face, way, share) in enumerate(sample(cases, PIECES, "kill moments")[piece::PIECES]):
        case = attempt(world, tmp_path / str(number), operation, **SAFE)
        _run(case, face, None, after=share * usual[operation][1])
        settle(case.scene, operation, way)
        old_or_new(case)
