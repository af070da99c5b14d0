"""Undo: what a restore replaced comes back, whole, in seconds, and what it restored is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from resurgam.demo.cluster import EmbeddedServer
from resurgam.operations.restore import Parts
from tests.clusters import create_database, drop_database
from tests.operations.scene import Scene, lost, scene_for
from tests.operations.undoing import accident, undo


@pytest.fixture(scope="module")
def world(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, str]]:
    """An application and the name of its backup."""
    made = create_database(pg16)
    scene = scene_for(made, tmp_path_factory.mktemp("world")).make(reports=20)
    with scene.service() as service:
        name = service.backup().name
    yield scene, name
    for kept in scene.databases():
        drop_database(pg16, kept)
    drop_database(pg16, made.name)


@pytest.mark.parametrize("parts", [Parts(), Parts(True, False, False), Parts(False, True, True)], ids=repr)
def test_an_undo_brings_everything_back_and_a_second_one_goes_forward(world: tuple[Scene, str], parts: Parts) -> None:
    scene, name = world
    before = accident(scene)
    with scene.service() as service:
        service.restore(name, parts)
        restored = scene.seen()
        assert lost(before, restored)
        started = time.monotonic()
        undone = undo(service)
        assert time.monotonic() - started < 5
        assert lost(before, scene.seen()) == []
        assert scene.leftovers() == []
        if parts.database:
            assert undone.kept_database and "_undone_" in undone.kept_database
            assert scene.databases() >= {undone.kept_database}
        undo(service)
        assert lost(restored, scene.seen()) == []
        undo(service)
        assert lost(before, scene.seen()) == []
    assert scene.leftovers() == []
