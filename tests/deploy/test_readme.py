"""README's two ways of running the service, run as they are printed, but for the port."""

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
from tests.operations.backups import small_scene

_BIN = Path(sys.executable).parent
_CURL = shutil.which("curl")


def _blocks(language: str) -> list[str]:
    section = (ROOT / "README.md").read_text().split("## Run it as a service")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


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
