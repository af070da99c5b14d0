"""The log: whole lines whoever appends, one for each event, findable by `grep ERROR`."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from resurgam.clock import SystemClock
from resurgam.runlog import RunLog

_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d (INFO   |WARNING|ERROR  ) .+")


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "logs/backup.log"
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            log = RunLog(path, SystemClock())
            for line in range(200):
                (log.error if line % 2 else log.info)(f"process {number} line {line} " + "x" * (line * 40))
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    lines = path.read_text().splitlines()
    assert len(lines) == 1200
    seen = set()
    for text in lines:
        assert _LINE.fullmatch(text), text
        match = re.search(r"process (\d) line (\d+) ?(x*)$", text)
        assert match is not None and len(match[3]) == int(match[2]) * 40, text
        seen.add((match[1], match[2]))
    assert len(seen) == 1200


def test_an_event_is_one_line_whatever_stands_in_it(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "backup.log", SystemClock())
    log.error("first\nsecond\r\nthird\x00 \udcff ü \x1b[31m")
    log.warning("careful")
    (error, warning) = (tmp_path / "backup.log").read_bytes().decode().split("\n")[:2]
    assert "first second third" in error and "ü" in error and "\\udcff" in error
    assert "WARNING careful" in warning
    assert "\x1b" not in error and "\0" not in error
    found = subprocess.run(["grep", "ERROR", tmp_path / "backup.log"], capture_output=True, check=True)
    assert found.stdout.decode() == error + "\n"  # and not "Binary file matches"


def test_what_others_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / "backup.log").write_text("older\n")
    RunLog(tmp_path / "backup.log", SystemClock()).info("newer")
    assert (tmp_path / "backup.log").read_text().splitlines()[0] == "older"


def test_fields_for_machines_stand_at_the_line_s_end(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "backup.log", SystemClock())
    log.error("backup app: failed: a\nb", job=12, code="storage", actor='o"k x', phase="", none=None)
    assert log.path.read_text().endswith('ERROR   backup app: failed: a b [job=12 code=storage actor="o\\"k x"]\n')


def test_a_log_that_was_moved_is_made_anew(tmp_path: Path) -> None:
    """As logrotate does it, which needs to tell nobody."""
    log = RunLog(tmp_path / "backup.log", SystemClock())
    log.info("before")
    log.path.rename(tmp_path / "backup.log.1")
    log.info("after")
    assert "after" in log.path.read_text() and "before" in (tmp_path / "backup.log.1").read_text()


def test_the_service_shows_the_lines_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path / "backup.log", SystemClock(), echo=True)
    log.warning("seen")
    assert capfd.readouterr().err == log.path.read_text()
