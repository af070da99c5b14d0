"""The plan of a restore, and restores that leave everything live as it is, over HTTP."""

from __future__ import annotations

import pytest

from tests.api.calling import Api, is_error


def test_a_plan_touches_nothing_and_says_all(with_backup: tuple[Api, str]) -> None:
    api, name = with_backup
    plan = api.post("/api/backups/restore/plan", json={"backup_name": name}).json()
    assert plan["success"] is True and plan["problems"] == [] and plan["makes"] == []
    assert plan["database"]["replaces"] is True and plan["database"]["server"]["server_version"]
    assert plan["database"]["kept_as"].endswith("_previous_YYYYMMDDhhmmss_xxxxxx")
    assert plan["bytes"] == plan["database"]["dump_bytes"] + plan["files_bytes"]
    later = api.post("/api/backups/restore/plan", json={"as_of": "2999-01-01 00:00"}).json()
    # Other tests of this module's application may have taken backups since.
    assert later["backup_name"] == api.get("/api/backups/list").json()[0]["backup_name"]
    is_error(api.post("/api/backups/restore/plan", json={"as_of": "2001-01-01 00:00"}), 404, "not_found")
    is_error(api.post("/api/backups/restore/plan", json={"backup_name": "nothing"}), 404, "not_found")


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"as_of": "yesterday"},
        {"backup_name": "NAME", "as_of": "2999-01-01 00:00"},
        {"backup_name": "NAME", "into": "x", "tables": ["y"]},
        {"backup_name": "NAME", "into": "x" * 64},
        {"backup_name": "NAME", "tables": "reports"},
        {"backup_name": "NAME", "roles": "all"},
        {"backup_name": "NAME", "to_server": "postgresql://u:p4ssw0rd@h/d"},
        {"backup_name": "NAME", "folder": "/etc"},
    ],
)
def test_what_is_not_clearly_wanted_does_nothing(with_backup: tuple[Api, str], wanted: dict[str, object]) -> None:
    api, name = with_backup
    body = {key: name if value == "NAME" else value for key, value in wanted.items()}
    answer = api.post("/api/backups/restore/plan", json=body)
    assert answer.status_code == 422 and answer.json()["code"] in ("validation", "usage")
    assert "p4ssw0rd" not in answer.text


def test_a_table_comes_beside_the_present_one(api: Api) -> None:
    name = api.backup()
    (table,) = api.scene.execute("SELECT min(relname) FROM pg_stat_user_tables WHERE schemaname = 'public'")[0]
    job = api.post("/api/backups/restore", json={"backup_name": name, "tables": [table], "confirm": True}).json()[
        "job_id"
    ]
    ended = api.ended(job)
    assert ended["state"] == "ok", ended
    (made,) = ended["result"]["made"]
    assert made["source"] == f"public.{table}"
    assert api.scene.execute(f"SELECT count(*) FROM {made['name']}") == api.scene.execute(
        f"SELECT count(*) FROM {table}"
    )
