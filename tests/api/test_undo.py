"""POST /api/backups/undo."""

from __future__ import annotations

from tests.api.calling import Api, is_error


def test_an_undo_is_a_job_that_somebody_confirms(api: Api) -> None:
    scene, name = api.scene, api.backup()
    for body in ({}, {"confirm": False}, {"confirm": True, "force": True}):
        is_error(api.post("/api/backups/undo", json=body), 422, "validation")
    nothing = api.ended(api.post("/api/backups/undo", json={"confirm": True}).json()["job_id"])
    assert (nothing["state"], nothing["code"]) == ("failed", "restore_refused")
    scene.execute("DELETE FROM reports WHERE id > 10")
    wanted = {"backup_name": name, "confirm": True, "safety_backup": True}
    restored = api.ended(api.post("/api/backups/restore", json=wanted).json()["job_id"])
    assert f"{restored['result']['safety_backup']}.tar.gz" in scene.archives()
    assert scene.execute("SELECT count(*) FROM reports") == [(2000,)]
    answer = api.post("/api/backups/undo", json={"confirm": True})
    assert answer.status_code == 200
    done = api.ended(answer.json()["job_id"])
    assert done["kind"] == "undo"
    assert done["result"]["backup_name"] == name
    assert scene.execute("SELECT count(*) FROM reports") == [(10,)]
    assert [entry for entry in api.audited() if entry[1] == "undo" and entry[3] == "ok"]
