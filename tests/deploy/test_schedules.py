"""deploy/crontab and the systemd timer: they say what they mean, and fire once a night."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import datetime, timedelta

import pytest
from cronsim import CronSim

from tests.deploy.dockerfile import ROOT

_CRONTAB = ROOT / "deploy" / "crontab"
_TIMER = ROOT / "deploy" / "systemd" / "radiology-backup.timer"
ANALYZE = shutil.which("systemd-analyze")
_CRON = re.compile(r"(?P<when>(?:\S+ ){4}\S+) (?P<command>(?:APP_DIR|docker).+)")
_START = datetime(2026, 12, 28, 12, 0)
_DAYS = 28


def _lines(*, docker: bool) -> dict[str, str]:
    """The crontab's lines of one way (the second one is commented out): what each runs, and when."""
    found = {}
    for line in _CRONTAB.read_text().splitlines():
        match = _CRON.fullmatch(line.removeprefix("# "))
        if match and ("docker exec" in line) == docker:
            assert line.startswith("#") != docker
            found[match["command"]] = match["when"]
    return found


def _firings(when: str) -> list[datetime]:
    firings = CronSim(when, _START)
    return [moment for moment in (next(firings) for _ in range(60)) if moment < _START + timedelta(days=_DAYS)]


@pytest.mark.parametrize("docker", [True, False], ids=["docker", "host"])
def test_cron_backs_up_once_a_night_and_verifies_once_a_week(docker: bool) -> None:
    lines = _lines(docker=docker)
    (backup,) = [when for command, when in lines.items() if "run_backup" in command]
    (verify,) = [when for command, when in lines.items() if "verify --all" in command]
    assert len(lines) == 2
    nights = _firings(backup)
    assert len(nights) == _DAYS
    assert {(moment.hour, moment.minute) for moment in nights} == {(2, 0)}
    assert {moment.weekday() for moment in _firings(verify)} == {6}
    assert len(_firings(verify)) == _DAYS // 7


def test_crons_lines_hold_no_percent_sign_which_cron_would_make_a_line_end_of() -> None:
    assert "%" not in _CRONTAB.read_text()


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (apt-get install systemd)")
def test_the_timer_fires_once_a_night_and_makes_up_for_a_missed_one() -> None:
    text = _TIMER.read_text()
    (calendar,) = re.findall(r"^OnCalendar=(.+)$", text, re.MULTILINE)
    assert re.findall(r"^Persistent=(.+)$", text, re.MULTILINE) == ["true"]
    assert ANALYZE
    command = [ANALYZE, "calendar", f"--base-time={_START:%Y-%m-%d %H:%M:%S}", f"--iterations={_DAYS}", calendar]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={"TZ": "UTC"}).stdout
    nights = re.findall(r"(?:Next elapse|Iter\. #\d+|Iteration #\d+): \w+ ([\d-]+) ([\d:]+)", told)
    assert len({day for day, _ in nights}) == _DAYS
    assert {hour for _, hour in nights} == {"02:00:00"}


def test_the_timer_starts_the_service_of_its_name() -> None:
    assert "Unit=" not in _TIMER.read_text()
    assert _TIMER.with_suffix(".service").exists()
