"""Names that are none: nothing is found, and no file is touched."""

from __future__ import annotations

import pytest

from tests.api.calling import Api

NAMES = {
    "dots": "..",
    "encoded dots": "%2e%2e",
    "climbing": "..%2f..%2fetc%2fpasswd",
    "twice encoded": "%252e%252e%252fetc",
    "slash": "%2fetc%2fpasswd",
    "backslash": "..%5c..%5cetc",
    "nul": "radiology_backup_20250104_143022%00",
    "newline": "radiology_backup_20250104_143022%0a",
    "not utf-8": "%ff%fe%80",
    "overlong dot": "%c0%ae%c0%ae",
    "surrogate": "%ed%a0%80",
    "right to left": "%e2%80%aeradiology",
    "long": "a" * 10_240,
    "long name": f"{'a' * 10_240}_backup_20250104_143022",
    "partial": ".radiology_backup_20250104_143022.tar.gz.partial",
    "our catalog": "catalog.sqlite",
    "our token": "bootstrap-token",
    "percent": "%",
    "quote": "'%20OR%201=1--",
    "another case": "RADIOLOGY_BACKUP_20250104_143022",
    "full width": "radiology_backup_%ef%bc%92%ef%bc%900250104_143022",
}
PLACES = (
    ("GET", "/api/backups/{}"),
    ("DELETE", "/api/backups/{}"),
    ("POST", "/api/backups/verify/{}"),
    ("GET", "/api/backups/{}/archive"),
    ("GET", "/api/backups/{}/contents"),
    ("POST", "/api/backups/{}/pin"),
    ("DELETE", "/api/backups/{}/pin"),
    ("GET", "/api/jobs/{}"),
    ("POST", "/api/jobs/{}/cancel"),
)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_bad_name_finds_nothing(with_backup: tuple[Api, str], name: str) -> None:
    api, good = with_backup
    jobs = len(api.service.state.jobs.latest(1000))
    before = sorted(path.name for path in api.scene.backups.iterdir())
    for method, place in PLACES:
        answer = api.call(method, place.format(name))
        # What climbs is resolved by the client, and then is another path, or no method of it.
        assert answer.status_code in ((404, 422, 405) if set(name) <= {"."} else (404, 422)), (method, place)
        assert set(answer.json()) - {"problems"} == {"code", "message", "hint"}
        assert len(answer.text) < 1000
    assert sorted(path.name for path in api.scene.backups.iterdir()) == before
    assert len(api.service.state.jobs.latest(1000)) == jobs
    assert api.service.state.pinned() == frozenset()
    assert api.get(f"/api/backups/{good}").status_code == 200


@pytest.mark.parametrize("number", ["0", "-1", "1e3", "9223372036854775808", "99999999999999999999", "0x1", "nan"])
def test_a_job_number_that_is_none(with_backup: tuple[Api, str], number: str) -> None:
    api, _ = with_backup
    assert api.get(f"/api/jobs/{number}").status_code in (404, 422)
    assert api.get(f"/api/jobs?cursor={number}").status_code == 422


def test_added_routes_are_not_taken_for_names(with_backup: tuple[Api, str]) -> None:
    api, _ = with_backup
    for path in ("list", "schedule", "audit", "status/health"):
        assert api.get(f"/api/backups/{path}").status_code == 200
    assert api.get("/api/backups/nothing/here").json()["code"] == "not_found"
    assert api.call("PATCH", "/api/backups/list").status_code == 405
