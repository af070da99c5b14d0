"""Restores in place: one transaction for a role that may not create databases; whole or not at all."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import psycopg
import pytest

from resurgam.api.requests import RestoreRequest
from resurgam.errors import RestoreFailed, RestoreRefused, UsageError
from resurgam.keeping import undo
from resurgam.operations import restore, restore_in_place
from resurgam.operations.restore import Parts, Wishes
from resurgam.operations.restore_plan import restore_wanted
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database, Role
from tests.operations.scene import Scene, lost, scene_for

IN_PLACE = Wishes(in_place=True)
_MORE = (
    "CREATE SCHEMA app",
    "CREATE TYPE app.mood AS ENUM ('well', 'ill')",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE TYPE span AS RANGE (subtype = int4)",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE SEQUENCE app.own START 7",
    "CREATE FUNCTION app.twice(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n * 2'",
    "CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')",
    "CREATE OPERATOR app.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)",
    'CREATE COLLATION app.plain FROM "C"',
    "CREATE TEXT SEARCH CONFIGURATION app.words (COPY = pg_catalog.simple)",
    "CREATE TABLE app.visits (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mood app.mood, n positive, s span, "
    "p pair, twice int GENERATED ALWAYS AS (app.twice(7)) STORED) ",
    "INSERT INTO app.visits (mood, n) SELECT 'ill', n FROM generate_series(1, 300) n",
    "CREATE TABLE app.notes (visit int REFERENCES app.visits, at date) PARTITION BY RANGE (at)",
    "CREATE TABLE app.notes_2024 PARTITION OF app.notes FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    "INSERT INTO app.notes SELECT n, '2024-05-05' FROM generate_series(1, 300) n",
    "CREATE STATISTICS app.visits_stats ON mood, n FROM app.visits",
    "CREATE MATERIALIZED VIEW app.summary AS SELECT mood, count(*) FROM app.visits GROUP BY 1",
    "CREATE VIEW seen AS SELECT * FROM app.summary",
    "SELECT lo_from_bytea(0, 'an image')",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA app REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
    "GRANT SELECT ON app.visits TO PUBLIC",
    "CREATE PUBLICATION changes FOR TABLE app.visits",
)
_LATER = (
    "DELETE FROM app.visits WHERE id > 1000",
    "DELETE FROM app.notes",
    "DROP VIEW seen",
    "CREATE TABLE later (id int)",
    "CREATE SCHEMA later_too",
    "CREATE TABLE later_too.t (id int)",
    "CREATE FUNCTION later_too.f(later) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT lo_from_bytea(0, 'later')",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
)


@pytest.fixture
def scene(owned_database: Database, owner_role: Role, tmp_path: Path) -> Scene:
    made = scene_for(owned_database, tmp_path, owner_role).make(reports=20)
    made.administer(f"ALTER ROLE {owner_role.name} NOCREATEDB")
    made.execute(*_MORE)
    return made


@pytest.fixture
def taken(scene: Scene) -> str:
    with scene.service() as service:
        return service.backup().name


def _catalog(scene: Scene) -> list[object]:
    """What the fingerprint of the demo does not look at: rights by default, of the schema public, publications."""
    ours = "IN ('public', 'app') ORDER BY 1"
    queries = (
        "SELECT defaclobjtype, defaclnamespace::regnamespace::text, defaclacl::text FROM pg_default_acl ORDER BY 1, 2",
        "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
        "SELECT pubname FROM pg_publication",
        f"SELECT relname, relacl::text FROM pg_class WHERE relnamespace::regnamespace::text {ours}",
        f"SELECT typname FROM pg_type WHERE typnamespace::regnamespace::text {ours}",
    )
    return [scene.execute(query) for query in queries]


def _change(scene: Scene) -> None:
    scene.execute(*_LATER)
    scene.wreck()


def test_everything_is_as_in_the_backup_on_every_version(pg: EmbeddedServer, scene: Scene, taken: str) -> None:
    before, catalog = scene.seen(), _catalog(scene)
    _change(scene)
    with scene.service() as service:
        with pytest.raises(RestoreRefused, match="--in-place"):
            service.restore(taken, Parts())
        assert service.plan_restore(taken, Parts(), IN_PLACE).problems == ()
        result = service.restore(taken, Parts(), Wishes(in_place=True, full_check=True))
        assert lost(before, scene.seen()) == []
        assert _catalog(scene) == catalog
        assert result.previous_database is None and result.safety_backup is not None
        assert f"restore {result.safety_backup}" in " ".join(result.warnings)
        assert service.state.journals()[-1].outcome == "completed"
        with pytest.raises(RestoreRefused, match=str(result.safety_backup)):
            undo(service)
    assert scene.leftovers() == [] and scene.databases() == set()


def test_the_safety_backup_takes_it_back(scene: Scene, taken: str) -> None:
    # A view out of date would be refreshed, and rights come in another order, as in every restore.
    scene.execute("DELETE FROM app.notes WHERE visit > 5")
    (scene.app / "uploads" / "changed.txt").write_text("later")
    before = scene.seen()
    with scene.service() as service:
        result = service.restore(taken, Parts(), IN_PLACE)
        service.restore(str(result.safety_backup), Parts(), IN_PLACE)
    assert lost(before, scene.seen()) == []


def test_a_failure_in_the_middle_leaves_the_old_whole(
    scene: Scene, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _change(scene)
    before, catalog = scene.seen(), _catalog(scene)

    def fail(*_: object) -> None:
        raise RestoreFailed("told to fail")

    with scene.service() as service:
        for module, name in (
            (restore_in_place, "require_rows"),
            (restore, "swap_in"),
            (restore_in_place.InPlace, "commit"),
        ):
            with monkeypatch.context() as patched:
                patched.setattr(module, name, fail)
                with pytest.raises(RestoreFailed, match="told to fail"):
                    service.restore(taken, Parts(), IN_PLACE)
            assert lost(before, scene.seen()) == []
            assert _catalog(scene) == catalog
            assert service.state.journals()[-1].outcome == "reverted"
    assert scene.leftovers() == []


def test_others_see_the_old_until_the_commit_and_then_the_new(
    scene: Scene, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _change(scene)
    scene.execute("CREATE TABLE app.probe (id int)")
    found: list[object] = []
    real = restore_in_place.InPlace.commit

    def commit(self: restore_in_place.InPlace) -> float:
        found.append(scene.execute("SELECT to_regclass('app.probe')::text, to_regclass('seen')::text"))
        waiting = threading.Thread(target=lambda: found.append(scene.execute("SELECT count(*) FROM app.notes")))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        try:
            return real(self)
        finally:
            waiting.join(10)

    monkeypatch.setattr(restore_in_place.InPlace, "commit", commit)
    with scene.service() as service:
        service.restore(taken, Parts(), IN_PLACE)
    assert found == [[("app.probe", None)], [(300,)]]
    assert scene.execute("SELECT to_regclass('app.probe')::text, to_regclass('seen')::text") == [(None, "seen")]


def test_sessions_that_hold_locks_are_ended(scene: Scene, taken: str) -> None:
    with psycopg.connect(scene.dsn) as holder:
        holder.execute("SELECT count(*) FROM app.visits")
        with scene.service() as service:
            service.restore(taken, Parts(), IN_PLACE)
        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT 1")
        holder.close()


def test_what_others_own_refuses_it(scene: Scene, taken: str) -> None:
    with psycopg.connect(scene.server.dsn(scene.database), autocommit=True) as admin:
        admin.execute("CREATE TABLE app.theirs (id int)")
    before = scene.seen(scene.server.dsn(scene.database))
    with scene.service() as service, pytest.raises(RestoreRefused, match=r"table app\.theirs of"):
        service.restore(taken, Parts(), IN_PLACE)
    assert lost(before, scene.seen(scene.server.dsn(scene.database))) == []


def test_an_extension_of_others_stays(scene: Scene) -> None:
    with psycopg.connect(scene.server.dsn(scene.database), autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
    with scene.service() as service:
        name = service.backup().name
        before = scene.seen()
        _change(scene)
        service.restore(name, Parts(), IN_PLACE)
    assert lost(before, scene.seen()) == []
    assert scene.execute("SELECT count(*) FROM pg_extension WHERE extname = 'vector'") == [(1,)]


def test_wishes_that_do_not_go_together(scene: Scene, taken: str) -> None:
    with scene.service() as service:
        for parts, wishes in (
            (Parts(), Wishes(in_place=True, safety=False)),
            (Parts(), Wishes(in_place=True, into="other")),
            (Parts(False, True, True), IN_PLACE),
        ):
            with pytest.raises(UsageError):
                service.restore(taken, parts, wishes)


def test_the_api_knows_it() -> None:
    body = {"backup_name": "radiology_backup", "in_place": True, "confirm": True}
    assert restore_wanted(RestoreRequest.model_validate(body).asked())[1].in_place
    with pytest.raises(ValueError, match="can't be left out"):
        RestoreRequest.model_validate({**body, "safety_backup": False})


_STEPS = (
    (restore_in_place, "dropping", False),
    (restore_in_place, "require_rows", False),
    (restore, "swap_in", False),
    (restore_in_place.InPlace, "commit", False),
    (restore, "mark_kept", True),  # right after COMMIT, which the journal does not know of
    (restore, "settle_restore", True),
)


@pytest.mark.parametrize(("place", "step", "committed"), _STEPS, ids=[step for _, step, _ in _STEPS])
def test_a_kill_leaves_old_or_new_whole(scene: Scene, taken: str, place: object, step: str, committed: bool) -> None:
    before = scene.seen()
    _change(scene)
    later = scene.seen()
    _killed_at(scene, taken, place, step)
    with scene.service() as service:
        (journal,) = service.state.open_journals()
        service.backup()  # settles it first
        found = service.state.journal(journal.restore_id)
        assert found is not None
        assert found.outcome == ("completed" if committed else "reverted")
    assert lost(before if committed else later, scene.seen()) == []
    assert scene.leftovers() == []


def _killed_at(scene: Scene, name: str, place: object, step: str) -> None:
    """A process of its own restores, and is killed where it would do that."""
    pid = os.fork()
    if pid == 0:
        setattr(place, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            with scene.service() as service:
                service.restore(name, Parts(), IN_PLACE)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
