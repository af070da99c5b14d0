"""Each thing that can be wrong is found, with a fix, and looking changes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resurgam import readiness
from resurgam.clock import Clock, SystemClock
from resurgam.operations.doctor import Check
from resurgam.service import Service
from tests.cli.commands import Scene, log_in_as, make_scene
from tests.clusters import Database, Role


@pytest.fixture
def scene(tmp_path: Path, database: Database) -> Scene:
    return make_scene(tmp_path, database, reports=5)


class ShiftedClock:
    """The system's clock, some time off."""

    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> datetime:
        return datetime.now(UTC) + self._by

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None: ...


def examine(scene: Scene, **changes: str | None) -> dict[str, list[Check]]:
    return examine_at(scene, SystemClock(), **changes)


def examine_at(scene: Scene, clock: Clock, /, **changes: str | None) -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = {}
    with Service.from_environment(scene.environment(**changes)) as service:
        service.clock = clock
        for check in readiness.doctor(service):
            found.setdefault(check.name, []).append(check)
    return found


def statuses(checks: list[Check]) -> list[str]:
    return [check.status for check in checks]


def test_a_sound_installation_has_no_problem_and_stays_as_it_is(scene: Scene) -> None:
    with Service.from_environment(scene.environment()) as service:
        service.backup()
    before = sorted(scene.folder.rglob("*"))
    found = examine(scene)
    assert [check for checks in found.values() for check in checks if check.status == "problem"] == []
    assert "PostgreSQL 16" in found["database"][0].finding
    assert "superuser" in found["role"][0].finding
    assert statuses(found["last run"]) == ["ok"]
    assert sorted(scene.folder.rglob("*")) == before


def test_nothing_is_created_where_nothing_is(scene: Scene) -> None:
    found = examine(scene, APP_DIR=str(scene.folder / "nowhere"))
    assert statuses(found["backup folder"]) == ["problem"]
    assert found["backup folder"][0].fix.startswith("mkdir -p")
    assert statuses(found["application"]) == ["problem"]
    assert not scene.backups.exists()
    assert not (scene.folder / "nowhere").exists()


def test_a_server_that_is_away_keeps_no_other_check_from_being_made(scene: Scene) -> None:
    found = examine(scene, DB_HOST="nowhere.invalid")
    assert statuses(found["database"]) == ["problem"]
    assert "DB_HOST" in found["database"][0].fix
    assert "application" in found


def test_clients_and_rights_that_are_missing(scene: Scene, owner_role: Role) -> None:
    scene.sql(f"ALTER ROLE {owner_role.name} NOCREATEDB")
    empty = scene.folder / "empty"
    empty.mkdir()
    found = examine(scene, BACKUP_PG_BIN=str(empty), **log_in_as(scene, owner_role))
    assert statuses(found["client tools"]) == ["problem"]
    assert "postgresql-client-16" in found["client tools"][0].fix
    assert statuses(found["role"]) == ["warning"]
    assert f'ALTER ROLE "{owner_role.name}" CREATEDB' in found["role"][0].fix


@pytest.mark.parametrize(("by", "status"), [(5, "warning"), (90, "problem")])
def test_clocks_that_differ(scene: Scene, by: int, status: str) -> None:
    assert statuses(examine_at(scene, ShiftedClock(timedelta(minutes=by)))["clock"]) == [status]


def test_what_restores_left_is_shown_with_its_size_and_how_to_drop_it(scene: Scene) -> None:
    with Service.from_environment(scene.environment()) as service:
        name = service.backup().name
    assert scene.run("restore", name, "--yes").code == 0
    found = examine(scene)
    (kept,) = found["kept databases"]
    assert f'DROP DATABASE "{scene.database.name}_previous_' in kept.fix
    assert " until 20" in kept.finding
    (kept_folder, *_) = found["left-overs"]
    assert ".resurgam-previous-" in kept_folder.finding
    assert " MB" in kept_folder.finding


def pending_restore(scene: Scene) -> None:
    code = (
        "import os, pathlib; from resurgam.catalog.state import State\n"
        "state = State.open(pathlib.Path('backups/state.sqlite'))\n"
        "state.journal_begin('20260101000000', {'backup': 'x', 'database': None})\n"
        "os._exit(9)"
    )
    assert scene.execute([sys.executable, "-c", code], scene.environment()).code == 9


def failed_run(scene: Scene) -> None:
    scene.run("backup", DB_NAME="not_there_db")


def open_to_all(scene: Scene) -> None:
    scene.backups.chmod(0o755)


def damaged_backup(scene: Scene) -> None:
    (scene.backups / "radiology_backup_20250101_000000.tar.gz").write_bytes(b"")


def missing_template_folder(scene: Scene) -> None:
    os.rename(scene.app / "backend" / "templates", scene.folder / "elsewhere")


@pytest.mark.parametrize(
    ("wrong", "name", "told"),
    [
        (pending_restore, "state", "did not end"),
        (failed_run, "last run", "not_there_db"),
        (open_to_all, "backup folder", "mode 755"),
        (damaged_backup, "backups", "is damaged"),
        (missing_template_folder, "tree", "is not there"),
    ],
)
def test_one_thing_wrong(scene: Scene, wrong: Callable[[Scene], None], name: str, told: str) -> None:
    with Service.from_environment(scene.environment()) as service:
        service.backup()
    wrong(scene)
    (check,) = (check for check in examine(scene)[name] if check.status == "warning")
    assert told in check.finding


def test_settings_that_fail_backups_are_problems(scene: Scene) -> None:
    found = examine(scene, S3_BACKUP_BUCKET="reports", BACKUP_TYPO="1", BACKUP_ENABLED="false")["settings"]
    assert statuses(found) == ["warning", "problem", "warning", "ok"]


def test_a_remote_disk_that_is_not_mounted(scene: Scene) -> None:
    remote = {"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": str(scene.folder / "remote")}
    assert statuses(examine(scene, **remote)["remote folder"]) == ["problem"]
    with Service.from_environment(scene.environment(**remote)) as service:
        list(readiness.set_up(service))
    assert statuses(examine(scene, **remote)["remote folder"]) == ["ok"]
