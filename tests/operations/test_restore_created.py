"""Dumps that create and connect (`pg_dump --create`): what they say of their database, the new one beside is given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from resurgam.errors import HostileError, RestoreRefused
from resurgam.operations.restore import Parts, Wishes
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.properties import Properties, read_properties
from tests.clusters import Database, Role, create_database, drop_database
from tests.operations.made_archives import dump_archive
from tests.operations.scene import Scene, scene_for
from tests.postgres.dumps import fill, pg_dump

_DATABASE = Parts(True, False, False)


def _properties_of(server: EmbeddedServer, name: str) -> Properties:
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        return read_properties(session, name)


@pytest.fixture(params=["created_{}", "we\"ird \\d=é's {}"])
def created(pg: EmbeddedServer, owner_role: Role, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with everything that belongs to a database and stands in its dump only with --create."""
    made = create_database(pg)
    name = request.param.format(made.name)
    database, role = sql.Identifier(name), sql.Identifier(owner_role.name)
    with psycopg.connect(pg.dsn(), autocommit=True) as session:
        for statement in (
            "ALTER DATABASE {old} RENAME TO {database}",
            "ALTER DATABASE {database} SET search_path TO a, 'B c', public",
            "ALTER DATABASE {database} SET my.own TO E'8\\\\MB\\n'",
            "ALTER ROLE {role} IN DATABASE {database} SET work_mem TO '9MB'",
            "ALTER DATABASE {database} OWNER TO {role}",
            "ALTER DATABASE {database} CONNECTION LIMIT 77",
            "COMMENT ON DATABASE {database} IS 'it''s; \n\\connect here'",
            "GRANT CREATE ON DATABASE {database} TO PUBLIC",
            "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
            "GRANT TEMP ON DATABASE {database} TO pg_monitor WITH GRANT OPTION",
        ):
            session.execute(sql.SQL(statement).format(old=sql.Identifier(made.name), database=database, role=role))
    fill(
        pg, name, "CREATE TABLE public.kept (id int PRIMARY KEY); INSERT INTO public.kept SELECT generate_series(1, 5)"
    )
    yield Database(pg, name, pg.dsn(name))
    drop_database(pg, name)


@pytest.fixture
def live(pg: EmbeddedServer, database: Database, tmp_path: Path) -> Scene:
    """The live database, of another name, which is to be replaced."""
    fill(pg, database.name, "CREATE TABLE public.old (); COMMENT ON DATABASE " + database.name + " IS 'old'")
    scene = scene_for(database, tmp_path)
    scene.app.mkdir()
    return scene


def _stripped(dump: bytes) -> bytes:
    """Without pg_dump's comments, but for the end marker."""
    return re.sub(rb"^--(?! PostgreSQL database dump complete).*\n", b"", dump, flags=re.MULTILINE)


@pytest.mark.parametrize("options", [["-C"], ["-C", "-c", "-v"], ["-C", "--inserts"], ["-C", "stripped"]], ids=" ".join)
def test_what_the_dump_says_of_its_database_the_new_one_has(
    pg: EmbeddedServer, created: Database, live: Scene, options: list[str]
) -> None:
    stripped = "stripped" in options
    dump = pg_dump(pg, created.name, *(one for one in options if one != "stripped"))
    wanted = _properties_of(pg, created.name)
    archive = dump_archive(live, _stripped(dump) if stripped else dump)
    fill(pg, created.name, "INSERT INTO public.kept VALUES (6)")
    untouched = live.administer("SELECT oid, datname, datacl::text FROM pg_database WHERE datname LIKE '%reated%'")
    with live.service() as service:
        done = service.restore(archive, _DATABASE)
    assert live.execute("SELECT count(*) FROM public.kept") == [(5,)]
    assert _properties_of(pg, live.database) == wanted
    assert [told for told in done.warnings if "own database" in told or "Skipped" in told] == []
    # The database of which the dump speaks is still there, as it was.
    assert _properties_of(pg, created.name) == wanted
    with psycopg.connect(created.dsn) as session:
        assert session.execute("SELECT count(*) FROM public.kept").fetchone() == (6,)
    now = live.administer("SELECT oid, datname, datacl::text FROM pg_database WHERE datname LIKE '%reated%'")
    assert now == untouched
    assert live.leftovers() == []


def test_the_dump_of_the_live_database_itself_leaves_it_until_the_swap(
    pg: EmbeddedServer, database: Database, tmp_path: Path
) -> None:
    scene = scene_for(database, tmp_path)
    scene.app.mkdir()
    fill(pg, database.name, "CREATE TABLE public.t AS SELECT 1 AS a")
    archive = dump_archive(scene, pg_dump(pg, database.name, "-C", "-c"))
    fill(pg, database.name, "DELETE FROM public.t")
    oid = scene.administer(f"SELECT oid FROM pg_database WHERE datname = '{database.name}'")
    with scene.service() as service:
        done = service.restore(archive, _DATABASE)
    assert scene.execute("SELECT a FROM public.t") == [(1,)]
    (previous,) = scene.databases()
    assert previous == done.previous_database
    assert scene.administer(f"SELECT oid FROM pg_database WHERE datname = '{previous}'") == oid
    with psycopg.connect(pg.dsn(previous)) as session:
        assert session.execute("SELECT count(*) FROM public.t").fetchone() == (0,)


def test_an_owner_who_is_not_there_is_told(pg: EmbeddedServer, created: Database, live: Scene) -> None:
    dump = pg_dump(pg, created.name, "-C")
    owner = _properties_of(pg, created.name).owner
    archive = dump_archive(live, dump.replace(owner.encode(), b"nobody_here"))
    with live.service() as service:
        done = service.restore(archive, _DATABASE, Wishes(roles="skip"))
    assert any("its owner nobody_here" in told for told in done.warnings)
    got = _properties_of(pg, live.database)
    assert got.owner == pg.superuser and got.comment == "it's; \n\\connect here"


def test_what_cannot_be_carried_over_is_told(pg: EmbeddedServer, created: Database, live: Scene) -> None:
    rename = sql.SQL("ALTER DATABASE {} RENAME TO stolen;\n\n").format(sql.Identifier(created.name)).as_string(None)
    dump = pg_dump(pg, created.name, "-C").replace(b"COMMENT ON DATABASE", rename.encode() + b"COMMENT ON DATABASE")
    with live.service() as service:
        plan = service.plan_restore(dump_archive(live, dump), _DATABASE, Wishes())
        assert plan.problems == ()
        assert [told for told in plan.warnings if "RENAME TO stolen" in told] != []
        service.restore(dump_archive(live, dump), _DATABASE)
    assert live.administer("SELECT datname FROM pg_database WHERE datname = 'stolen'") == []
    assert live.execute("SELECT count(*) FROM public.kept") == [(5,)]


def test_another_database_stays_an_error(pg: EmbeddedServer, created: Database, live: Scene) -> None:
    dump = pg_dump(pg, created.name, "-C")
    before = [replace(_properties_of(pg, name)) for name in (created.name, live.database)]
    connects = dump.replace(b"CREATE TABLE", b"\\connect " + live.database.encode() + b"\nCREATE TABLE", 1)
    grants = dump.replace(
        b"CREATE TABLE", b"GRANT ALL ON DATABASE " + live.database.encode() + b" TO PUBLIC;\nCREATE TABLE"
    )
    with live.service() as service:
        with pytest.raises(HostileError, match=r"Line \d+ of the dump is refused"):
            service.restore(dump_archive(live, connects), _DATABASE)
        with pytest.raises(RestoreRefused, match=r"line \d+"):
            service.restore(dump_archive(live, grants), _DATABASE)
    assert [_properties_of(pg, name) for name in (created.name, live.database)] == before
    assert live.databases() == set()


def test_it_is_verified_and_drilled_as_any_other(pg: EmbeddedServer, created: Database, live: Scene) -> None:
    wanted = _properties_of(pg, created.name)
    archive = dump_archive(live, pg_dump(pg, created.name, "-C", "-c"))
    with live.service() as service:
        assert service.verify(archive).tables == 1
        assert service.drill(archive).passed
    assert _properties_of(pg, created.name) == wanted
    assert live.databases() == set()


def test_a_database_that_is_not_there_is_made_as_the_dump_says(
    pg: EmbeddedServer, created: Database, live: Scene
) -> None:
    wanted = _properties_of(pg, created.name)
    archive = dump_archive(live, pg_dump(pg, created.name, "-C"))
    live.administer(f"DROP DATABASE {live.database}")
    with live.service() as service:
        service.restore(archive, _DATABASE)
    assert _properties_of(pg, live.database) == wanted
    assert live.execute("SELECT count(*) FROM public.kept") == [(5,)]


def test_under_another_name_it_is_as_the_dump_says(pg: EmbeddedServer, created: Database, live: Scene) -> None:
    wanted, before = _properties_of(pg, created.name), _properties_of(pg, live.database)
    archive = dump_archive(live, pg_dump(pg, created.name, "-C"))
    with live.service() as service:
        service.restore_beside(archive, Wishes(into=f"{live.database}_copy"))
    assert _properties_of(pg, f"{live.database}_copy") == wanted
    assert _properties_of(pg, live.database) == before


def test_in_place_the_database_keeps_its_properties(pg: EmbeddedServer, created: Database, live: Scene) -> None:
    before = _properties_of(pg, live.database)
    archive = dump_archive(live, pg_dump(pg, created.name, "-C", "-c"))
    with live.service() as service:
        done = service.restore(archive, _DATABASE, Wishes(in_place=True))
    assert any("about the dump's own database will be skipped" in told for told in done.warnings)
    assert _properties_of(pg, live.database) == before
    assert live.execute("SELECT count(*) FROM public.kept") == [(5,)]
    assert live.databases() == set()


def test_its_encoding_is_that_of_the_dump(pg: EmbeddedServer, live: Scene) -> None:
    name = f"latin {live.database}"
    with psycopg.connect(pg.dsn(), autocommit=True) as session:
        database = sql.Identifier(name)
        session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'").format(database))
    try:
        with psycopg.connect(pg.dsn(name), autocommit=True) as session:
            session.execute(sql.SQL("COMMENT ON DATABASE {} IS 'été'").format(database))
            session.execute("CREATE TABLE kept AS SELECT 'çà' AS word")
        dump = pg_dump(pg, name, "-C")
        assert "été".encode("latin-1") in dump
        with live.service() as service:
            service.restore(dump_archive(live, dump), _DATABASE)
        assert live.execute("SELECT word, pg_encoding_to_char(encoding) FROM kept, pg_database"
                            " WHERE datname = current_database()") == [("çà", "LATIN1")]  # fmt: skip
        with psycopg.connect(live.dsn) as session:
            query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
            assert session.execute(query).fetchone() == ("été",)
    finally:
        drop_database(pg, name)
