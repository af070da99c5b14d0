"""The router in a host application, which has its own users, its own errors and perhaps its own lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from resurgam.api import create_backup_router
from resurgam.catalog.state import State
from tests.api.calling import is_error
from tests.clusters import Database
from tests.operations.backups import small_scene
from tests.operations.scene import Scene


class SessionOver(Exception):
    """A host's own exception, with a handler of its own."""


def current_user(x_user: str = Header("")) -> dict[str, Any]:
    if not x_user:
        raise HTTPException(401, "Please log in")
    if x_user == "gone":
        raise SessionOver
    return {"sub": x_user, "admin": x_user == "alice"}


def current_admin(user: dict[str, Any] = Depends(current_user)) -> dict[str, Any]:  # noqa: B008
    if not user["admin"]:
        raise HTTPException(403, "Admins only")
    return user


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


def _host(scene: Scene, **more: Any) -> FastAPI:
    app = FastAPI(**more)

    @app.get("/")
    def home() -> str:
        return "the host's own"

    @app.exception_handler(SessionOver)
    def over(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"session": "over"}, 440)

    app.include_router(create_backup_router(current_admin, environ=scene.environment()))
    return app


@pytest.fixture
def client(scene: Scene) -> Iterator[TestClient]:
    with TestClient(_host(scene), raise_server_exceptions=False) as opened:
        yield opened


def test_the_hosts_own_users_and_errors(client: TestClient, scene: Scene) -> None:
    refused = client.post("/api/backups/create")
    assert (refused.status_code, refused.json()) == (401, {"detail": "Please log in"})
    refused = client.post("/api/backups/create", headers={"X-User": "bob"})
    assert (refused.status_code, refused.json()) == (403, {"detail": "Admins only"})
    assert client.get("/api/backups/list", headers={"X-User": "gone"}).json() == {"session": "over"}
    assert client.post("/api/backups/create", headers={"X-User": "gone"}).status_code == 440
    answer = client.post("/api/backups/create-sync", headers={"X-User": "alice"})
    assert answer.status_code == 200 and answer.json()["message"] == "Backup created successfully"
    assert client.get("/").json() == "the host's own"
    assert client.get("/healthz").status_code == 404
    assert not (scene.backups / "bootstrap-token").exists()
    with State.open(scene.backups / "state.sqlite") as state:
        entries = [(one.actor, one.action, one.outcome) for one in reversed(state.audit.page())]
        assert state.jobs.latest(1)[0].actor == "host:alice"
    assert entries == [
        ("", "backup", "refused"),
        ("", "backup", "refused"),
        ("", "backup", "refused"),
        ("host:alice", "backup", "accepted"),
        ("host:alice", "backup", "ok"),
    ]


def test_our_errors_are_ours_there_too(client: TestClient) -> None:
    alice = {"X-User": "alice"}
    is_error(client.get("/api/backups/nothing", headers=alice), 404, "not_found")
    is_error(client.get("/api/jobs?limit=x", headers=alice), 422, "validation")
    is_error(client.post("/api/backups/restore", content=b"{", headers=alice), 422, "validation")
    document = client.get("/openapi.json").json()
    assert "/api/backups/{backup_name}" in document["paths"]


def test_a_host_with_a_lifespan_of_its_own(scene: Scene) -> None:
    begun = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        begun.append("host")
        yield

    app = _host(scene, lifespan=lifespan)
    app.router.lifespan_context = lifespan
    with TestClient(app) as client:
        assert client.get("/api/backups/list", headers={"X-User": "alice"}).json() == []
        assert client.post("/api/backups/create-sync", headers={"X-User": "alice"}).status_code == 200
    assert begun == ["host"]


def test_a_host_that_is_stopped_and_started_again(scene: Scene) -> None:
    app = _host(scene)
    for number in (1, 2):
        with TestClient(app) as client:
            assert client.post("/api/backups/create-sync", headers={"X-User": "alice"}).status_code == 200
            assert len(client.get("/api/backups/list", headers={"X-User": "alice"}).json()) == number
            assert client.get("/api/backups/status/health", headers={"X-User": "alice"}).status_code == 200


def test_a_host_starts_though_backups_can_not(scene: Scene) -> None:
    scene.backups.write_text("a file in the folder's place")
    with TestClient(_host(scene)) as client:
        assert client.get("/").status_code == 200
        is_error(client.get("/api/backups/list", headers={"X-User": "alice"}), 503, "storage")
        scene.backups.unlink()
        assert client.get("/api/backups/list", headers={"X-User": "alice"}).status_code == 200


def test_a_bug_is_logged_and_told_of_without_detail(client: TestClient, scene: Scene) -> None:
    alice = {"X-User": "alice"}
    client.get("/api/jobs", headers=alice)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("resurgam.api.jobs._summary", lambda job: 1 // 0)
        client.post("/api/backups/create-sync", headers=alice)
        is_error(client.get("/api/jobs", headers=alice), 500, "internal")
    assert any("ZeroDivisionError" in line for line in scene.log_lines())
