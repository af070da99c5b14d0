"""What restores kept goes when its time is over, and never what changed since.

The numbers are those of docs/ordering.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from resurgam import keeping
from resurgam.errors import RestoreRefused
from resurgam.operations.kept import kept_sides
from resurgam.operations.restore import Parts, RestoreResult
from resurgam.operations.sweep_kept import sweep_kept
from resurgam.service import Service
from tests.clusters import Database
from tests.operations.backups import small_scene
from tests.operations.scene import Scene

KEEP = 72 * 3600.0


@pytest.fixture
def restored(database: Database, tmp_path: Path) -> Iterator[tuple[Scene, Service, RestoreResult]]:
    scene = small_scene(database, tmp_path)
    with scene.service() as service:
        name = service.backup().name
        (scene.app / "docker-compose.yml").write_text("changed\n")
        (scene.app / "uploads/2025/b.txt").write_text("b")
        yield scene, service, service.restore(name, Parts())


def _sweep(service: Service, hours: float = 73, keep: float | None = KEEP) -> list[str]:
    now = service.clock.now() + timedelta(hours=hours)
    with service.folder.lock():
        return list(sweep_kept(service.state, service.server, service.folder.path, keep, now))


def _places(scene: Scene, result: RestoreResult) -> set[str]:
    """What is kept and still there."""
    paths = {str(kept.previous) for kept in result.kept if kept.previous and os.path.lexists(kept.previous)}
    return paths | {name for name in scene.databases() if "_previous_" in name}


def test_sentence_37_it_goes_after_its_time_and_not_before(restored: tuple[Scene, Service, RestoreResult]) -> None:
    scene, service, result = restored
    there = _places(scene, result)
    assert len(there) == 4  # the database, two trees, a config file
    sides = kept_sides(service.state, service.folder.path)
    assert {side.place for side in sides} == there
    assert all(side.size for side in sides)
    assert _sweep(service, hours=71) == []
    assert _sweep(service, hours=10_000, keep=None) == []
    assert _places(scene, result) == there
    # Autovacuum may look at what is kept at any time.
    with psycopg.connect(scene.server.dsn(str(result.previous_database)), autocommit=True) as session:
        session.execute("VACUUM ANALYZE")
        session.execute("SELECT count(*) FROM reports")
    assert len(_sweep(service)) == 4
    assert _places(scene, result) == set()
    assert kept_sides(service.state, service.folder.path) == ()
    assert _sweep(service) == []
    with pytest.raises(RestoreRefused, match="its time was over"):
        keeping.undo(service)
    assert scene.leftovers() == []


@pytest.mark.parametrize(
    "writing",
    [
        "INSERT INTO users VALUES (1)",
        "UPDATE reports SET body = 'x' WHERE id = 1",
        "DELETE FROM reports WHERE id = 1",
        "TRUNCATE reports",
        "CREATE TABLE mine (id int)",
        "DROP TABLE users",
        "COMMENT ON TABLE users IS 'look'",
        "SELECT lo_create(0)",
    ],
)
def test_sentences_36_and_37_a_database_that_was_written_to_stays(
    restored: tuple[Scene, Service, RestoreResult], writing: str
) -> None:
    scene, service, result = restored
    with psycopg.connect(scene.server.dsn(str(result.previous_database)), autocommit=True) as session:
        session.execute(writing.encode())
    told = _sweep(service)
    assert [line for line in told if "somebody wrote to it" in line]
    assert _sweep(service) == []  # told once
    assert result.previous_database in scene.databases()
    (side,) = kept_sides(service.state, service.folder.path)
    assert (side.place, side.refused) == (result.previous_database, "somebody wrote to it")
    # Once it was removed by hand, nothing is left to tell of.
    scene.drop_previous()
    assert _sweep(service) == []
    assert kept_sides(service.state, service.folder.path) == ()


def test_who_reads_it_keeps_it_for_now(restored: tuple[Scene, Service, RestoreResult]) -> None:
    scene, service, result = restored
    with psycopg.connect(scene.server.dsn(str(result.previous_database))) as session:
        session.execute("SELECT 1")
        assert [line for line in _sweep(service) if "somebody uses it" in line]
        session.execute("INSERT INTO users VALUES (1)")
    assert [line for line in _sweep(service) if "wrote to it" in line]


def test_sentence_37_counts_that_were_reset_tell_nothing(restored: tuple[Scene, Service, RestoreResult]) -> None:
    scene, service, result = restored
    with psycopg.connect(scene.server.dsn(str(result.previous_database)), autocommit=True) as session:
        session.execute("SELECT pg_stat_reset()")
    assert [line for line in _sweep(service) if "nobody can tell" in line]


@pytest.mark.parametrize("change", ["write", "add", "remove", "chmod"])
def test_sentences_36_and_37_a_folder_that_changed_stays(
    restored: tuple[Scene, Service, RestoreResult], change: str
) -> None:
    scene, service, result = restored
    kept = next(one.previous for one in result.kept if one.target.name == "uploads")
    assert kept is not None
    if change == "write":  # as whoever had it open at the swap does
        (kept / "2025/b.txt").write_text("c")
    elif change == "add":
        (kept / "2025/c.txt").write_text("c")
    elif change == "remove":
        shutil.rmtree(kept / "2025")
    else:
        (kept / "2025").chmod(0o711)
    assert [line for line in _sweep(service) if "its files were changed" in line]
    assert _places(scene, result) == {str(kept)}


def test_sentence_37_a_folder_whose_removal_was_interrupted_goes_the_next_time(
    restored: tuple[Scene, Service, RestoreResult],
) -> None:
    scene, service, result = restored
    kept = next(one.previous for one in result.kept if one.target.name == "uploads")
    service.state.journal_note(
        kept_sides(service.state, service.folder.path)[0].restore_id, "sweeping", {"place": str(kept)}
    )
    shutil.rmtree(str(kept) + "/2025")
    with pytest.raises(RestoreRefused, match="not there any more"):
        keeping.undo(service)
    _sweep(service)
    assert _places(scene, result) == set()


def test_health_shows_what_is_kept_and_the_service_sweeps_it(restored: tuple[Scene, Service, RestoreResult]) -> None:
    scene, service, result = restored
    shown = service.health().to_json()["kept_after_restores"]
    assert {one["place"] for one in shown} == _places(scene, result)
    assert all(one["size_bytes"] and one["until"] for one in shown)
    kept = next(one.previous for one in result.kept if one.target.name == "uploads")
    assert kept is not None
    (kept / "late.txt").write_text("late")
    with service.folder.lock():
        service.keeping().sweep()  # another run is at work
    scene.clock.sleep(73 * 3600)
    name = service.backup().name
    assert _places(scene, result) == {str(kept)}
    (told,) = [line for line in scene.log_lines() if "stays though its time is over" in line]
    assert " WARNING " in told and str(kept) in told
    assert service.keeping().run(service.clock.now()) > service.clock.now()
    assert len([line for line in scene.log_lines() if "stays though" in line]) == 1
    (reason,) = [one for one in service.health().reasons if one.code == "kept_changed"]
    assert str(kept) in reason.message
    shutil.rmtree(kept)
    service.restore(name, Parts(False, False, True))
    assert "kept_changed" not in {one.code for one in service.health().reasons}


def test_kept_for_ever(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    with scene.service(RESTORE_KEEP="none") as service:
        result = service.restore(service.backup().name, Parts())
        scene.clock.sleep(10_000 * 3600)
        service.keeping().sweep()
        assert len(_places(scene, result)) == 3
        assert {one["until"] for one in service.health().to_json()["kept_after_restores"]} == {None}
