"""A database with every object that pg_dump's plain format holds, restored from a backup as psql restores its dump."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from resurgam.archive.opening import open_archive
from resurgam.operations.restore import Parts
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database, Role, create_database, drop_database
from tests.operations.scene import Scene, scene_for
from tests.postgres.dumps import NASTY, NASTY_SUPERUSER, fill, has_extension, load_into, pg_dump

_SCRIPTS = Path(__file__).parents[1] / "postgres"
# psql's own lexer takes this name for the beginning of another BEGIN ATOMIC, and the rest of the dump for its body.
_FOR_PSQL = NASTY.replace('AS "begin"', 'AS "started"')
_EXTENSIONS = ("vector", "citext", "hstore", "postgres_fdw")
_TYPES = frozenset(
    """ACCESS METHOD;ACL;AGGREGATE;BLOBS;CAST;CHECK CONSTRAINT;COLLATION;COMMENT;CONSTRAINT;CONVERSION;DEFAULT;
    DEFAULT ACL;DOMAIN;EVENT TRIGGER;EXTENSION;FK CONSTRAINT;FOREIGN DATA WRAPPER;FOREIGN TABLE;FUNCTION;INDEX;
    INDEX ATTACH;MATERIALIZED VIEW;MATERIALIZED VIEW DATA;OPERATOR;OPERATOR CLASS;OPERATOR FAMILY;POLICY;
    PROCEDURAL LANGUAGE;PROCEDURE;PUBLICATION;PUBLICATION TABLE;PUBLICATION TABLES IN SCHEMA;ROW SECURITY;RULE;SCHEMA;
    SEQUENCE;SEQUENCE OWNED BY;SEQUENCE SET;SERVER;SHELL TYPE;STATISTICS;TABLE;TABLE ATTACH;TABLE DATA;
    TEXT SEARCH CONFIGURATION;TEXT SEARCH DICTIONARY;TEXT SEARCH PARSER;TEXT SEARCH TEMPLATE;TRANSFORM;TRIGGER;TYPE;
    USER MAPPING;VIEW""".replace("\n    ", "").split(";")
)


_NEEDS_POWER = (
    "EVENT TRIGGER watch: event triggers are a superuser's",
    "PUBLICATION everything: ",
    "PROCEDURAL LANGUAGE plother: ",
    "ACCESS METHOD heap_too: ",
    "FOREIGN DATA WRAPPER wrapper: ",
    "OPERATOR CLASS every.int_too: ",
    "TYPE every.base: base types are a superuser's",
    "FUNCTION every.windowed(): functions in internal are a superuser's",
    "TABLE DATA every.of_types: it needs every.of_types",
    "The owner postgres of ",
)


@pytest.fixture
def everything(pg: EmbeddedServer, database: Database, owner_role: Role) -> Iterator[Database]:
    """The database with all of it; `owner_role` and another role own some."""
    text = (_SCRIPTS / "every_object.sql").read_text().replace("some_role", owner_role.name)
    if pg.version >= 18:
        text += (_SCRIPTS / "every_18.sql").read_text()
    for name in _EXTENSIONS:
        if has_extension(pg, name):
            text += f"CREATE EXTENSION {name} SCHEMA every;\n"
    if has_extension(pg, "vector"):
        text += "CREATE TABLE every.embedded AS SELECT ARRAY[i, 1]::every.vector(2) e FROM generate_series(1, 50) i;\n"
        text += "CREATE INDEX ON every.embedded USING hnsw (e every.vector_l2_ops);\n"
    fill(pg, database.name, _FOR_PSQL + text + NASTY_SUPERUSER)
    yield database
    drop_database(pg, database.name)
    with psycopg.connect(pg.dsn(), autocommit=True) as session:
        other = sql.Identifier(f"{owner_role.name}'s \"é; --\nx")
        session.execute(sql.SQL("DROP ROLE {}").format(other))


@pytest.fixture
def by_psql(pg: EmbeddedServer, everything: Database) -> Iterator[Database]:
    """An empty database for psql."""
    made = create_database(pg)
    yield made
    drop_database(pg, made.name)


def _dump_of(scene: Scene, name: str) -> bytes:
    with open_archive(scene.backups / f"{name}.tar.gz") as archive:
        wanted = archive.metadata()["database"]["file"].encode()
        return b"".join(b"".join(blocks) for entry, blocks in archive.walk() if entry.path == wanted)


def _psql(server: EmbeddedServer, name: str, dump: bytes, folder: Path) -> None:
    path = folder / "dump.sql"
    path.write_bytes(dump)
    options = ("-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", path, server.dsn(name))
    answer = subprocess.run([str(server.bin / "psql"), *map(str, options)], capture_output=True)
    assert answer.returncode == 0, answer.stderr.decode()


def _lines(server: EmbeddedServer, name: str, *options: str) -> list[bytes]:
    return pg_dump(server, name, "--restrict-key=fixed", *options).splitlines()


def test_pg_dump_of_a_restored_database_is_that_of_one_restored_by_psql(
    pg: EmbeddedServer, everything: Database, by_psql: Database, tmp_path: Path
) -> None:
    scene = scene_for(everything, tmp_path)
    scene.app.mkdir()
    more = {"BACKUP_FILE_TREES": "", "BACKUP_CONFIG_FILES": ""}
    with scene.service(**more) as service:
        name = service.backup().name
        dump = _dump_of(scene, name)
        types = set(re.findall(r"^-- (?:Data for )?Name: .*?; Type: ([A-Z ]+);", dump.decode(), re.MULTILINE))
        assert _TYPES - types == set()
        _psql(pg, by_psql.name, dump, tmp_path)
        scene.execute("DROP SCHEMA every CASCADE", "CREATE TABLE app.changed ()")
        done = service.restore(name, Parts(True, False, False))
        assert [told for told in done.warnings if "has publications" not in told] == []
        expected = _lines(pg, by_psql.name)
        assert len(expected) > 8000
        assert _lines(pg, everything.name) == expected
        # Rules and events that replay would have fired, and rights that only data meet, leave the same data behind.
        assert _lines(pg, everything.name, "--data-only") == _lines(pg, by_psql.name, "--data-only")
        report = service.drill(name).report
        assert (report["differences"], report["fingerprint"], report["rights"]) == ([], "equal", "plain")
        # What a role without superuser rights can't make is named, and nothing more than that and what it needs.
        named = "\n".join(report["not_loaded"])
        for what in _NEEDS_POWER:
            assert what in named, what
        assert set(re.findall(r"^TABLE DATA ([^:]+):", named, re.MULTILINE)) == {
            "app.zz_checked",
            "every.of_composite",
            "every.of_types",
        }
    assert scene.leftovers() == []


@pytest.mark.parametrize("connections", [1, 4])
def test_so_it_is_with_all_that_backups_leave_out(
    pg: EmbeddedServer, everything: Database, by_psql: Database, tmp_path: Path, connections: int
) -> None:
    """Subscriptions, and planner statistics where the server takes them: in dumps that others made."""
    ours = create_database(pg)
    try:
        subscription = "CREATE SUBSCRIPTION sub_one CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)"
        with psycopg.connect(everything.dsn, autocommit=True) as session:
            session.execute(subscription)
        dump = pg_dump(pg, everything.name, *(("--statistics",) if pg.version >= 18 else ()))
        _drop_subscription(everything)
        _psql(pg, by_psql.name, dump, tmp_path)
        expected = _lines(pg, by_psql.name)
        _drop_subscription(by_psql)
        load_into(pg, ours.name, dump, connections=connections)
        assert _lines(pg, ours.name) == expected
        assert any(line.startswith(b"CREATE SUBSCRIPTION") for line in expected)
    finally:
        for one in (everything, by_psql, ours):
            _drop_subscription(one)
        drop_database(pg, ours.name)


_DATA = ("--data-only", "--disable-triggers")
_FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "inserts": (("--inserts",),),
    "rows per insert": (("--rows-per-insert=7",),),
    "column inserts": (("--column-inserts", "--quote-all-identifiers"),),
    "sections": (("--section=pre-data",), ("--section=data",), ("--section=post-data",)),
    "triggers off": (("--schema-only", "--section=pre-data"), _DATA, ("--schema-only", "--section=post-data")),
    "created": (("--create", "--clean"),),
    "without owners": (("--no-owner", "--no-privileges"),),
    "no comments": ((),),
}


@pytest.fixture
def settled(pg: EmbeddedServer, everything: Database, tmp_path: Path) -> Iterator[Database]:
    """What psql makes of its dump: inheritance has reordered the columns, which INSERTs without names can't stand."""
    made = create_database(pg)
    _psql(pg, made.name, pg_dump(pg, everything.name), tmp_path)
    yield made
    drop_database(pg, made.name)


@pytest.mark.parametrize("form", _FORMS)
def test_so_it_is_with_every_form_of_a_dump(
    pg: EmbeddedServer, settled: Database, by_psql: Database, tmp_path: Path, form: str
) -> None:
    ours = create_database(pg)
    try:
        for options in _FORMS[form]:
            dump = pg_dump(pg, settled.name, *options)
            if form == "no comments":
                dump = re.sub(rb"^--.*\n", b"", dump, flags=re.MULTILINE)
            for_psql = dump
            if form == "created":
                # What concerns the database is not psql's to do here: test_restore_created.py has it.
                own = rb"^(?:DROP|CREATE|ALTER) DATABASE .*\n|^\\connect .*\n"
                for_psql = re.sub(own, b"", dump[:2000], flags=re.MULTILINE) + dump[2000:]
            _psql(pg, by_psql.name, for_psql, tmp_path)
            load_into(pg, ours.name, dump)
        expected = _lines(pg, by_psql.name)
        assert len(expected) > 8000
        assert _lines(pg, ours.name) == expected
    finally:
        drop_database(pg, ours.name)


def _drop_subscription(database: Database) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as session:
        if session.execute("SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
                           " WHERE datname = current_database()").fetchall():  # fmt: skip
            session.execute("ALTER SUBSCRIPTION sub_one DISABLE")
            session.execute("ALTER SUBSCRIPTION sub_one SET (slot_name = NONE)")
            session.execute("DROP SUBSCRIPTION sub_one")
