"""`resurgam health` by its exit codes, its words and its JSON."""

from __future__ import annotations

import shutil
from pathlib import Path

from resurgam.cli import health
from tests.cli.commands import Scene
from tests.policy.health_scenes import judged, well

MANUAL = (
    "backup_enabled",
    "backup_directory",
    "total_backups",
    "total_size_mb",
    "retention_days",
    "max_backups",
    "most_recent_backup",
    "hours_since_last_backup",
    "remote_backup_enabled",
    "status",
)


def test_without_a_backup_it_is_critical_and_says_what_to_do(scene: Scene) -> None:
    told = scene.run("health")
    assert told.code == 1
    assert told.out.startswith("Status: critical\n")
    assert "There is no backup of radiology" in told.out
    assert "`resurgam backup`" in told.out
    assert not scene.backups.exists()


def test_a_backup_makes_it_better_and_disabled_is_no_failure(backed_up: Scene) -> None:
    told = backed_up.run("health", "--json")
    answer = told.json
    assert tuple(answer)[: len(MANUAL)] == MANUAL
    assert answer["most_recent_backup"]["backup_name"] == backed_up.only_name
    # The disk that the tests run on may be nearly full.
    assert [reason["code"] for reason in answer["reasons"]] in ([], ["low_space"])
    assert told.code == {"healthy": 0, "warning": 3, "critical": 1}[answer["status"]]
    disabled = backed_up.run("health", "--json", BACKUP_ENABLED="false")
    assert (disabled.code, disabled.json["status"], disabled.json["backup_enabled"]) == (0, "disabled", False)


def test_people_read_units_and_times_with_their_zone(backed_up: Scene) -> None:
    told = backed_up.run("health", TZ="Asia/Tokyo")
    assert backed_up.only_name in told.out
    assert " JST, " in told.out
    assert "a restore loses" in told.out
    assert "100 % of 1 run succeeded" in told.out


def test_a_warning_exits_three(scene: Scene, tmp_path: Path) -> None:
    scene.backup()
    shutil.rmtree(tmp_path / "remote", ignore_errors=True)
    remote = {"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": str(tmp_path / "remote")}
    told = scene.run("health", "--json", **remote)
    codes = {reason["code"] for reason in told.json["reasons"]}
    assert "remote_behind" in codes
    assert told.code == {"warning": 3, "critical": 1}[told.json["status"]]


def test_every_figure_is_shown() -> None:
    text = health._text(judged(well(counts={("backup", "ok"): 9, ("backup", "failed"): 1})).to_json())
    assert text.splitlines()[0] == "Status: healthy"
    for shown in ("10 backups, 400.0 MB", "90 % of 10 runs succeeded", "500.0 GB (50%)", "+0 % in 30 days"):
        assert shown in text


def test_what_steers_a_terminal_is_not_printed() -> None:
    assert "\x1b" not in health._text(judged(well(channels_failing=("\x1b[2J",))).to_json())
