"""The API on a repository: the same routes, with the same answers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from resurgam import readiness
from tests.api.calling import Api, api_of
from tests.clusters import Database
from tests.operations.backups import small_scene


@pytest.fixture
def api(database: Database, tmp_path: Path) -> Iterator[Api]:
    scene = small_scene(database, tmp_path)
    scene.more |= {"BACKUP_REPOSITORY": str(tmp_path / "repository"), "BACKUP_ENCRYPTION_KEY": "correct horse battery"}
    with scene.service() as service:
        readiness.make_repository(service)
    with api_of(scene) as made:
        yield made


def test_every_route_of_a_backup(api: Api) -> None:
    assert api.get("/api/backups/list").json() == []
    name = api.backup()
    (listed,) = api.get("/api/backups/list").json()
    assert listed["backup_name"] == name and Path(listed["archive_path"]).is_file()
    assert listed["locations"] == ["repository"]
    shown = api.get(f"/api/backups/{name}").json()
    assert shown["metadata"]["backup_name"] == name and shown["copies"][0]["path"] == listed["archive_path"]
    verified = api.post(f"/api/backups/verify/{name}").json()["verification"]
    assert verified["full"] and verified["archive_path"] == listed["archive_path"]
    entries = api.get(f"/api/backups/{name}/contents", params={"path": "files"}).json()["entries"]
    assert entries and all(one["kind"] == "folder" for one in entries)
    planned = api.post("/api/backups/prune", json={"dry_run": True}).json()["prune"]
    assert planned["repository"]["frees_bytes"] == 0
    assert api.get("/api/backups/status/health").status_code == 200
    deleted = api.call("DELETE", f"/api/backups/{name}")
    assert deleted.status_code == 200 and deleted.json()["deleted"] == ["repository"]
    assert api.get("/api/backups/list").json() == []
    assert api.get(f"/api/backups/{name}/archive").status_code == 404


def test_a_download_is_the_export(api: Api) -> None:
    name = api.backup()
    answer = api.get(f"/api/backups/{name}/archive", headers={"Range": "bytes=5-9"})
    assert answer.status_code == 200 and answer.headers["accept-ranges"] == "none"
    assert "content-length" not in answer.headers
    assert answer.content == api.get(f"/api/backups/{name}/archive").content
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert f"{name}/backup_metadata.json" in archive.getnames()
    assert api.call("HEAD", f"/api/backups/{name}/archive").headers["content-type"] == "application/gzip"


def test_a_restore_and_a_drill_in_the_background(api: Api) -> None:
    name = api.backup()
    job = api.post("/api/backups/restore", json={"backup_name": name, "confirm": True}).json()["job_id"]
    assert api.ended(job)["state"] == "ok"
    job = api.post("/api/backups/drill", json={"backup_name": name}).json()["job_id"]
    assert api.ended(job)["state"] == "ok"
