"""kill -9 at any point of a backup or a restore: the old side or the new one is whole, and nothing is left over."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from resurgam import keeping
from resurgam.catalog.state import State
from resurgam.demo.proof import Fingerprint
from resurgam.errors import BusyError, DatabaseError, RestoreRefused
from resurgam.operations import recovery, restore
from resurgam.operations.restore import Parts
from resurgam.operations.restore_database import drop_database as drop_half_loaded
from resurgam.postgres import swap
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.service import Service
from resurgam.stopping import Became, Stopped, what_became
from tests.clusters import create_database, drop_database
from tests.operations.namespaces import KILLED, count_changes, in_child
from tests.operations.scene import Scene, lost, scene_for
from tests.sampling import randomness, sample


@pytest.fixture(scope="module")
def world(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, str, Fingerprint]]:
    """An application, the name of its backup, and what that holds; every test wrecks the application first."""
    made = create_database(pg16)
    scene = scene_for(made, tmp_path_factory.mktemp("world")).make(reports=20)
    with scene.service() as service:
        name = service.backup().name
    yield scene, name, scene.seen()
    drop_database(pg16, made.name)


def _settled(scene: Scene) -> Scene:
    """The next start: whatever was begun is finished or undone. The server may need a moment to notice the death."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with scene.service() as service:
                service.backup()
            return scene
        except BusyError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _old_or_new(scene: Scene, old: Fingerprint, new: Fingerprint) -> str:
    after = scene.seen()
    to_old, to_new = lost(old, after), lost(new, after)
    assert not to_old or not to_new, f"neither whole: from the old {to_old[:4]}, from the new {to_new[:4]}"
    assert scene.leftovers() == []
    return "new" if not to_new else "old"


def _accident(scene: Scene) -> Fingerprint:
    """Something that a restore changes everywhere: a table, a tree, a config file."""
    scene.execute("DELETE FROM public.notifications", "CREATE TABLE IF NOT EXISTS after_backup (id int)")
    (scene.app / "docker-compose.yml").write_text(f"{time.monotonic()}\n")
    (scene.app / "uploads/new.txt").write_text("new")
    shutil.rmtree(scene.app / "uploads/odd names", ignore_errors=True)
    return scene.seen()


def _restore(scene: Scene, name: str, parts: Parts = Parts()) -> Callable[[], None]:  # noqa: B008
    def deed() -> None:
        with scene.service() as service:
            service.restore(name, parts)

    return deed


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


def test_a_restore_killed_at_every_step_of_its_journal(world: tuple[Scene, str, Fingerprint]) -> None:
    scene, name, new = world
    _accident(scene)
    steps = in_child(_at_step(_restore(scene, name), -1, False))
    assert steps >= 10
    seen = set()
    for number, after in sample([(n, a) for n in range(steps) for a in (False, True)], 5, "restore steps"):
        old = _accident(scene)
        assert in_child(_at_step(_restore(scene, name), number, after)) == KILLED
        seen.add(_old_or_new(_settled(scene), old, new))
    # The very last step comes after the commit.
    old = _accident(scene)
    assert in_child(_at_step(_restore(scene, name), steps - 1, True)) == KILLED
    assert _old_or_new(_settled(scene), old, new) == "new"
    assert "old" in seen
    scene.drop_previous()


def test_what_was_settled_is_told(world: tuple[Scene, str, Fingerprint]) -> None:
    """By the service in the log, by the next backup and restore as a warning, by an undo that finds nothing else."""
    scene, name, _ = world
    put_back = f"An interrupted restore of {name} was put back; the application's data are as they were before it."

    def dies() -> None:
        _accident(scene)
        assert in_child(_at_step(_restore(scene, name), 2, True)) == KILLED

    dies()
    with scene.service() as service:
        _eventually(service.sweep)
    assert put_back in scene.log_lines()[-1]
    dies()
    with scene.service() as service:
        assert put_back in _eventually(service.backup).warnings
    dies()
    # Everything that earlier restores of this module kept is gone, so that there is nothing else to undo.
    scene.drop_previous()
    with scene.service() as service, pytest.raises(RestoreRefused) as caught:
        _eventually(lambda: keeping.undo(service))
    assert put_back in caught.value.problems and "resurgam list" in caught.value.hint
    dies()
    with scene.service() as service:
        assert put_back in _eventually(lambda: service.restore(name, Parts())).warnings


def _eventually(deed: Callable[[], Any]) -> Any:
    """The server may need a moment to notice a death."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return deed()
        except BusyError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_restore_killed_at_any_change_of_a_file(world: tuple[Scene, str, Fingerprint]) -> None:
    scene, name, new = world
    _accident(scene)
    deed = _restore(scene, name, Parts(False, True, True))
    changes = count_changes(deed)
    for number in sample(range(changes), 7, "restore changes"):
        old = _accident(scene)
        assert in_child(deed, kill_at=number) == KILLED
        _old_or_new(_settled(scene), old, replace(old, files=new.files))


def _kill_after(deed: Callable[[], None], seconds: float) -> bool:
    """Whether it was killed; it may have been quicker."""
    child = os.fork()
    if child == 0:
        deed()
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_restore_killed_at_random_moments(world: tuple[Scene, str, Fingerprint]) -> None:
    scene, name, new = world
    rng = randomness("restore moments")
    started = time.monotonic()
    _restore(scene, name)()
    usual = time.monotonic() - started
    for moment in sample([rng.random() * usual for _ in range(60)], 4, "restore moments"):
        old = _accident(scene)
        _kill_after(_restore(scene, name), moment)
        _old_or_new(_settled(scene), old, new)
    scene.drop_previous()


def test_a_backup_killed_at_any_moment_is_there_whole_or_not_at_all(world: tuple[Scene, str, Fingerprint]) -> None:
    scene, _, _ = world
    rng = randomness("backup moments")
    before = scene.seen()

    def deed() -> None:
        with scene.service() as service:
            service.backup()

    started = time.monotonic()
    deed()
    usual = time.monotonic() - started
    changes = count_changes(deed)
    kills: list[tuple[str, float]] = [("moment", rng.random() * usual) for _ in range(30)]
    kills += [("change", number) for number in range(changes)]
    for kind, where in sample(kills, 6, "backup kills"):
        there = set(scene.archives())
        if kind == "moment":
            _kill_after(deed, where)
        else:
            assert in_child(deed, kill_at=int(where)) == KILLED
        with scene.service() as service:
            listed = service.list_backups()
            assert {one["condition"] for one in listed} == {"good"}
            for published in set(scene.archives()) - there:
                service.verify(published.removesuffix(".tar.gz"))
        _settled(scene)
        assert scene.leftovers() == []
    assert lost(before, scene.seen()) == []
    shown = [one["sequence"] for one in listed]
    assert shown == sorted(shown, reverse=True)


def test_a_killed_restore_of_a_foreign_archive_leaves_no_unpacked_dump(world: tuple[Scene, str, Fingerprint]) -> None:
    scene, name, _ = world
    own = replace(scene, root=scene.root / "foreign", app_at=scene.app)
    (own.root / "plain").mkdir(parents=True)
    own.backups.mkdir()
    archive = scene.backups / f"{name}.tar.gz"
    os.system(
        f"tar xzf {archive} -C {own.root}/plain && tar czf {own.backups}/{name}.tar.gz -C {own.root}/plain {name}"
    )
    before = set(own.backups.iterdir())

    def deed() -> None:

        def die(*arguments: Any, **named: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        vars(restore)["scan_dump"] = die
        with own.service() as service:
            service.restore(name, Parts(True, False, False))

    assert in_child(deed) == KILLED
    new = {path.name for path in set(own.backups.iterdir()) - before}
    assert [found for found in new if "scratch" in found or found.startswith("tmp")] == []


def test_a_database_that_is_still_being_created_for_a_dead_client_goes_too(pg16: EmbeddedServer) -> None:
    """The server goes on creating for a while after a kill; nobody sees the database before it is complete."""
    made = create_database(pg16)
    scene = scene_for(made, Path("/nonexistent"))
    fresh = f"{made.name}_restore_1"
    with psycopg.connect(pg16.dsn(), autocommit=True) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(made.name + "_big")))
    with psycopg.connect(pg16.dsn(made.name + "_big")) as session:
        session.execute("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
    creator = psycopg.connect(pg16.dsn(), autocommit=True)
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
        sql.Identifier(fresh), sql.Identifier(made.name + "_big")
    )
    creator.pgconn.send_query(statement.as_bytes(creator))
    creator.pgconn.finish()
    with scene.service() as service:
        drop_half_loaded(service.server.at("postgres"), fresh)
    time.sleep(0.5)
    assert fresh not in scene.databases()
    drop_database(pg16, made.name)


def test_recovery_waits_for_a_commit_that_is_on_its_way(
    world: tuple[Scene, str, Fingerprint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap's transaction is open in the server while its client is dead: neither side may be taken for granted."""
    scene, name, new = world
    old = _accident(scene)

    class Died(BaseException):
        """In place of a kill, whose timing against the server could not be chosen."""

    held: list[psycopg.Connection[Any]] = []

    def undecided(server: Any, live: str, fresh: str, previous: str, clock: Any) -> float:
        session = psycopg.connect(scene.admin)
        held.append(session)
        scene.administer(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('{live}', '{fresh}')"
        )
        session.execute(f'ALTER DATABASE "{live}" RENAME TO "{previous}"'.encode())
        session.execute(f'ALTER DATABASE "{fresh}" RENAME TO "{live}"'.encode())
        raise Died

    monkeypatch.setattr(restore, "swap_databases", undecided)
    monkeypatch.setattr(restore, "settle_restore", lambda *arguments: None)
    with scene.service() as service, pytest.raises(Died):
        service.restore(name, Parts())
    monkeypatch.undo()
    monkeypatch.setattr(swap, "_DECIDING_SECONDS", 0.01)
    monkeypatch.setattr(swap, "_DECIDING_TRIES", 10)
    with scene.service() as service, pytest.raises(Exception, match="not yet decided"):
        _recover(service)
    held[0].commit()
    held[0].close()
    assert _old_or_new(_settled(scene), old, new) == "new"
    scene.drop_previous()


def _recover(service: Service) -> None:
    from resurgam.operations.recovery import recover_restores

    with service.folder.lock():
        recover_restores(service.state, service.server, service.folder.path)


def test_what_is_stopped_and_can_not_be_settled_does_not_claim_to_be_undone(
    world: tuple[Scene, str, Fingerprint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is not to be had just when it would tell which side is up."""
    scene, name, new = world
    old = _accident(scene)

    def stopped(*arguments: object) -> None:
        raise Stopped("ended by SIGTERM")

    def unreachable(*arguments: object) -> None:
        raise DatabaseError("The server can't be reached.")

    monkeypatch.setattr(restore, "mark_kept", stopped)
    monkeypatch.setattr(recovery, "database_oid", unreachable)
    with scene.service() as service:
        with pytest.raises(DatabaseError):
            service.restore(name, Parts())
        (run,) = [one for one in service.state.jobs.latest(kind="restore") if "be reached" in one.reason]
        assert run.outcome == "failed"
    assert what_became() == Became(f"whether the restore of {name} is complete is not settled yet")
    monkeypatch.undo()
    assert _old_or_new(_settled(scene), old, new) == "new"
    scene.drop_previous()
