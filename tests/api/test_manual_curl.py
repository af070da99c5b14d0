"""Every curl line of the manual, by curl, against a live service on the manual's port."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from resurgam.postgres.embedded import EmbeddedServer
from tests.api.serving import Served, served
from tests.clusters import create_database, drop_database
from tests.operations.backups import small_scene

PORT = 8000
# As the manual prints them, scenario by scenario.
MANUAL = r"""
4. **List available backups**
   ```bash
   curl -X GET http://localhost:8000/api/backups/list \
     -H "Authorization: Bearer YOUR_TOKEN"
   ```
5. **Restore from backup**
   ```bash
   curl -X POST http://localhost:8000/api/backups/restore \
     -H "Authorization: Bearer YOUR_TOKEN" \
     -H "Content-Type: application/json" \
     -d '{
       "backup_name": "radiology_backup_20250104_143022",
       "restore_database": true,
       "restore_config": true,
       "restore_files": true,
       "confirm": true
     }'
   ```
7. **Verify restoration**
   ```bash
   curl http://localhost:8000/
   ```
2. **Verify backup**
   ```bash
   curl -X POST http://localhost:8000/api/backups/verify/{backup_name}
   ```
3. **Restore database only**
   ```bash
   curl -X POST http://localhost:8000/api/backups/restore \
     -d '{
       "backup_name": "...",
       "restore_database": true,
       "restore_config": false,
       "restore_files": false,
       "confirm": true
     }'
   ```
2. **Find most recent good backup**
   ```bash
   curl -X GET http://localhost:8000/api/backups/list
   ```
3. **Create current backup** (before restore)
   ```bash
   curl -X POST http://localhost:8000/api/backups/create-sync
   ```
"""
LINES = [block.strip() for block in re.findall(r"```bash\n(.*?)```", MANUAL, re.DOTALL)]
SUMMARY = {"backup_name", "timestamp", "datetime", "archive_path", "size_mb", "database_size_mb"}


@pytest.fixture(scope="module")
def service(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if shutil.which("curl") is None:
        pytest.fail("The manual's lines are curl's: apt-get install curl")
    _wait_for_the_port()
    made = create_database(pg16)
    scene = small_scene(made, tmp_path_factory.mktemp("manual"))
    with scene.service() as local:
        local.backup()
    with served(scene, PORT) as live:
        yield live
    scene.drop_previous()
    drop_database(pg16, made.name)


@pytest.fixture(scope="module")
def token(service: Served) -> str:
    return service.token()


def _wait_for_the_port() -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.create_server(("127.0.0.1", PORT)):
                return
        except OSError:
            if time.monotonic() > deadline:
                pytest.fail(f"Port {PORT}, which the manual's lines name, is taken: end what listens there.")
            time.sleep(0.5)


def _run(line: str) -> tuple[int, Any]:
    ended = subprocess.run(
        ["bash", "-c", rf"{line} -sS -w '\n%{{http_code}}'"], capture_output=True, text=True, timeout=60, check=True
    )
    body, _, status = ended.stdout.rpartition("\n")
    return int(status), json.loads(body)


def _as_meant(line: str, name: str, token: str) -> str:
    """With the user's own token and backup in place of the manual's placeholders."""
    for placeholder in ("radiology_backup_20250104_143022", "{backup_name}", '"..."'):
        line = line.replace(placeholder, f'"{name}"' if placeholder.startswith('"') else name)
    if "YOUR_TOKEN" in line:
        return line.replace("YOUR_TOKEN", token)
    return f'{line} -H "Authorization: Bearer {token}"'


def test_the_lines_are_all_there() -> None:
    assert len(LINES) == MANUAL.count("curl ") == 7


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_as_printed(service: Served, line: str) -> None:
    status, answer = _run(line)
    if line.endswith(":8000/"):
        assert status == 200
    else:
        assert (status, answer["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_with_a_token(service: Served, token: str, line: str) -> None:
    listed = _run(_as_meant(LINES[0], "", token))[1]
    name = listed[-1]["backup_name"]
    status, answer = _run(_as_meant(line, name, token))
    assert status == 200, answer
    if "/list" in line:
        assert all(one.keys() >= SUMMARY for one in answer)
    elif "/create-sync" in line:
        assert answer["message"] == "Backup created successfully"
        assert answer["backup"].keys() >= {"success", "backup_name", "archive_path", "size_mb", "metadata"}
    elif "/verify/" in line:
        assert answer["message"] == "Backup verification passed"
        wanted = {"success", "backup_name", "backup_date", "total_files", "database_backup", "size_mb"}
        assert answer["verification"].keys() >= wanted
    elif "/restore" in line:
        job = answer.pop("job_id")
        assert answer == {
            "message": "Restore started in background",
            "backup_name": name,
            "backup_date": listed[-1]["datetime"],
            "status": "processing",
            "warning": "Application may need to be restarted after restore completes",
        }
        _ends_well(service, token, job)


def _ends_well(service: Served, token: str, job: int) -> None:
    deadline = time.monotonic() + 30
    with service.client(token) as client:
        while (told := client.get(f"/api/jobs/{job}").json())["finished_at"] is None:
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
    assert told["state"] == "ok", told
