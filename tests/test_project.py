"""Rules about the repository itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LONGEST_FILE = 400
_FORBIDDEN = {"utils", "helpers", "common", "manager"}


def _canonical(requirement: str) -> str:
    name = re.split(r"[\[<>=~! ;]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_declared_is_locked_to_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^=*]+", line) for line in pins)
    wanted = project["dependencies"] + project["optional-dependencies"]["demo"]
    wanted += [line for line in (ROOT / "requirements-dev.in").read_text().splitlines() if not line.startswith("#")]
    assert {_canonical(name) for name in wanted} <= {_canonical(pin) for pin in pins}


def test_files_are_short_and_named_for_what_they_do() -> None:
    for top in ("src", "tests", "bench"):
        for path in (ROOT / top).rglob("*.py"):
            assert path.stem not in _FORBIDDEN, path
            assert len(path.read_text().splitlines()) <= _LONGEST_FILE, path


def test_the_wheel_holds_everything_that_runs(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, f"--wheel-dir={tmp_path}", "."], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*") if path.is_file()}
    assert not {name for name in sources if "__pycache__" not in name} - names
