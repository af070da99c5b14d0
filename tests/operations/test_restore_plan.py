"""A plan names everything that stands in the way, each by a real cause, and touches nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from resurgam.demo.proof import differences
from resurgam.errors import RestoreRefused
from resurgam.operations.restore import Parts, RestorePlan, Wishes
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.properties import read_properties
from resurgam.postgres.target import creation_problems
from tests.clusters import Database, Role
from tests.operations.backups import small_scene
from tests.operations.scene import Scene, scene_for

DATABASE = Parts(True, False, False)


@pytest.fixture
def small(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


@pytest.fixture
def gone(small: Scene) -> Iterator[tuple[Scene, str, str]]:
    """A backup whose dump names a role as owner and grantee that the server does not have any more."""
    role = f"gone_{uuid.uuid4().hex[:8]}"
    small.execute(
        f"CREATE ROLE {role} NOLOGIN CREATEDB",
        f"ALTER TABLE reports OWNER TO {role}",
        f"GRANT SELECT ON users TO {role}",
    )
    with small.service() as service:
        name = service.backup().name
    small.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER", f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    yield small, name, role
    small.drop_previous()
    if small.administer(f"SELECT FROM pg_roles WHERE rolname = '{role}'"):
        small.execute(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def _plan(scene: Scene, name: str, parts: Parts = DATABASE, wishes: Wishes | None = None) -> RestorePlan:
    with scene.service() as service:
        return service.plan_restore(name, parts, wishes)


def test_the_plan_of_a_sound_restore(small: Scene) -> None:
    with small.service() as service:
        name = service.backup().name
    (small.app / "docker-compose.yml").write_text("x = 2\nDB_PASSWORD: hunter2hunter2\n")
    with psycopg.connect(small.dsn, application_name="gunicorn"):
        plan = _plan(small, name, Parts())
    assert plan.problems == ()
    told = plan.to_json()
    server = told["database"]["server"]
    assert server["sessions"] == [
        {"user": small.role, "application": "gunicorn", "address": server["sessions"][0]["address"], "count": 1}
    ]
    assert server["database_bytes"] > 1_000_000
    assert told["bytes"] == told["database"]["dump_bytes"] + told["files_bytes"]
    assert told["estimated_seconds"] is None
    diff = told["config_diffs"]["docker-compose.yml"]
    assert "-x = 2" in diff and "+x = 1" in diff
    assert "hunter2" not in str(told)
    assert list(told["config_diffs"]) == ["docker-compose.yml"]


def test_an_earlier_restore_tells_how_long_the_next_takes(small: Scene) -> None:
    with small.service() as service:
        name = service.backup().name
        service.restore(name, DATABASE)
        plan = service.plan_restore(name, DATABASE)
    assert plan.estimate.seconds is not None and 0 < plan.estimate.seconds < 60 and plan.estimate.runs == 1


def test_a_plan_leaves_no_state_behind(small: Scene) -> None:
    with small.service() as service:
        name = service.backup().name
    state = small.backups / "state.sqlite"
    state.rename(small.root / "away")
    _plan(small, name)
    assert not state.exists()


def test_a_missing_role_is_a_problem_by_default(gone: tuple[Scene, str, str]) -> None:
    scene, name, role = gone
    plan = _plan(scene, name)
    assert len(plan.problems) == 1 and role in plan.problems[0] and "--roles" in plan.problems[0]
    assert plan.to_json()["database"]["missing_roles"] == [role]
    with scene.service() as service, pytest.raises(RestoreRefused):
        service.restore(name, DATABASE)


def test_a_missing_role_can_be_left_out(gone: tuple[Scene, str, str]) -> None:
    scene, name, role = gone
    plan = _plan(scene, name, wishes=Wishes(roles="skip"))
    assert plan.problems == () and any("roles which this server does not have" in told for told in plan.warnings)
    with scene.service() as service:
        service.restore(name, DATABASE, Wishes(roles="skip"))
    assert scene.execute("SELECT count(*) FROM reports") == [(2000,)]
    assert scene.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'reports'") == [(scene.role,)]
    assert not scene.administer(f"SELECT FROM pg_roles WHERE rolname = '{role}'")


def test_a_missing_role_can_be_made_without_power(gone: tuple[Scene, str, str]) -> None:
    scene, name, role = gone
    plan = _plan(scene, name, wishes=Wishes(roles="create"))
    assert plan.problems == () and plan.to_json()["database"]["creates_roles"] == [role]
    assert not scene.administer(f"SELECT FROM pg_roles WHERE rolname = '{role}'")
    with scene.service() as service:
        service.restore(name, DATABASE, Wishes(roles="create"))
    assert scene.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'reports'") == [(role,)]
    assert scene.execute(f"SELECT has_table_privilege('{role}', 'users', 'SELECT')") == [(True,)]
    made = scene.administer(f"SELECT rolcanlogin, rolcreatedb, rolsuper FROM pg_roles WHERE rolname = '{role}'")
    assert made == [(False, False, False)]


def test_roles_made_for_a_restore_that_fails_are_taken_back(
    gone: tuple[Scene, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, name, role = gone

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resurgam.operations.restore.swap_in", fail)
    before = scene.seen()
    with scene.service() as service, pytest.raises(Exception, match="No space left"):
        service.restore(name, DATABASE, Wishes(roles="create"))
    assert not scene.administer(f"SELECT FROM pg_roles WHERE rolname = '{role}'")
    assert differences(before, scene.seen()) == [] and scene.leftovers() == []


def test_a_policy_for_a_missing_role_is_not_left_out(small: Scene) -> None:
    role = f"gone_{uuid.uuid4().hex[:8]}"
    small.execute(
        f"CREATE ROLE {role}", f"CREATE POLICY mine ON reports AS RESTRICTIVE TO {role} USING (id::text > 'to')"
    )
    with small.service() as service:
        name = service.backup().name
    small.execute("DROP POLICY mine ON reports", f"DROP ROLE {role}")
    for choice in ("fail", "skip"):
        (problem,) = _plan(small, name, wishes=Wishes(roles=choice)).problems
        assert role in problem


def test_a_plain_owner_may_not_make_roles(owned_database: Database, owner_role: Role, tmp_path: Path) -> None:
    scene = scene_for(owned_database, tmp_path, owner_role)
    role = f"gone_{uuid.uuid4().hex[:8]}"
    scene.administer(f"CREATE ROLE {role}")
    scene.execute("CREATE TABLE t (id int)", f"GRANT SELECT ON t TO {role}")
    wishes = Wishes(roles="create")
    with scene.service(BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none") as service:
        name = service.backup().name
        scene.execute(f"REVOKE ALL ON t FROM {role}")
        scene.administer(f"DROP ROLE {role}")
        (problem,) = service.plan_restore(name, DATABASE, wishes).problems
        assert "may not create roles" in problem and role in problem
        scene.administer(f"ALTER ROLE {owner_role.name} CREATEROLE")
        service.restore(name, DATABASE, wishes)
        assert scene.execute(f"SELECT has_table_privilege('{role}', 't', 'SELECT')") == [(True,)]
        scene.drop_previous()
        scene.execute(f"REVOKE ALL ON t FROM {role}", f"DROP ROLE {role}")


def test_every_problem_by_its_cause(small: Scene) -> None:
    with small.service() as service:
        name = service.backup().name
    slot = f"slot_{uuid.uuid4().hex[:8]}"
    small.execute(
        "CREATE PUBLICATION all_of_it FOR ALL TABLES",
        f"CREATE SUBSCRIPTION s_{slot} CONNECTION 'dbname=x' PUBLICATION y WITH (connect = false)",
        f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')",
    )
    with psycopg.connect(small.dsn) as session:
        session.execute("SELECT 1")
        session.execute(f"PREPARE TRANSACTION '{slot}'")
    try:
        plan = _plan(small, name)
    finally:
        small.execute(
            f"ROLLBACK PREPARED '{slot}'",
            f"SELECT pg_drop_replication_slot('{slot}')",
            f"ALTER SUBSCRIPTION s_{slot} SET (slot_name = NONE)",
            f"DROP SUBSCRIPTION s_{slot}",
        )
    problems = " ".join(plan.problems)
    for told in (
        f"prepared transactions ({slot})",
        f"replication slots hang on {small.database} ({slot})",
        f"s_{slot}",
    ):
        assert told in problems
    assert any("publications (all_of_it)" in warning for warning in plan.warnings)
    assert len(plan.problems) == 3


def test_a_locale_that_an_older_server_does_not_know(pg: EmbeddedServer, database: Database) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as session:
        properties = replace(read_properties(session), provider="builtin", locale="C.UTF-8")
        told = [one for one in creation_problems(session, properties) if "provider builtin" in one]
        assert len(told) == (1 if session.info.server_version < 170_000 else 0)
