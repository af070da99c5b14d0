"""The runbook of a corrupt database: its calls, as printed, to a service that runs while the application is stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import Database
from tests.deploy.dockerfile import ROOT
from tests.operations.backups import small_scene
from tests.operations.scene import Scene

_BIN = Path(sys.executable).parent
_SECONDS = 60.0

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (apt-get install curl)")


def _calls(name: str) -> list[str]:
    """The curl lines of a runbook, continued ones whole."""
    text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
    return re.findall(r"^    (curl (?:.*\\\n)*(?:.*'\{\n(?:.*\n)*?.*\}'|.*))$", text, re.MULTILINE)


@contextmanager
def _serving(scene: Scene) -> Iterator[tuple[str, dict[str, str]]]:
    """`resurgam serve` on a free port, and an environment for whoever calls it."""
    environment = scene.environment(PATH=f"{_BIN}:{os.environ['PATH']}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    service = subprocess.Popen(["resurgam", "serve", "--port", port], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield port, environment
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(15) == 0


def test_the_database_alone_is_restored_while_the_application_is_stopped(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    with scene.service() as service:
        name = service.backup().to_json()["backup_name"]
    scene.execute("UPDATE reports SET body = 'corrupt'")
    verify, restore, look = _calls("database-corruption")
    with _serving(scene) as (port, environment):
        made = subprocess.run(
            ["resurgam", "token", "create", "--role", "admin"], env=environment, capture_output=True, check=True
        )
        token = made.stdout.decode().strip()

        def call(line: str, **more: str) -> Any:
            words = {"YOUR_TOKEN": token, ":8000": f":{port}", "NAME": name, **more}
            for word, value in words.items():
                line = line.replace(word, value)
            line = line.replace("curl ", "curl --silent --retry-connrefused --retry 20 --retry-delay 1 ", 1)
            return json.loads(subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout)

        assert call(verify)["message"] == "Backup verification passed"
        started = call(restore)
        assert started["status"] == "processing"
        end = time.monotonic() + _SECONDS
        while (job := call(look, JOB_ID=str(started["job_id"])))["state"] in ("queued", "running"):
            assert time.monotonic() < end
            time.sleep(0.2)
        assert job["state"] == "ok", job
    assert scene.execute("SELECT count(*) FROM reports WHERE body = 'corrupt'") == [(0,)]
