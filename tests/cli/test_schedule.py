"""`resurgam schedule`: what is to come, with the service or without."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.cli.commands import RESURGAM


def schedule(folder: Path, *arguments: str, **settings: str) -> str:
    environment = {"PATH": os.environ["PATH"], "TZ": "Europe/Berlin", "APP_DIR": str(folder), **settings}
    environment["BACKUP_DIR"] = str(folder / "backups")
    done = subprocess.run(
        [*RESURGAM, "schedule", *arguments], env=environment, capture_output=True, text=True, cwd=folder, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_without_a_schedule_it_says_how_to_set_one(tmp_path: Path) -> None:
    assert "BACKUP_SCHEDULE is not set" in schedule(tmp_path)
    assert json.loads(schedule(tmp_path, "--json")) == []


def test_what_is_to_come_is_shown_and_nothing_is_made(tmp_path: Path) -> None:
    text = schedule(tmp_path, BACKUP_SCHEDULE="0 2 * * *")
    assert "02:00:00 +0" in text and "Europe/Berlin" in text and "verify" in text
    backup, verify, _ = json.loads(schedule(tmp_path, "--json", BACKUP_SCHEDULE="0 2 * * *"))
    assert tuple(backup) == (
        "task",
        "cron",
        "timezone",
        "next_run",
        "jitter_seconds",
        "last_slot",
        "last_job_id",
        "last_outcome",
    )
    assert (backup["task"], backup["cron"], verify["cron"]) == ("backup", "0 2 * * *", "0 4 * * 0")
    assert list(tmp_path.iterdir()) == []


def test_what_keeps_runs_from_starting_is_named(tmp_path: Path) -> None:
    assert "never: blackout" in schedule(tmp_path, BACKUP_SCHEDULE="@daily", BACKUP_BLACKOUT="00:00-24:00")
    assert "never: disabled" in schedule(tmp_path, BACKUP_SCHEDULE="@daily", BACKUP_ENABLED="false")
