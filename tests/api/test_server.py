"""`resurgam serve`, alive: how it starts, how it ends, and clients that go."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from resurgam.catalog.state import State
from tests.api.calling import until
from tests.api.serving import COMMAND, served
from tests.clusters import Database
from tests.operations.backups import small_scene
from tests.operations.scene import Scene, tools


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


def _slow(scene: Scene, piece: str) -> str:
    return str(tools(scene.root / "slow", scene.server.bin, piece))


def _under_way(scene: Scene) -> None:
    until(lambda: bool(list(scene.backups.glob(".*.partial"))), "a backup is under way")


def test_it_starts_listens_and_ends(scene: Scene) -> None:
    began = time.monotonic()
    with served(scene) as service:
        assert httpx.get(f"{service.url}/readyz").json() == {"status": "ready", "reasons": []}
        assert time.monotonic() - began < 5
        answer = httpx.get(f"{service.url}/")
        assert answer.json() == {"service": "resurgam", "status": "running"} and "server" not in answer.headers
        bootstrap = scene.backups / "bootstrap-token"
        assert bootstrap.stat().st_mode & 0o777 == 0o600
        token = bootstrap.read_text().strip()
        with service.client(token) as client:
            assert client.get("/api/backups/list").json() == []
        code, seconds = service.signal(signal.SIGTERM)
    assert (code, seconds < 3) == (0, True)
    assert token not in "".join(service.said) and token not in "".join(scene.log_lines())


def test_a_port_that_is_taken(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [*COMMAND, "--port", str(port)],
            env=scene.environment(),
            cwd=scene.root,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert ended.returncode == 1 and f"Port {port}" in ended.stderr and "Traceback" not in ended.stderr


def test_sigterm_cancels_a_backup_and_answers_its_client(scene: Scene) -> None:
    with served(scene, BACKUP_PG_BIN=_slow(scene, "exec sleep 60")) as service:
        answers: list[httpx.Response] = []

        def create() -> None:
            with service.client(token) as client:
                answers.append(client.post("/api/backups/create-sync"))

        token = service.token()
        thread = threading.Thread(target=create)
        thread.start()
        _under_way(scene)
        code, seconds = service.signal(signal.SIGTERM)
        thread.join(10)
    assert code == 0 and seconds < 10
    assert answers[0].status_code >= 400 and answers[0].json()["message"]
    assert scene.leftovers() == [] and scene.archives() == []
    with State.open(scene.backups / "state.sqlite") as state:
        assert state.jobs.latest(1)[0].outcome in ("failed", "cancelled")


def test_sigterm_lets_a_backup_finish_if_told(scene: Scene) -> None:
    scene.more |= {"BACKUP_ON_SHUTDOWN": "finish", "BACKUP_PG_BIN": _slow(scene, "sleep 2")}
    with served(scene) as service, service.client(service.token()) as client:
        client.post("/api/backups/create")
        _under_way(scene)
        code, _ = service.signal(signal.SIGTERM)
    assert code == 0 and len(scene.archives()) == 1


def test_a_client_that_drops_off_does_not_stop_the_backup(scene: Scene) -> None:
    with served(scene, BACKUP_PG_BIN=_slow(scene, "sleep 1")) as service:
        token = service.token()
        with service.client(token) as client, pytest.raises(httpx.ReadTimeout):
            client.post("/api/backups/create-sync", timeout=0.4)
        with service.client(token) as client:
            until(lambda: len(client.get("/api/backups/list").json()) == 1, "the backup is there")
            until(lambda: client.get("/api/jobs").json()["jobs"][0]["state"] == "ok", "its job is done")
            until(lambda: _outcomes(client) == ["ok", "accepted"], "the audit log has its end")


def test_a_client_that_leaves_a_download_leaves_nothing_open(scene: Scene) -> None:
    (scene.app / "uploads/big.bin").write_bytes(bytes(range(256)) * (80 << 10))
    with served(scene) as service, service.client(service.token()) as client:
        name = client.post("/api/backups/create-sync").json()["backup"]["backup_name"]
        archive = str(scene.backups / f"{name}.tar.gz")
        # Larger than what sockets take by themselves.
        with open(archive, "r+b") as file:
            file.truncate(64 << 20)
        with client.stream("GET", f"/api/backups/{name}/archive") as answer:
            assert answer.status_code == 200
            next(answer.iter_raw(1000))
            assert archive in _open_files(service.process.pid)
        until(lambda: archive not in _open_files(service.process.pid), "it is closed")


def _outcomes(client: httpx.Client) -> list[str]:
    entries = client.get("/api/backups/audit").json()["entries"]
    return [one["outcome"] for one in entries if one["action"] == "backup"]


def _open_files(pid: int) -> list[str]:
    return [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]


def test_a_client_that_goes_in_the_middle_of_its_body_is_no_fault_of_ours(scene: Scene) -> None:
    with served(scene) as live:
        token, (host, port) = live.token(), live.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                f"POST /api/backups/restore HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                "Content-Length: 100\r\n\r\n{".encode()
            )
            time.sleep(0.3)
        with live.client(token) as client:
            until(lambda: bool(client.get("/api/backups/audit").json()["entries"][0]["action"] == "restore"), "noted")
            entry = client.get("/api/backups/audit").json()["entries"][0]
        assert entry["outcome"] == "refused"
        assert " ERROR " not in "".join(live.said)
