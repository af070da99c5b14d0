"""Undo: what a restore replaced comes back, whole, in seconds, and what it restored is kept.

The numbers are those of docs/ordering.md.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resurgam import keeping
from resurgam.catalog.state import State
from resurgam.demo.proof import Fingerprint
from resurgam.errors import BusyError, RestoreFailed, RestoreRefused
from resurgam.operations import undo as undo_module
from resurgam.operations.restore import Parts
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import create_database, drop_database
from tests.operations.namespaces import KILLED, count_changes, in_child
from tests.operations.scene import Scene, lost, scene_for
from tests.operations.undoing import accident
from tests.sampling import sample


@pytest.fixture(scope="module")
def world(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, str]]:
    """An application and the name of its backup."""
    made = create_database(pg16)
    scene = scene_for(made, tmp_path_factory.mktemp("world")).make(reports=20)
    with scene.service() as service:
        name = service.backup().name
    yield scene, name
    scene.drop_previous()
    drop_database(pg16, made.name)


def _restored(scene: Scene, name: str, parts: Parts = Parts()) -> tuple[Fingerprint, Fingerprint]:  # noqa: B008
    """The application before and after a restore."""
    scene.drop_previous()
    before = accident(scene)
    with scene.service() as service:
        service.restore(name, parts)
    return before, scene.seen()


@pytest.mark.parametrize("parts", [Parts(), Parts(True, False, False), Parts(False, True, True)], ids=repr)
def test_sentence_34_an_undo_brings_everything_back_and_a_second_one_goes_forward(
    world: tuple[Scene, str], parts: Parts
) -> None:
    scene, name = world
    before, restored = _restored(scene, name, parts)
    assert lost(before, restored)
    with scene.service() as service:
        started = time.monotonic()
        undone = keeping.undo(service)
        assert time.monotonic() - started < 5
        assert lost(before, scene.seen()) == []
        if parts.database:
            assert undone.kept_database and "_undone_" in undone.kept_database
            assert undone.kept_database in scene.databases()
        assert keeping.undo(service).plan.to_json()["is_redo"]
        assert lost(restored, scene.seen()) == []
        keeping.undo(service)
        assert lost(before, scene.seen()) == []
    assert scene.leftovers() == []


def test_where_there_was_nothing_before_an_undo_leaves_nothing(world: tuple[Scene, str]) -> None:
    scene, name = world
    with scene.service() as service:
        _, restored = _restored(scene, name)
        scene.administer(f'DROP DATABASE "{scene.database}" WITH (FORCE)')
        (scene.app / "docker-compose.yml").unlink()
        (scene.app / "uploads").rename(scene.root / "elsewhere")
        service.restore(name, Parts())
        keeping.undo(service)
        assert scene.administer(f"SELECT 1 FROM pg_database WHERE datname = '{scene.database}'") == []
        assert not (scene.app / "docker-compose.yml").exists()
        assert not (scene.app / "uploads").exists()
        keeping.undo(service)
    assert lost(restored, scene.seen()) == []
    assert scene.leftovers() == []


def test_sentence_35_it_goes_from_the_newest(world: tuple[Scene, str]) -> None:
    scene, name = world
    first, second = _restored(scene, name)
    with scene.service() as service:
        expected = keeping.plan_undo(service).undoes.restore_id
        before = accident(scene)
        service.restore(name, Parts())
        with pytest.raises(RestoreRefused, match="latest goes first"):
            keeping.undo(service, expected)
        keeping.undo(service)
    assert lost(before, scene.seen()) == []
    assert lost(second, scene.seen())
    assert lost(first, scene.seen()) or first == before


def test_sentence_35_nothing_to_undo(pg16: EmbeddedServer, tmp_path: Path) -> None:
    made = create_database(pg16)
    with scene_for(made, tmp_path).service() as service, pytest.raises(RestoreRefused, match="nothing to undo"):
        service.folder.prepare()
        keeping.undo(service)
    drop_database(pg16, made.name)


def test_sentence_35_what_was_dropped_or_changed_meanwhile_refuses_it(world: tuple[Scene, str]) -> None:
    scene, name = world
    _, restored = _restored(scene, name)
    with scene.service() as service:
        plan = keeping.plan_undo(service)
        assert plan.database is not None and plan.database.brings_back is not None
        kept = plan.database.brings_back
        with psycopg.connect(scene.server.dsn(kept), autocommit=True) as session:
            session.execute("CREATE TABLE written_after_the_swap (id int)")
        with pytest.raises(RestoreRefused, match="somebody wrote to it"):
            keeping.undo(service)
        assert lost(restored, scene.seen()) == []
        keeping.undo(service, accept_changes=True)
        assert scene.execute("SELECT to_regclass('written_after_the_swap') IS NOT NULL") == [(True,)]
        scene.drop_previous()
        now = scene.seen()
        with pytest.raises(RestoreRefused, match="is not there any more"):
            keeping.undo(service)
    assert lost(now, scene.seen()) == []


def test_another_run_is_in_its_way(world: tuple[Scene, str]) -> None:
    scene, name = world
    _restored(scene, name)
    with scene.service() as service, service.folder.lock(), pytest.raises(BusyError):
        keeping.undo(service)


def test_sessions_are_ended_and_the_outage_is_short(world: tuple[Scene, str]) -> None:
    scene, name = world
    _restored(scene, name)
    stop = threading.Event()
    failed: list[float] = []

    def hammer() -> None:
        while not stop.is_set():
            try:
                with psycopg.connect(scene.dsn, autocommit=True) as session:
                    while not stop.is_set():
                        session.execute("SELECT count(*) FROM public.reports")
            except psycopg.OperationalError:
                failed.append(time.monotonic())

    threads = [threading.Thread(target=hammer) for _ in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    with scene.service() as service:
        result = keeping.undo(service)
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed
    assert max(failed) - min(failed) < 2
    assert (result.offline, result.seconds) < (1, 5)


def _undo(scene: Scene) -> Callable[[], None]:
    def deed() -> None:
        with scene.service() as service:
            keeping.undo(service)

    return deed


def _settled(scene: Scene) -> None:
    """The next start. The server may need a moment to notice the death."""
    deadline = time.monotonic() + 10
    while True:
        with suppress(BusyError), scene.service() as service:
            service.backup()
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _at_step(deed: Callable[[], None], number: int, after: bool) -> Callable[[], int]:
    """Killed at the journal's step of that number, before or after it is written; else the count of steps."""

    def killed() -> int:
        count = 0
        real = State.journal_step

        def step(self: State, restore_id: str, what: str, data: Any = None) -> None:
            nonlocal count
            if count == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, restore_id, what, data)
            if count == number and after:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        State.journal_step = step  # type: ignore[assignment, method-assign]
        deed()
        return count

    return killed


def _old_or_new(scene: Scene, old: Fingerprint, new: Fingerprint) -> str:
    _settled(scene)
    after = scene.seen()
    to_old, to_new = lost(old, after), lost(new, after)
    assert not to_old or not to_new, f"neither whole: from the old {to_old[:4]}, from the new {to_new[:4]}"
    assert scene.leftovers() == []
    return "new" if not to_new else "old"


def test_sentence_34_an_undo_killed_at_every_step_of_its_journal(world: tuple[Scene, str]) -> None:
    scene, name = world
    _restored(scene, name)
    steps = in_child(_at_step(_undo(scene), -1, False))
    assert steps >= 10
    seen = set()
    cases = sample([(n, a) for n in range(steps - 1) for a in (False, True)], 4, "undo steps")
    for number, after in cases:
        before, restored = _restored(scene, name)
        assert in_child(_at_step(_undo(scene), number, after)) == KILLED
        seen.add(_old_or_new(scene, restored, before))
        # Whichever side is up, the other can still be had.
        with scene.service() as service:
            keeping.undo(service)
        _old_or_new(scene, restored, before)
    before, restored = _restored(scene, name)
    assert in_child(_at_step(_undo(scene), steps - 1, True)) == KILLED
    assert _old_or_new(scene, restored, before) == "new"
    assert "old" in seen


def test_sentence_34_an_undo_killed_at_any_change_of_a_file(world: tuple[Scene, str]) -> None:
    scene, name = world
    parts = Parts(False, True, True)
    _restored(scene, name, parts)
    changes = count_changes(_undo(scene))
    for number in sample(range(changes), 5, "undo changes"):
        before, restored = _restored(scene, name, parts)
        assert in_child(_undo(scene), kill_at=number) == KILLED
        _old_or_new(scene, restored, before)


def test_an_undo_that_fails_on_its_way_leaves_everything_as_it_was(
    world: tuple[Scene, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, name = world
    before, restored = _restored(scene, name)

    def refused(*arguments: Any) -> float:
        raise RestoreFailed("The server said no.")

    monkeypatch.setattr(undo_module, "swap_databases", refused)
    with scene.service() as service:
        with pytest.raises(RestoreFailed, match="said no"):
            keeping.undo(service)
        assert lost(restored, scene.seen()) == []
        monkeypatch.undo()
        keeping.undo(service)
    assert lost(before, scene.seen()) == []
    assert scene.leftovers() == []


def test_sentence_34_what_the_application_wrote_since_is_kept(world: tuple[Scene, str]) -> None:
    scene, name = world
    before, _ = _restored(scene, name)
    scene.execute("CREATE TABLE since (id int)")
    (scene.app / "uploads/since.txt").write_text("since")
    with scene.service() as service:
        result = keeping.undo(service)
    assert lost(before, scene.seen()) == []
    with psycopg.connect(scene.server.dsn(str(result.kept_database))) as session:
        session.execute("SELECT FROM since")
    kept = next(one.previous for one in result.kept if one.target.name == "uploads")
    assert kept is not None and (kept / "since.txt").read_text() == "since"
