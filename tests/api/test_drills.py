"""Drills by the API: a job whose result is the evidence."""

from __future__ import annotations

from typing import Any

from tests.api.calling import Api


def test_a_drill_is_a_job_of_an_operator(api: Api) -> None:
    name = api.backup()
    bodies: list[dict[str, Any]] = [{}, {"json": {"backup_name": name}}]
    for body in bodies:
        answer = api.post("/api/backups/drill", "operator", **body)
        assert answer.status_code == 200, answer.text
        job = api.ended(answer.json()["job_id"])
        assert (job["kind"], job["state"]) == ("drill", "ok")
        assert (job["result"]["backup_name"], job["result"]["outcome"]) == (name, "passed")
    health = api.call("GET", "/api/backups/status/health").json()
    assert health["last_drill_outcome"] == "passed" and health["rto_seconds"] > 0 and health["last_drill_at"]
    metrics = api.call("GET", "/metrics").text
    assert "resurgam_last_drill_success{" in metrics and "resurgam_drill_rto_seconds{" in metrics
    absent = {"backup_name": "radiology_backup_20200101_000000"}
    assert api.post("/api/backups/drill", json=absent).status_code == 404
    assert api.call("POST", "/api/backups/prune", json={"accept": True}).json()["prune"]["frozen"] == []
