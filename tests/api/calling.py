"""An application, its service behind the API, and tokens of every role: what the API's tests call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from resurgam.api.app import create_app
from resurgam.catalog.roles import ROLES, Role
from resurgam.service import Service
from tests.clusters import Database
from tests.operations.backups import small_scene
from tests.operations.scene import Scene

ROUTES: dict[str, dict[str, Role | None]] = {
    "/": {"GET": None},
    "/healthz": {"GET": None},
    "/readyz": {"GET": None},
    "/metrics": {"GET": "viewer"},
    "/api/backups/create": {"POST": "operator"},
    "/api/backups/create-sync": {"POST": "operator"},
    "/api/backups/list": {"GET": "viewer"},
    "/api/backups/status/health": {"GET": "viewer"},
    "/api/backups/restore": {"POST": "admin"},
    "/api/backups/restore/plan": {"POST": "admin"},
    "/api/backups/undo": {"POST": "admin"},
    "/api/backups/prune": {"POST": "admin"},
    "/api/backups/drill": {"POST": "operator"},
    "/api/backups/schedule": {"GET": "viewer"},
    "/api/backups/audit": {"GET": "admin"},
    "/api/backups/verify/{backup_name}": {"POST": "operator"},
    "/api/backups/{backup_name}": {"GET": "viewer", "DELETE": "admin"},
    "/api/backups/{backup_name}/pin": {"POST": "admin", "DELETE": "admin"},
    "/api/backups/{backup_name}/archive": {"GET": "admin"},
    "/api/backups/{backup_name}/contents": {"GET": "viewer"},
    "/api/jobs": {"GET": "viewer"},
    "/api/jobs/{job_id}": {"GET": "viewer"},
    "/api/jobs/{job_id}/cancel": {"POST": "operator"},
}


@dataclass
class Api:
    """The API of one application, called in this process. `tokens` are by role."""

    scene: Scene
    service: Service
    client: TestClient
    tokens: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, role: str = "admin", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        answer: httpx.Response = self.client.request(
            method, path, headers={**headers, **more.pop("headers", {})}, **more
        )
        return answer

    def elsewhere(self, address: str) -> TestClient:
        """A client of another address; failed tries of one address wait for each other."""
        return TestClient(self.client.app, client=(address, 50000), raise_server_exceptions=False)

    def get(self, path: str, role: str = "admin", **more: Any) -> httpx.Response:
        return self.call("GET", path, role, **more)

    def post(self, path: str, role: str = "admin", **more: Any) -> httpx.Response:
        return self.call("POST", path, role, **more)

    def backup(self) -> str:
        """Take one; its name."""
        answer = self.post("/api/backups/create-sync")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["backup"]["backup_name"])

    def ended(self, job_id: int) -> dict[str, Any]:
        """The job, when it has ended."""
        until(lambda: self.get(f"/api/jobs/{job_id}").json()["finished_at"] is not None, f"job {job_id} ends")
        return dict(self.get(f"/api/jobs/{job_id}").json())

    def audited(self) -> list[tuple[str, str, str, str]]:
        """Actor, action, target and outcome of every entry of the API's, oldest first."""
        entries = [one for one in self.service.state.audit.page(1000) if one.action != "token create"]
        return [(one.actor, one.action, one.target, one.outcome) for one in reversed(entries)]


@contextmanager
def api_of(scene: Scene, **more: str) -> Iterator[Api]:
    with (
        scene.service(**more) as service,
        TestClient(create_app(service, service.environment), raise_server_exceptions=False) as client,
    ):
        api = Api(scene, service, client)
        for role in ROLES:
            api.tokens[role] = service.state.tokens.create(role, role, None)[0]
        yield api


@contextmanager
def api_on(database: Database, root: Path, **more: str) -> Iterator[Api]:
    with api_of(small_scene(database, root), **more) as api:
        yield api


def until(true: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def is_error(answer: httpx.Response, status: int, code: str) -> None:
    """It has that status, and the one body of errors."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["code"] == code
    assert set(body) - {"problems"} == {"code", "message", "hint"}
    assert body["message"]
