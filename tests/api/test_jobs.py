"""Jobs as the API shows and cancels them, and what the audit log hears of calls."""

from __future__ import annotations

from pathlib import Path

from tests.api.calling import Api, api_on, is_error, until
from tests.clusters import Database
from tests.operations.scene import tools


def test_jobs_by_kind_and_page(api: Api) -> None:
    name = api.backup()
    for _ in range(3):
        assert api.post(f"/api/backups/verify/{name}").status_code == 200
    first = api.get("/api/jobs?kind=verify&limit=2").json()
    second = api.get(f"/api/jobs?kind=verify&limit=2&cursor={first['next_cursor']}").json()
    ids = [one["id"] for one in first["jobs"] + second["jobs"]]
    assert ids == sorted(ids, reverse=True) and len(ids) == 3 and second["next_cursor"] is None
    assert {one["kind"] for one in api.get("/api/jobs").json()["jobs"]} == {"verify", "backup"}
    shown = api.get(f"/api/jobs/{ids[0]}", "viewer").json()
    assert shown["result"]["backup_name"] == name and shown["request"]["name"] == name
    assert [line["text"] for line in shown["log"]] == [f"Verifying {name}"]
    is_error(api.get("/api/jobs/12345"), 404, "not_found")


def test_an_operator_ends_only_what_an_operator_may_start(api: Api) -> None:
    job = api.post("/api/backups/prune", json={}).json()["job_id"]
    is_error(api.post(f"/api/jobs/{job}/cancel", "operator"), 403, "forbidden")
    assert api.post(f"/api/jobs/{job}/cancel").json()["state"] == "ok"
    is_error(api.post("/api/jobs/4711/cancel"), 404, "not_found")
    assert api.audited()[-1] == ("token:admin", "cancel", "4711", "refused")


def test_progress_is_seen_while_it_runs(database: Database, tmp_path: Path) -> None:
    slow = tools(tmp_path / "slow", database.server.bin, "sleep 2")
    with api_on(database, tmp_path, BACKUP_PG_BIN=str(slow)) as api:
        job = api.post("/api/backups/create").json()["job_id"]
        until(lambda: api.get(f"/api/jobs/{job}").json()["phase"] != "", "it says what it does")
        shown = api.get(f"/api/jobs/{job}").json()
        assert shown["state"] == "running" and shown["finished_at"] is None and shown["result"] is None
        assert api.get("/api/backups/status/health").json()["running_job_id"] == job
        assert api.ended(job)["state"] == "ok"


def test_refusals_without_a_name_are_noted_and_a_flood_of_them_counted(api: Api) -> None:
    for number in range(50):
        assert api.elsewhere(f"10.1.0.{number}").post("/api/backups/create").status_code == 401
    noted = [one for one in api.audited() if one == ("", "backup", "", "refused")]
    assert len(noted) == 20
    api.scene.clock.sleep(61)
    api.elsewhere("10.2.0.1").post("/api/backups/create")
    newest = api.get("/api/backups/audit?limit=1").json()["entries"][0]
    assert newest["details"] == {"status": 401, "address": "10.2.0.1", "code": "unauthorized", "more_refused": 30}
    assert not api.service.state.audit.verify().problems


def test_the_audit_log_is_paged(api: Api) -> None:
    for _ in range(5):
        api.post("/api/backups/create", "viewer")
    first = api.get("/api/backups/audit?limit=3").json()
    second = api.get(f"/api/backups/audit?limit=3&cursor={first['next_cursor']}").json()
    ids = [one["id"] for one in first["entries"] + second["entries"]]
    assert ids == list(range(ids[0], ids[0] - 6, -1))
    assert first["entries"][0]["actor"] == "token:viewer" and first["entries"][0]["details"]["code"] == "forbidden"
