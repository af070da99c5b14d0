"""What goes and what stays, in both places; the copies; and that a bad run costs nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from resurgam import readiness
from resurgam.operations.restore import Parts
from tests.clusters import Database
from tests.operations.namespaces import in_child, mount, needs_mounts
from tests.operations.scene import Scene, scene_for

_DAY = 86400


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    more: dict[str, Any] = {"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": str(tmp_path / "remote")}
    made = scene_for(database, tmp_path, BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none", **more)
    made.app.mkdir()
    made.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id")
    with made.service() as service:
        list(readiness.set_up(service))
    return made


def _remote(scene: Scene) -> list[str]:
    return sorted(path.name for path in (scene.root / "remote").glob("*.tar.gz"))


def test_the_oldest_go_beyond_the_maximum(scene: Scene) -> None:
    with scene.service(MAX_BACKUPS="2", REMOTE_MAX_BACKUPS="3") as service:
        names = [f"{service.backup().name}.tar.gz" for _ in range(4)]
    assert scene.archives() == names[-2:]
    assert _remote(scene) == names[-3:]


def test_age_deletes_only_where_the_clocks_agree(scene: Scene) -> None:
    """The server's clock says otherwise: ours is ahead by a year, and nothing goes."""
    with scene.service(BACKUP_RETENTION_DAYS="7") as service:
        first = service.backup().name
        scene.clock.ahead += 365 * _DAY
        result = service.backup()
        assert any("clocks" in warning for warning in result.warnings)
        assert len(scene.archives()) == 2
        plan = service.prune(dry_run=True).to_json()
        reasons = [one["reason"] for one in plan["plan"] if one["backup_name"] == first]
        assert len(reasons) == 2 and all("clocks disagree" in reason for reason in reasons)
        service.prune()
        assert len(scene.archives()) == 2
    with scene.service(MAX_BACKUPS="1") as service:  # a count needs no clock
        service.prune()
    assert scene.archives() == [f"{result.name}.tar.gz"]


def test_prune_makes_room_while_the_server_is_down(scene: Scene) -> None:
    with scene.service() as service:
        names = [service.backup().name for _ in range(3)]
    with scene.service(MAX_BACKUPS="1", DB_PORT="1") as service:
        service.prune()
    assert scene.archives() == [f"{names[-1]}.tar.gz"]


def test_the_newest_good_one_stays_even_when_newer_ones_are_damaged(scene: Scene) -> None:
    with scene.service() as service:
        names = [service.backup().name for _ in range(3)]
        for name in names[1:]:
            (scene.backups / f"{name}.tar.gz").write_bytes(b"damaged")
            (scene.root / f"remote/{name}.tar.gz").write_bytes(b"damaged")
    scene.clock.ahead += 400 * _DAY
    with scene.service(MAX_BACKUPS="1", BACKUP_RETENTION_DAYS="1") as service:
        service.prune()
    assert f"{names[0]}.tar.gz" in scene.archives() and f"{names[0]}.tar.gz" in _remote(scene)


def test_pinned_ones_stay(scene: Scene) -> None:
    with scene.service(MAX_BACKUPS="1") as service:
        pinned = service.backup().name
        service.pin(pinned)
        for _ in range(3):
            last = service.backup().name
    assert scene.archives() == sorted([f"{pinned}.tar.gz", f"{last}.tar.gz"])


def test_other_applications_backups_in_the_same_folder_stay(scene: Scene) -> None:
    with scene.service(APP_NAME="cardiology") as service:
        other = f"{service.backup().name}.tar.gz"
    scene.clock.ahead += 2
    with scene.service(MAX_BACKUPS="1") as service:
        service.backup()
        last = f"{service.backup().name}.tar.gz"
    assert scene.archives() == sorted([other, last])


# Copies


def test_an_unmounted_disk_makes_the_run_degraded_and_the_next_one_catches_up(scene: Scene) -> None:
    marker = scene.root / "remote/.resurgam-remote"
    marker.unlink()
    with scene.service() as service:
        first = service.backup()
        assert first.failures and "marker" in first.failures[0]
        assert len(first.failures) == len(set(first.failures))
        assert service.state.jobs.latest(1)[0].outcome == "degraded"
        assert list((scene.root / "remote").iterdir()) == []
        assert " ERROR " in scene.log_lines()[-1]
        marker.write_text("")
        second = service.backup()
        assert second.failures == () and sorted(second.copied) == [first.name, second.name]
    assert _remote(scene) == scene.archives()


def test_a_damaged_copy_is_written_again(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        path = scene.root / f"remote/{name}.tar.gz"
        path.write_bytes(path.read_bytes()[:-50])
        result = service.backup()
        assert name in result.copied
        assert path.read_bytes() == (scene.backups / path.name).read_bytes()


def test_list_verify_and_restore_find_the_copy(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        (scene.backups / f"{name}.tar.gz").unlink()
        (entry,) = service.list_backups()
        assert entry["locations"] == ["remote"]
        service.verify(name)
        scene.execute("TRUNCATE t")
        service.restore(name, Parts(True, False, False))
    assert scene.execute("SELECT count(*) FROM t") == [(100,)]


def test_the_good_copy_is_used_where_the_local_one_is_damaged(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        path = scene.backups / f"{name}.tar.gz"
        path.write_bytes(path.read_bytes()[:-1])
        assert service.verify(name).path == str(scene.root / f"remote/{name}.tar.gz")


@needs_mounts
def test_a_full_remote_disk_makes_the_run_degraded_and_leaves_nothing_there(scene: Scene) -> None:
    (scene.app / "uploads").mkdir()
    (scene.app / "uploads/noise").write_bytes(os.urandom(1 << 20))

    def mounts() -> None:
        mount("-t", "tmpfs", "-o", "size=300k", "none", scene.root / "remote")
        (scene.root / "remote/.resurgam-remote").write_text("")

    def deed() -> tuple[tuple[str, ...], list[str], str]:
        with scene.service(BACKUP_FILE_TREES="uploads") as service:
            result = service.backup()
            service.verify(result.name)
            there = sorted(path.name for path in (scene.root / "remote").iterdir())
            return result.failures, there, str(service.state.jobs.latest(2)[1].outcome)

    failures, there, outcome = in_child(deed, mounts=mounts)
    assert "space" in failures[0] and outcome == "degraded"
    assert there == [".resurgam-remote"]


def test_the_local_folder_is_lost_and_the_copies_carry_on(scene: Scene) -> None:
    with scene.service() as service:
        names = [service.backup().name for _ in range(2)]
    shutil.rmtree(scene.backups)
    with scene.service() as service:
        assert [one["backup_name"] for one in service.list_backups()] == names[::-1]
        assert service.backup().metadata["sequence"] == 3
