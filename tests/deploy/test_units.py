"""deploy/systemd and deploy/logrotate, as systemd and logrotate themselves read them."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from resurgam.clock import SystemClock
from resurgam.runlog import RunLog
from resurgam.settings import load_settings
from tests.deploy.dockerfile import ROOT

_UNITS = ROOT / "deploy" / "systemd"
_LOGROTATE = ROOT / "deploy" / "logrotate"
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ANALYZE = shutil.which("systemd-analyze", path=_PATH)
LOGROTATE = shutil.which("logrotate", path=_PATH)
_needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="not installed (apt-get install systemd)")
_needs_logrotate = pytest.mark.skipif(LOGROTATE is None, reason="not installed (apt-get install logrotate)")


def _here(folder: Path) -> list[Path]:
    """The units with programs that this machine has; that they are there is all that is changed."""
    made = []
    for unit in sorted([*_UNITS.glob("*.service"), *_UNITS.glob("*.timer")]):
        text = unit.read_text()
        for program in ("/usr/bin/docker", "/opt/resurgam/bin/resurgam"):
            text = text.replace(f"ExecStart={program}", "ExecStart=/bin/true")
        (folder / unit.name).write_text(text)
        made.append(folder / unit.name)
    return made


def _for_this_user(text: str) -> str:
    """logrotate refuses a user that the machine does not know."""
    return text.replace("1000 1000", f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}")


@_needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    assert ANALYZE
    done = subprocess.run([ANALYZE, "verify", *map(str, _here(tmp_path))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@_needs_systemd
def test_a_mistake_would_be_found(tmp_path: Path) -> None:
    unit = next(unit for unit in _here(tmp_path) if unit.name == "resurgam.service")
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=some"))
    assert ANALYZE
    done = subprocess.run([ANALYZE, "verify", unit], capture_output=True, text=True, check=False)
    assert "kill mode" in done.stderr


@_needs_systemd
def test_the_service_is_shut_in() -> None:
    assert ANALYZE
    unit = _UNITS / "resurgam.service"
    command = [ANALYZE, "security", "--offline=true", "--threshold=25", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:]


def test_the_environment_file_holds_settings_that_are_understood() -> None:
    text = re.sub(r"^#(?=\w+=)", "", (_UNITS / "resurgam.env").read_text(), flags=re.MULTILINE)
    given = dict(word.split("=", 1) for word in shlex.split(text, comments=True))
    settings = load_settings(given)
    assert (settings.app_name, str(settings.backup_dir)) == ("radiology", "/app/backups")
    assert settings.schedule.backup == "0 2 * * *"
    assert settings.warnings == ()


@_needs_logrotate
def test_the_line_after_a_rotation_is_in_the_new_file_and_none_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o755)
    text = _for_this_user(_LOGROTATE.read_text()).replace("/app/logs", str(folder))
    (tmp_path / "conf").write_text(text.split("# What deploy/crontab writes", maxsplit=1)[0])
    (tmp_path / "conf").chmod(0o644)
    log = RunLog(folder / "backup.log", SystemClock())
    log.info("before")
    assert LOGROTATE
    command = [LOGROTATE, "--force", "--state", str(tmp_path / "state"), str(tmp_path / "conf")]
    subprocess.run(command, check=True)
    log.error("after")
    (rotated,) = [path for path in folder.iterdir() if path.name != "backup.log"]
    assert [path.read_text().split()[-1] for path in (rotated, folder / "backup.log")] == ["before", "after"]
    assert (folder / "backup.log").stat().st_mode & 0o777 == 0o640


@_needs_logrotate
def test_logrotate_understands_every_line_and_nothing_is_cut_in_place(tmp_path: Path) -> None:
    assert LOGROTATE
    (tmp_path / "conf").write_text(_for_this_user(_LOGROTATE.read_text()))
    assert "\n    copytruncate" not in _LOGROTATE.read_text()
    done = subprocess.run([LOGROTATE, "-d", str(tmp_path / "conf")], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "error:" not in done.stderr
