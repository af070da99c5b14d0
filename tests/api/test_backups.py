"""The manual's routes, with real workers on a real database."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import psycopg
import pytest

from resurgam.errors import StateError
from tests.api.calling import Api, api_on, is_error, until
from tests.clusters import Database
from tests.operations.scene import keys, tools

SUMMARY = ("backup_name", "timestamp", "datetime", "archive_path", "size_mb", "database_size_mb")


def _held(api: Api) -> psycopg.Connection[tuple[object, ...]]:
    """A lock that a backup has to wait for."""
    session = psycopg.connect(api.scene.dsn)
    session.execute("LOCK TABLE reports IN ACCESS EXCLUSIVE MODE")
    return session


def test_a_backup_in_the_foreground_answers_in_the_manuals_shape(with_backup: tuple[Api, str]) -> None:
    api, name = with_backup
    shown = api.get(f"/api/backups/{name}", "viewer").json()
    assert shown["backup_name"] == name and shown["archive_path"] == str(api.scene.backups / f"{name}.tar.gz")
    assert shown["metadata"]["database"]["success"] is True
    assert shown["copies"][0]["location"] == "local" and shown["pinned"] is False
    listed = api.get("/api/backups/list", "viewer").json()
    assert keys(shown, *SUMMARY) == keys(next(one for one in listed if one["backup_name"] == name), *SUMMARY)
    assert api.get(f"/api/backups/{name}.tar.gz").json() == shown


def test_a_backup_in_the_background_is_followed_as_a_job(api: Api) -> None:
    answer = api.post("/api/backups/create", "operator").json()
    job = answer.pop("job_id")
    assert answer == {"message": "Backup started in background", "status": "processing"}
    ended = api.ended(job)
    assert (ended["state"], ended["actor"], ended["origin"], ended["percent"]) == ("ok", "token:operator", "api", 100)
    assert ended["log"] and ended["started_at"].endswith("+00:00")
    assert [one["backup_name"] for one in api.get("/api/backups/list").json()] == [ended["result"]["backup_name"]]
    assert api.audited() == [
        ("token:operator", "backup", "", "accepted"),
        ("token:operator", "backup", "", "ok"),
    ]


def test_create_sync_has_the_manuals_keys(api: Api) -> None:
    answer = api.post("/api/backups/create-sync", "operator").json()
    assert answer["message"] == "Backup created successfully"
    backup = answer["backup"]
    assert backup["success"] is True and backup["size_mb"] > 0
    assert Path(backup["archive_path"]).is_file()
    assert backup["metadata"]["backup_name"] == backup["backup_name"]
    assert api.get("/api/backups/status/health").json()["most_recent_backup"]["backup_name"] == backup["backup_name"]


def test_one_backup_at_a_time(api: Api) -> None:
    with _held(api):
        job = api.post("/api/backups/create").json()["job_id"]
        is_error(api.post("/api/backups/create"), 409, "busy")
        is_error(api.post("/api/backups/create-sync"), 409, "busy")
        waiting = api.post("/api/backups/create?wait=true").json()["job_id"]
        is_error(api.post("/api/backups/create?wait=true"), 409, "busy")
    assert [api.ended(one)["state"] for one in (job, waiting)] == ["ok", "ok"]


def test_a_disabled_service_makes_no_backups(database: Database, tmp_path: Path) -> None:
    with api_on(database, tmp_path, BACKUP_ENABLED="false") as api:
        for path in ("create", "create-sync"):
            is_error(api.post(f"/api/backups/{path}"), 503, "disabled")
        assert api.get("/api/backups/status/health").json()["status"] == "disabled"
        assert api.scene.archives() == []
        assert [one[3] for one in api.audited()] == ["accepted", "failed"] * 2


def test_a_failed_backup_answers_with_its_reason(database: Database, tmp_path: Path) -> None:
    with api_on(database, tmp_path, DB_NAME="nowhere") as api:
        answer = api.post("/api/backups/create-sync")
        is_error(answer, 500, "database")
        assert "nowhere" in answer.json()["message"] and answer.json()["hint"]


def test_a_cancelled_backup_leaves_nothing(database: Database, tmp_path: Path) -> None:
    slow = tools(tmp_path / "slow", database.server.bin, "exec sleep 60")
    with api_on(database, tmp_path, BACKUP_PG_BIN=str(slow)) as api:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(api.post("/api/backups/create-sync")))
        thread.start()
        until(lambda: bool(list(api.scene.backups.glob(".*.partial"))), "a backup is under way")
        job = api.get("/api/jobs").json()["jobs"][0]["id"]
        assert api.post(f"/api/jobs/{job}/cancel", "operator").json()["job_id"] == job
        thread.join(15)
        is_error(answers[0], 409, "cancelled")
        assert api.scene.leftovers() == [] and api.scene.archives() == []
        assert api.post(f"/api/jobs/{job}/cancel", "operator").json()["message"] == f"Job {job} had ended already"


def test_verify_answers_in_the_manuals_shape(with_backup: tuple[Api, str]) -> None:
    api, name = with_backup
    answer = api.post(f"/api/backups/verify/{name}", "operator").json()
    assert answer["message"] == "Backup verification passed"
    wanted = ("success", "backup_name", "backup_date", "total_files", "database_backup", "size_mb")
    assert keys(answer["verification"], *wanted)["success"] is True


def test_a_damaged_backup_is_told_so(api: Api) -> None:
    name = api.backup()
    archive = api.scene.backups / f"{name}.tar.gz"
    raw = bytearray(archive.read_bytes())
    raw[len(raw) // 3] ^= 1
    archive.write_bytes(raw)
    answer = api.post(f"/api/backups/verify/{name}")
    assert (answer.status_code, answer.json()["message"][:27]) == (422, "Backup verification failed:")
    assert answer.json()["code"] in ("damaged", "verify_failed")
    archive.write_bytes(raw[:1000])
    is_error(api.get(f"/api/backups/{name}/contents"), 422, "damaged")
    time.sleep(0.1)
    api.service.listing.changed()
    body = {"backup_name": name, "confirm": True}
    is_error(api.post("/api/backups/restore", json=body), 422, "damaged")


def test_a_restore_brings_the_data_back(api: Api) -> None:
    name = api.backup()
    api.scene.execute("DELETE FROM reports")
    body = f'{{"backup_name": "{name}", "restore_config": false, "restore_files": false, "confirm": true}}'
    # As curl -d sends it.
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = api.post("/api/backups/restore", content=body, headers=headers).json()
    assert api.ended(answer.pop("job_id"))["state"] == "ok"
    date = api.get(f"/api/backups/{name}").json()["datetime"]
    assert answer == {
        "message": "Restore started in background",
        "backup_name": name,
        "backup_date": date,
        "status": "processing",
        "warning": "Application may need to be restarted after restore completes",
    }
    assert api.scene.execute("SELECT count(*) FROM reports") == [(2000,)]
    api.scene.drop_previous()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{",
        '{"backup_name": "NAME"}',
        '{"backup_name": "NAME", "confirm": false}',
        '{"backup_name": "NAME", "confirm": "true"}',
        '{"backup_name": "NAME", "confirm": 1}',
        '{"backup_name": "NAME", "confirm": [true]}',
        '{"backup_name": "NAME", "confirm": false, "confirm": true}',
        '{"backup_name": "NAME", "confirm": true, "force": true}',
        '{"backup_name": "NAME", "confirm": true, "restore_database": "no"}',
        '{"backup_name": "NAME", "confirm": true, "restore_database": null}',
        '{"backup_name": 1, "confirm": true}',
        '{"confirm": true}',
        '{"backup_name": "NAME", "confirm": true, '
        '"restore_database": false, "restore_config": false, "restore_files": false}',
        "[" * 50_000,
        "backup_name=NAME&confirm=true",
        "\ufeff{}",
    ],
)
def test_a_restore_that_is_not_clearly_wanted_does_nothing(with_backup: tuple[Api, str], body: str) -> None:
    api, name = with_backup
    before = len(api.service.state.jobs.latest(1000))
    is_error(api.post("/api/backups/restore", content=body.replace("NAME", name).encode()), 422, "validation")
    assert len(api.service.state.jobs.latest(1000)) == before
    assert api.audited()[-1][1::2] == ("restore", "refused")


def test_a_restore_of_what_is_not_there(with_backup: tuple[Api, str]) -> None:
    api, _ = with_backup
    for name in ("radiology_backup_20200101_000000", "../../etc/passwd", "a\x00b"):
        body = json.dumps({"backup_name": name, "confirm": True})
        is_error(api.post("/api/backups/restore", content=body), 404, "not_found")
    is_error(
        api.post("/api/backups/restore", content=b'{"backup_name": "\\ud800", "confirm": true}'), 422, "validation"
    )
    assert "s3cret" not in api.post("/api/backups/restore", json={"password": "s3cret"}).text
    is_error(api.post("/api/backups/restore", content=b"x" * 100_000), 413, "too_large")


def test_deleting(api: Api) -> None:
    name = api.backup()
    assert api.post(f"/api/backups/{name}/pin").json() == {"backup_name": name, "pinned": True}
    is_error(api.call("DELETE", f"/api/backups/{name}"), 422, "usage")
    assert api.call("DELETE", f"/api/backups/{name}/pin").json()["pinned"] is False
    answer = api.call("DELETE", f"/api/backups/{name}").json()
    assert answer["message"] == f"Backup {name} deleted successfully"
    assert api.get("/api/backups/list").json() == [] and api.scene.archives() == []
    is_error(api.call("DELETE", f"/api/backups/{name}"), 404, "not_found")
    job = api.get("/api/jobs?kind=delete").json()["jobs"][-1]
    assert (job["state"], job["actor"], job["origin"]) == ("failed", "token:admin", "api")
    assert ("token:admin", "delete", name, "ok") in api.audited()
    assert api.audited()[-1] == ("token:admin", "delete", name, "refused")


def test_prune(api: Api) -> None:
    first = api.backup()
    api.backup()
    plan = api.post("/api/backups/prune", json={"dry_run": True}).json()
    assert plan["prune"]["dry_run"] is True and plan["job_id"] is None
    assert {one["backup_name"] for one in plan["prune"]["plan"]} >= {first}
    done = api.post("/api/backups/prune").json()
    assert done["prune"]["dry_run"] is False and api.ended(done["job_id"])["kind"] == "prune"
    is_error(api.post("/api/backups/prune", content=b'{"dry_run": "yes"}'), 422, "validation")


def test_what_can_not_be_audited_is_not_done(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise StateError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(api.service.state.audit, "append", full)
        is_error(api.post("/api/backups/create"), 503, "state")
    assert api.get("/api/jobs").json()["jobs"] == []


def test_pages(with_backup: tuple[Api, str]) -> None:
    api, name = with_backup
    for second in range(5):
        (api.scene.backups / f"radiology_backup_2020010{second + 1}_000000.tar.gz").write_bytes(b"junk")
    whole = [one["backup_name"] for one in api.get("/api/backups/list").json()]
    assert len(whole) >= 6 and name in whole
    seen, path = [], "/api/backups/list?limit=2"
    while True:
        answer = api.get(path)
        seen += [one["backup_name"] for one in answer.json()]
        if "x-next-cursor" not in answer.headers:
            break
        path = answer.headers["link"].partition(">")[0].removeprefix("<")
    assert seen == whole
    for junk in api.scene.backups.glob("radiology_backup_2020*"):
        junk.unlink()
    is_error(api.get("/api/backups/list?cursor=x"), 422, "usage")
    is_error(api.get("/api/backups/list?limit=0"), 422, "validation")
