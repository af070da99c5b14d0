"""README's commands, run as they are printed: a restore that is practised, and the service, but for its port."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest
from fastapi import FastAPI, Header, HTTPException
from fastapi.testclient import TestClient

from tests.clusters import Database
from tests.deploy.dockerfile import ROOT
from tests.deploy.runbook import Block, Person, kit_lines
from tests.operations.backups import small_scene

_BIN = Path(sys.executable).parent
_CURL = shutil.which("curl")


def _blocks(language: str) -> list[str]:
    section = (ROOT / "README.md").read_text().split("## Run it as a service")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def _practice() -> str:
    """The indented commands of the step that practises the restore."""
    section = (ROOT / "README.md").read_text().split("**5. Practise the restore**")[1]
    lines = section.split("\n\n")[1].splitlines()
    assert all(line.startswith("    resurgam ") for line in lines)
    return "".join(f"{line.strip()}\n" for line in lines)


def test_a_restore_is_practised_as_printed(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    with scene.service() as service:
        name = service.backup().name
    scene.execute("DELETE FROM reports WHERE id > 3")
    steps = [Block(line, f"{line}\n") for line in _practice().splitlines()]
    assert [line.heading.split()[1] for line in steps] == ["drill", "restore", "restore", "undo", "evidence"]
    person = Person(tmp_path / "person", scene.environment(RESTORE_SAFETY_BACKUP="true"), {})
    person.knows(name)
    drill, plan, restore, undo, evidence = steps
    shown = person.follow([drill])
    assert f"The drill of {name}" in shown and "passed" in shown and "a restore would take" in shown
    assert "would:" in person.follow([plan])
    assert scene.execute("SELECT count(*) FROM reports") == [(3,)]
    # It asks, is told yes, and backs up the present state first.
    shown = person.follow([restore])
    assert "Type yes to go on:" in shown and "`resurgam undo` takes this back." in shown
    assert scene.execute("SELECT count(*) FROM reports") != [(3,)] and len(scene.archives()) == 2
    assert "Undid" in person.follow([undo])
    assert scene.execute("SELECT count(*) FROM reports") == [(3,)]
    person.follow([evidence])
    page = (tmp_path / "person" / "work" / "evidence.html").read_text()
    assert name in page and "164.308" in page


def test_a_repository_is_made_and_used_as_printed(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    (code,) = re.findall(r"```sh repository\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    steps = [Block(line, f"{line}\n") for line in code.splitlines()]
    *begin, prove, remove, backup = steps
    assert begin[-1].code.startswith("resurgam keys kit --out recovery-kit.html")
    places = {"/etc/resurgam": str(tmp_path / "etc"), "/mnt/backups/repository": str(tmp_path / "repository")}
    answers: dict[str, str] = {}
    person = Person(tmp_path / "person", scene.environment(), places, answers)
    person.follow(begin)
    assert (tmp_path / "etc" / "key").stat().st_mode & 0o777 == 0o600
    # Until the sheet was typed back, no backup is taken.
    with pytest.raises(AssertionError, match="recovery kit was never proven"):
        person.follow([backup])
    sheet = person.folder / "work" / "recovery-kit.html"
    answers |= {f"{line[0]}: ": line[3:] for line in kit_lines(sheet.read_text())}
    assert "it is proven" in person.follow([prove])
    shown = person.follow([remove, backup])
    assert not sheet.exists() and "is complete" in shown and "of it are new in the repository" in shown
    assert scene.archives() == []
    assert "0 problems" in person.follow([Block("doctor", "resurgam doctor\n")])


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.skipif(_CURL is None, reason="curl is not installed (apt-get install curl)")
def test_beside_the_application_it_serves_as_printed(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    serve, calls = _blocks("sh")
    assert serve.startswith("resurgam serve ")
    assert calls.count("http://localhost:8000/") == 3
    # Each answer on a line of its own, and none before the service is there.
    calls = calls.replace(
        "curl ", 'curl --silent --show-error --retry-connrefused --retry 20 --retry-delay 1 -w "\\n" '
    )
    port = _free_port()
    script = f"set -m\nresurgam serve --port {port} &\n{calls.replace('8000', port)}\nkill %1; wait %1"
    done = subprocess.run(
        ["bash", "-c", script],
        env=scene.environment(PATH=f"{_BIN}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    created, listed, health = (json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "[")))
    assert created["message"] == "Backup created successfully", done.stderr
    assert [one["backup_name"] for one in listed] == [created["backup"]["backup_name"]]
    assert health["total_backups"] == 1


def test_inside_a_fastapi_application_it_is_mounted_as_printed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = small_scene(database, tmp_path)
    for name, value in scene.environment().items():
        monkeypatch.setenv(name, value)

    def current_admin(authorization: str = Header("")) -> dict[str, str]:
        if authorization != "Bearer of-the-host":
            raise HTTPException(401, "log in")
        return {"sub": "alice"}

    auth = types.ModuleType("yourapp.auth")
    auth.current_admin = current_admin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yourapp", types.ModuleType("yourapp"))
    monkeypatch.setitem(sys.modules, "yourapp.auth", auth)
    (block,) = _blocks("python")
    names: dict[str, object] = {}
    exec(block, names)
    app = names["app"]
    assert isinstance(app, FastAPI)
    with TestClient(app) as client:
        assert client.get("/api/backups/list").status_code == 401
        created = client.post("/api/backups/create-sync", headers={"Authorization": "Bearer of-the-host"})
        assert created.json()["message"] == "Backup created successfully"
        audit = client.get("/api/backups/audit", headers={"Authorization": "Bearer of-the-host"})
        assert "host:alice" in {entry["actor"] for entry in audit.json()["entries"]}
