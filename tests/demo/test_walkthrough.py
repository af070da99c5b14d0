"""`make demo` tells the truth: it ends well only if everything came back, and leaves nothing but the archive."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from resurgam.demo import walkthrough
from resurgam.demo.application import create_application, fingerprint
from resurgam.demo.sample_files import ENV_SECRET
from resurgam.errors import StorageError
from tests.clusters import Database


def _servers() -> set[str]:
    found = set()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"postgres" in command and b"resurgam-pg-" in command:
            found.add(process.parent.name)
    return found


def test_the_demo_brings_everything_back_and_can_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = _servers()
    for _ in range(2):
        out = io.StringIO()
        assert walkthrough.run_demo(150, out) == 0, out.getvalue()
    text = out.getvalue()
    assert "135 reports and" in text
    assert "Yes, table by table and file by file." in text
    assert "DIFFERENT" not in text
    assert _servers() <= before
    assert [path.name for path in tmp_path.iterdir()] == [f"resurgam-demo-{os.geteuid()}"]
    line = next(line for line in text.splitlines() if "tar tzf" in line)
    listed = subprocess.run(line.split(), check=True, capture_output=True, text=True).stdout
    assert "/config/backend/config.py\n" in listed
    assert "/.env\n" not in listed
    content = subprocess.run(["tar", "xzOf", line.split()[-1]], check=True, capture_output=True).stdout
    assert ENV_SECRET.encode() not in content


def test_a_difference_is_told_and_is_a_failure(database: Database, tmp_path: Path) -> None:
    made = create_application(database.dsn, tmp_path / "app", reports=50)
    before = walkthrough._protected(fingerprint(database.dsn, made.folder))
    out = io.StringIO()
    assert walkthrough._prove(walkthrough._Story(out), before, before)
    files = dict(before.files)
    del files["uploads/latest"]
    tables = {**before.tables, "public.users": (4, "0" * 32)}
    assert not walkthrough._prove(walkthrough._Story(out), before, replace(before, files=files, tables=tables))
    assert "DIFFERENT  public.users" in out.getvalue()
    assert "files: 'uploads/latest' is missing" in out.getvalue()
    assert "NO: 2 things differ." in out.getvalue()


def test_a_folder_of_someone_else_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (tmp_path / f"resurgam-demo-{os.geteuid()}").symlink_to(elsewhere)
    with pytest.raises(StorageError, match="belongs to someone else"):
        walkthrough.run_demo(10, io.StringIO())
    assert (elsewhere / "precious").exists()
