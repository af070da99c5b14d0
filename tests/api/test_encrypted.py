"""Encrypted archives through the API: jobs in processes of their own, downloads, browsing, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.calling import Api, api_on, is_error
from tests.clusters import Database

KEY = "Wer rastet, der rostet 7"


@pytest.fixture(params=["age", "gpg"])
def encrypting(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[tuple[Api, str]]:
    form = str(request.param)
    with api_on(database, tmp_path, BACKUP_ENCRYPTION_KEY=KEY, BACKUP_ENCRYPTION=form) as api:
        yield api, form


def test_taken_listed_browsed_downloaded_verified_restored_deleted(encrypting: tuple[Api, str]) -> None:
    api, form = encrypting
    name = api.backup()
    shown = api.get(f"/api/backups/{name}").json()
    assert (shown["encryption"], shown["condition"]) == (form, "good")
    assert shown["archive_path"].endswith(f"{name}.tar.gz.{form}") and shown["metadata"]["backup_name"] == name
    children = api.get(f"/api/backups/{name}/contents?path=files").json()["entries"]
    assert {child["name"] for child in children} == {"templates", "uploads"}
    answer = api.get(f"/api/backups/{name}/archive")
    assert answer.content == Path(shown["archive_path"]).read_bytes()
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.tar.gz.{form}"'
    assert answer.headers["content-type"] != "application/gzip"
    assert api.get(f"/api/backups/{name}/archive", headers={"Range": "bytes=5-9"}).content == answer.content[5:10]
    verified = api.post(f"/api/backups/verify/{name}")
    assert verified.status_code == 200 and verified.json()["verification"]["success"], verified.text
    started = api.post("/api/backups/restore", json={"backup_name": name, "confirm": True}).json()
    assert api.ended(started["job_id"])["state"] in ("ok", "degraded")
    assert api.call("DELETE", f"/api/backups/{name}").status_code == 200
    assert not list(api.scene.backups.glob("*.tar.gz*"))


def test_what_is_no_archive_is_not_handed_out(encrypting: tuple[Api, str]) -> None:
    api, form = encrypting
    name = api.backup()
    path = api.scene.backups / f"{name}.tar.gz.{form}"
    path.unlink()
    path.symlink_to("/etc/passwd")
    is_error(api.get(f"/api/backups/{name}/archive"), 422, "damaged")
