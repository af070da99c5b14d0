"""Where a superuser drills, a login without any right loads: what it can't is named, and never a difference hidden."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resurgam.errors import DatabaseError
from resurgam.operations import drill_login, drill_server
from resurgam.postgres import plain_login
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.settings import Secret
from tests.clusters import Database, create_database
from tests.operations.backups import small_scene
from tests.operations.drilling import edited, run, scratch_of
from tests.operations.scene import Scene, tools


def _letting_in(server: EmbeddedServer, *lines: str) -> None:
    (server.data_dir / "pg_hba.conf").write_text("".join(f"{line}\n" for line in lines))
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        session.execute("SELECT pg_reload_conf()")
    time.sleep(0.3)


@pytest.fixture(scope="module")
def reserved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """On a server that lets nobody in but its superuser, as `peer` does; with a backup."""
    with EmbeddedServer(major=16, fsync=False) as server:
        scene = small_scene(create_database(server), tmp_path_factory.mktemp("reserved"))
        with scene.service() as service:
            service.backup()
        _letting_in(server, "host all postgres 127.0.0.1/32 scram-sha-256", "host all all all reject")
        yield scene


def test_a_login_that_the_server_refuses_drills_on_a_throw_away_server(reserved: Scene) -> None:
    result = run(reserved)
    assert (result.outcome, result.report["server"], result.report["rights"]) == ("passed", "embedded", "plain")
    assert "let no role without superuser rights in" in " ".join(result.warnings)


def test_without_one_the_superuser_drills_and_health_says_so(
    reserved: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(drill_server, "packaged_installations", dict)
    monkeypatch.setattr(drill_server, "_INSTALLED", str(tmp_path / "{}"))
    programs = str(tools(tmp_path / "bin", reserved.server.bin))
    result = run(reserved, BACKUP_PG_BIN=programs)
    assert (result.outcome, result.report["server"], result.report["rights"]) == ("passed", "same", "superuser")
    assert "loaded by the superuser postgres" in " ".join(result.warnings)
    with reserved.service() as service:
        assert "drill_as_superuser" in {reason.code for reason in service.health().reasons}


def test_the_password_of_the_login_is_nowhere(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in what the server was told, nor in the state, the evidence, the log, or an argument list."""
    scene = small_scene(database, tmp_path)
    listed = tmp_path / "listed"
    programs = tools(tmp_path / "bin", scene.server.bin, f"ps -eo args >> {listed}; env >> {listed}")
    made: list[str] = []

    def remembered(*given: Any, **named: Any) -> Secret:
        secret = plain_login.create_login(*given, **named)
        made.append(secret.reveal())
        return secret

    monkeypatch.setattr(drill_login, "create_login", remembered)
    scene.administer("ALTER SYSTEM SET log_statement = 'all'")
    scene.administer("SELECT pg_reload_conf()")
    try:
        with scene.service(BACKUP_PG_BIN=str(programs)) as service:
            service.backup()
            listed.unlink()
            assert service.drill().passed
    finally:
        scene.administer("ALTER SYSTEM RESET log_statement")
        scene.administer("SELECT pg_reload_conf()")
    (password,) = made
    log = scene.server.log_path.read_text(errors="replace")
    assert "CREATE ROLE" in log and "SCRAM-SHA-256$" in log and password not in log
    assert "pg_dump" in listed.read_text() and password not in listed.read_text()
    kept = [path for path in scene.root.rglob("*") if path.is_file() and not path.name.endswith(".tar.gz")]
    assert any(path.name.startswith("state.sqlite") for path in kept)
    assert [path for path in kept if password.encode() in path.read_bytes()] == []


def test_forced_row_security_hides_no_row_from_a_drill(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    scene.execute(
        "ALTER TABLE reports ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE reports FORCE ROW LEVEL SECURITY",
        "CREATE POLICY none ON reports USING (false)",
    )
    with scene.service() as service:
        service.backup()
    result = run(scene)
    assert (result.outcome, result.report["differences"], result.report["fingerprint"]) == ("passed", [], "equal")


def _event_trigger(scene: Scene) -> None:
    scene.execute(
        "CREATE FUNCTION noticed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION noticed()",
    )


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda dump: dump.replace(b"ON ddl_command_end", b"ON sql_drop", 1), "TRIGGER watch is defined otherwise"),
        (lambda dump: re.sub(rb"CREATE EVENT TRIGGER watch[^;]*;", b"", dump, count=1), "TRIGGER watch is missing"),
        (
            lambda dump: dump.replace(
                b"TABLE public.users OWNER TO postgres", b"TABLE public.users OWNER TO pg_monitor"
            ),
            "OWNER TABLE public.users is defined otherwise",
        ),
    ],
    ids=["changed", "removed", "owner"],
)
def test_what_is_not_loaded_is_still_compared(
    database: Database, tmp_path: Path, edit: Callable[[bytes], bytes], said: str
) -> None:
    scene = small_scene(database, tmp_path)
    _event_trigger(scene)
    with scene.service() as service:
        sound = service.backup().name
    whole = run(scene, sound)
    assert (whole.outcome, whole.report["fingerprint"]) == ("passed", "equal")
    assert "EVENT TRIGGER watch: event triggers are a superuser's." in whole.report["not_loaded"]
    scene.clock.sleep(2)
    result = run(scene, edited(scene, edit))
    assert result.outcome == "failed" and said in " ".join(result.report["differences"])


def test_a_database_that_one_role_drills_for_another(database: Database, tmp_path: Path) -> None:
    """Rights among plain roles come back, those that owners gave themselves are named, and nobody gains any."""
    scene = small_scene(database, tmp_path)
    scene.execute(
        "REVOKE ALL ON users FROM postgres",
        "GRANT SELECT ON users TO postgres",
        "GRANT SELECT ON reports TO pg_monitor",
    )
    with scene.service() as service:
        service.backup()
    result = run(scene)
    assert (result.outcome, result.report["differences"]) == ("passed", [])
    assert any("rights of the owner, postgres" in one for one in result.report["not_loaded"])


def test_no_superuser_loads_because_no_connection_is_free(reserved: Scene) -> None:
    """What keeps the login out is not always pg_hba.conf."""
    server = reserved.server
    _letting_in(server, "host all all 127.0.0.1/32 scram-sha-256")
    with reserved.service() as service:
        module: Any = drill_login
        real = module.create_database

        def limited(connection: Any, name: str, *given: Any, **named: Any) -> None:
            real(connection, name, *given, **named)
            connection.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(drill_login, "create_database", limited)
            with pytest.raises(DatabaseError, match="too many connections") as caught:
                service.drill()
        last = service.state.drills.last()
    assert "pg_hba.conf" in caught.value.hint
    assert last is not None and (last.outcome, last.report["rights"]) == ("error", None)
    assert scratch_of(reserved) == []


def test_a_server_that_makes_no_login_is_no_verdict_on_the_backup(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = small_scene(database, tmp_path)
    monkeypatch.setattr(plain_login, "_POWERLESS", "NOTHING")
    with scene.service() as service:
        service.backup()
        with pytest.raises(DatabaseError, match="could not be made"):
            service.drill()
        last = service.state.drills.last()
    assert last is not None and last.outcome == "error"
    assert scratch_of(scene) == []
