"""Loading: what pg_dump says of the result equals what it said of the source; failures name lines, never rows."""

from __future__ import annotations

import threading

import psycopg
import pytest

from resurgam.errors import DamagedError, RestoreFailed
from resurgam.postgres import loadplan
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.loadcheck import read_facts
from resurgam.postgres.loader import LoadOptions, load
from tests import clusters
from tests.clusters import Database, Role
from tests.postgres.dumps import (
    FORCED,
    NASTY,
    NASTY_SUPERUSER,
    BytesDump,
    count_sessions,
    fill,
    has_extension,
    load_into,
    normal,
    pg_dump,
    scan,
)

VECTOR = """CREATE EXTENSION vector;
CREATE TABLE app.embedded (id int PRIMARY KEY, e vector(3));
INSERT INTO app.embedded SELECT i, ARRAY[i, 1, 2]::vector FROM generate_series(1, 50) i;
CREATE INDEX ON app.embedded USING hnsw (e vector_l2_ops);
"""


KEYS = """
CREATE SCHEMA keys;
CREATE TABLE keys.parent (id int PRIMARY KEY, "Odd" int UNIQUE, code text, made date UNIQUE DEFERRABLE);
COMMENT ON CONSTRAINT parent_pkey ON keys.parent IS 'its key';
ALTER TABLE keys.parent ADD CONSTRAINT "By Code" UNIQUE (code, id), ADD UNIQUE (id) INCLUDE (code);
ALTER TABLE keys.parent CLUSTER ON "By Code";
ALTER TABLE keys.parent REPLICA IDENTITY USING INDEX parent_pkey;
CREATE TABLE keys.child (PRIMARY KEY (id), own int UNIQUE WITH (fillfactor = 50)) INHERITS (keys.parent);
CREATE TABLE keys.other (id int REFERENCES keys.parent, code text,
    FOREIGN KEY (code, id) REFERENCES keys.parent (code, id));
CREATE INDEX ON keys.parent (made);
INSERT INTO keys.parent SELECT n, n, n::text, date '2026-01-01' + n FROM generate_series(1, 500) n;
INSERT INTO keys.other SELECT n, n::text FROM generate_series(1, 500) n;
"""


def nasty_database(database: Database) -> None:
    fill(database.server, database.name, NASTY + NASTY_SUPERUSER)
    if has_extension(database.server, "vector"):
        fill(database.server, database.name, VECTOR)


@pytest.fixture
def target(database: Database) -> Database:
    return clusters.create_database(database.server, prefix=database.name)


@pytest.mark.parametrize(
    "options",
    [
        ("-v",),
        (),
        ("--inserts", "--rows-per-insert=7"),
        ("--load-via-partition-root", "-v"),
        ("--clean", "--if-exists"),
        ("--clean",),
    ],
    ids=["verbose", "plain", "inserts", "root", "clean-if", "clean"],
)
def test_a_nasty_database_comes_back(
    pg: EmbeddedServer, database: Database, target: Database, options: tuple[str]
) -> None:
    nasty_database(database)
    dump = pg_dump(pg, database.name, *options)
    script = scan(dump)
    assert script.complete
    report = load_into(pg, target.name, dump)
    assert normal(pg_dump(pg, target.name, *options)) == normal(dump)
    assert bool(report.skipped_statements) == ("--clean" in options)
    assert report.rows["app", "a"] == 3000
    if options == ("-v",):
        assert report.rows == script.rows
        # Table by table: the same rows, in the same order.
        assert normal(pg_dump(pg, target.name, "--data-only")) == normal(pg_dump(pg, database.name, "--data-only"))
    assert count_sessions(pg, target.name) == 0


@pytest.mark.parametrize("options", [("-v",), ("--load-via-partition-root",)], ids=["verbose", "root"])
def test_keys_that_are_made_of_their_indexes_are_the_same_keys(
    pg: EmbeddedServer, database: Database, target: Database, options: tuple[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadplan, "_LARGE", 0)  # as if every table were large
    fill(pg, database.name, KEYS)
    nasty_database(database)
    dump = pg_dump(pg, database.name, *options)
    load_into(pg, target.name, dump)
    assert normal(pg_dump(pg, target.name, *options)) == normal(dump)


@pytest.mark.parametrize("connections", [1, 4])
def test_an_owner_without_superuser_rights(
    pg: EmbeddedServer, owned_database: Database, owner_role: Role, connections: int
) -> None:
    fill(pg, owned_database.name, NASTY.replace(FORCED, ""), owner_role.name)
    dump = pg_dump(pg, owned_database.name, "-v", user=owner_role.name)
    target = clusters.create_database(pg, owner_role)
    report = load_into(pg, target.name, dump, user=owner_role.name, connections=connections)
    assert normal(pg_dump(pg, target.name)) == normal(pg_dump(pg, owned_database.name))
    assert report.skipped_statements == ()


def test_unattended_order_of_a_dump_by_hand(pg16: EmbeddedServer, database: Database) -> None:
    """No comments, keys before the data, a trigger, temporary tables, transactions: the script's order holds."""
    script = b"""
SET search_path = public;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent, note text);
CREATE TABLE log (id int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END$$;
CREATE TRIGGER t AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO parent VALUES (1); INSERT INTO parent VALUES (2), (3);
COPY parent FROM stdin;
4
\\.
COPY child (id) FROM stdin;
4
1
\\.
BEGIN;
CREATE TEMP TABLE moved (id int) ON COMMIT DROP;
COPY moved FROM stdin WITH (DELIMITER ';', NULL 'x');
5
x
\\.
INSERT INTO parent SELECT id FROM moved WHERE id IS NOT NULL;
COMMIT;
SET ROLE pg_monitor;
RESET ROLE;
COPY log FROM stdin;
9
\\.
COPY log FROM stdin;
10
\\.
"""
    report = load_into(pg16, database.name, script)
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT array_agg(id ORDER BY id) FROM parent").fetchone() == ([1, 2, 3, 4, 5],)
        assert connection.execute("SELECT array_agg(id) FROM log").fetchone() == ([4, 1, 9, 10],)
    assert report.rows[None, "log"] == 2
    assert report.rows[None, "parent"] == 1 + 3 + 1


def test_rows_that_are_there_already_are_kept(pg16: EmbeddedServer, database: Database) -> None:
    script = b"CREATE TABLE t (id int);\nINSERT INTO t VALUES (1);\nCOPY t FROM stdin;\n2\n\\.\n"
    assert load_into(pg16, database.name, script).rows == {(None, "t"): 2}
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT array_agg(id) FROM t").fetchone() == ([1, 2],)


def test_old_dumps_without_schemas_in_their_names(pg16: EmbeddedServer, database: Database) -> None:
    script = b"".join(
        b"CREATE SCHEMA %(s)s;\nSET search_path = %(s)s, pg_catalog;\nCREATE TABLE t (id int, x text);\n"
        % {b"s": schema}
        for schema in (b"one", b"two")
    )
    script += b"SET search_path = one, pg_catalog;\nCOPY t (id, x) FROM stdin;\n1\ta\n\\.\n"
    script += b"SET search_path = two, pg_catalog;\nCOPY t (id, x) FROM stdin;\n2\tb\n3\tc\n\\.\n"
    script += b"ALTER TABLE ONLY t ADD CONSTRAINT t_pkey PRIMARY KEY (id);\n"
    script += b"SET search_path = one, pg_catalog;\nCREATE INDEX t_x ON t USING btree (x);\n"
    script += b"ALTER TABLE t CLUSTER ON t_x;\n"
    load_into(pg16, database.name, script)
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT id FROM one.t").fetchall() == [(1,)]
        assert connection.execute("SELECT id FROM two.t").fetchall() == [(2,), (3,)]
        found = connection.execute("SELECT schemaname, indexname FROM pg_indexes WHERE tablename = 't' ORDER BY 1")
        assert found.fetchall() == [("one", "t_x"), ("two", "t_pkey")]


def test_plain_quotes_with_backslashes_and_latin1(pg16: EmbeddedServer, database: Database) -> None:
    script = (
        "SET client_encoding = 'LATIN1';\nSET standard_conforming_strings = off;\nSET escape_string_warning = off;\n"
        'CREATE TABLE "é" (x text);\nINSERT INTO "é" VALUES (\'a\\\';é\');\nCOPY "é" (x) FROM stdin;\né\n\\.\n'
    ).encode("latin-1")
    assert load_into(pg16, database.name, script).rows == {(None, "é"): 2}
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute('SELECT x FROM "é"').fetchall() == [("a';é",), ("é",)]


def failure(server: EmbeddedServer, name: str, script: bytes) -> str:
    with pytest.raises(RestoreFailed) as caught:
        load_into(server, name, script)
    assert count_sessions(server, name) == 0
    assert caught.value.__cause__ is None
    return f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (b"CREATE TABLE t (id int);\n\nCOPY t FROM stdin;\n1\nsecret\n\\.\n", ["line 3", "COPY t, line 2"]),
        (b"CREATE TABLE t (id int);\nCOPY t FROM stdin;\n1\tsecret\n\\.\n", ["line 2", "COPY t, line 1"]),
        (b"CREATE TABLE t (id int CHECK (id > 1));\nCOPY t FROM stdin;\n1\n\\.\n", ["line 2", "check constraint"]),
        (b"CREATE TABLE t (id text);\nCOPY t FROM stdin;\nsecret\nsecret\n\\.\n"
         b"ALTER TABLE ONLY t\n ADD CONSTRAINT k PRIMARY KEY (id);\n", ["line 6", "could not create unique index"]),
        (b"CREATE TABLE t (id text);\n\nINSERT INTO t VALUES ('x');\n\n"
            b"INSERT INTO t VALUES (1/0);\n", ["line 5", "22012"]),
        (b"CREATE TABLE t (x date);\nINSERT INTO t VALUES ('secret');\n", ["line 2", "invalid input syntax"]),
        (b"\nCREATE TABEL t (id int);\n", ["line 2", "42601"]),
        (b"SELECT 1;\nSET work_mem = 'much';\nSELECT 1;", ["line 2", "work_mem"]),
        (b"BEGIN;\nSELECT 1;\n", ["leaves a transaction open"]),
    ],
    ids=["type", "columns", "check", "unique", "insert", "insert-value", "syntax", "setting", "open"],
)  # fmt: skip
def test_failures_name_the_line_and_no_row(
    pg16: EmbeddedServer, database: Database, script: bytes, expected: list[str]
) -> None:
    said = failure(pg16, database.name, script)
    assert all(part in said for part in expected), said
    assert "secret" not in said


def test_a_failure_stops_the_other_connections(pg16: EmbeddedServer, database: Database) -> None:
    slow = b"CREATE INDEX slow ON t USING btree ((app_slow(id)));\n"
    script = (
        b"CREATE FUNCTION app_slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(60)';\n"
        b"CREATE TABLE t (id int);\nCREATE TABLE u (id int);\nCOPY t FROM stdin;\n1\n\\.\n"
        b"COPY u FROM stdin;\n1\n1\n\\.\n" + slow + b"CREATE UNIQUE INDEX broken ON u USING btree (id);\n"
    )
    before = threading.active_count()
    assert "unique index" in failure(pg16, database.name, script)
    assert threading.active_count() == before


def test_an_archive_that_can_not_be_read_on(pg16: EmbeddedServer, database: Database) -> None:
    class Broken(BytesDump):
        def blocks(self, offset: int, length: int):  # type: ignore[no-untyped-def]
            yield from list(super().blocks(offset, length))[:-1]
            raise DamagedError("a chunk is damaged")

    data = b"CREATE TABLE t (id int);\nCREATE TABLE u (id int);\n"
    data += b"COPY t FROM stdin;\n" + b"1\n" * 9000 + b"\\.\nCOPY u FROM stdin;\n" + b"1\n" * 9000 + b"\\.\n"
    with psycopg.connect(database.dsn) as connection:
        facts = read_facts(connection)
    with pytest.raises(DamagedError, match="a chunk is damaged"):
        load(scan(data), Broken(data), lambda: psycopg.connect(database.dsn), LoadOptions(facts))
    assert count_sessions(pg16, database.name) == 0


def test_missing_rows_are_noticed(pg16: EmbeddedServer, database: Database) -> None:
    class Short(BytesDump):
        def blocks(self, offset: int, length: int):  # type: ignore[no-untyped-def]
            return super().blocks(offset, length - 2)

    data = b"CREATE TABLE t (id int);\nCOPY t FROM stdin;\n1\n2\n\\.\n"
    with psycopg.connect(database.dsn) as connection:
        facts = read_facts(connection)
    with pytest.raises(RestoreFailed, match="took 1 rows of the table t, but the dump holds 2"):
        load(scan(data), Short(data), lambda: psycopg.connect(database.dsn), LoadOptions(facts))


def test_settings_that_the_server_does_not_know(pg: EmbeddedServer, database: Database) -> None:
    script = (
        b"SET transaction_timeout = 0;\nSET no_such_setting = 1;\nSET my.own = 'x';\nSET work_mem = '4MB';\nSELECT 1;\n"
    )
    report = load_into(pg, database.name, script)
    assert [skipped.line for skipped in report.skipped_statements] == ([2] if pg.version >= 17 else [1, 2])
    assert "no_such_setting" in " ".join(report.warnings)


def test_a_statement_can_not_change_how_strings_are_read(pg16: EmbeddedServer, database: Database) -> None:
    script = b"DO $$BEGIN PERFORM set_config('standard_conforming_strings', 'off', false); END$$;\nSELECT 1;\n"
    with pytest.raises(Exception, match="changed how strings are read"):
        load_into(pg16, database.name, script)


def test_progress_counts_the_bytes_of_the_dump(pg16: EmbeddedServer, database: Database) -> None:
    data = b"CREATE TABLE t (id int);\nCOPY t FROM stdin;\n" + b"1\n" * 50000 + b"\\.\n"
    seen: list[int] = []
    with psycopg.connect(database.dsn) as connection:
        facts = read_facts(connection)
    load(scan(data), BytesDump(data), lambda: psycopg.connect(database.dsn), LoadOptions(facts), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(data)
    assert len(seen) > 10


def test_wide_rows(pg16: EmbeddedServer, database: Database, target: Database) -> None:
    with psycopg.connect(database.dsn) as connection:
        connection.execute("CREATE TABLE wide AS SELECT repeat('wide row ', 3000000) AS x")
    dump = pg_dump(pg16, database.name)
    load_into(pg16, target.name, dump)
    assert normal(pg_dump(pg16, target.name)) == normal(dump)


def test_roles_that_are_missing(pg16: EmbeddedServer, database: Database) -> None:
    dump = b"CREATE TABLE t ();\nALTER TABLE t OWNER TO nobody_here;\nGRANT SELECT ON t TO nobody_here;\n"
    report = load_into(pg16, database.name, dump, skip_ownership=True)
    assert [skipped.line for skipped in report.skipped_statements] == [2, 3]
    other = clusters.create_database(pg16, prefix=database.name)
    assert "nobody_here" in failure(pg16, other.name, dump)


def test_a_view_that_can_not_be_refreshed_keeps_nothing_else_back(pg16: EmbeddedServer, database: Database) -> None:
    script = (
        b"CREATE TABLE t (id int);\nCREATE MATERIALIZED VIEW bad AS SELECT 1 / (id - 1) AS x FROM t WITH NO DATA;\n"
        b"CREATE MATERIALIZED VIEW good AS SELECT id FROM t WITH NO DATA;\nCOPY t FROM stdin;\n1\n2\n\\.\n"
        b"REFRESH MATERIALIZED VIEW bad;\nREFRESH MATERIALIZED VIEW good;\n"
    )
    report = load_into(pg16, database.name, script)
    assert [skipped.line for skipped in report.skipped_statements] == [8]
    assert "REFRESH MATERIALIZED VIEW bad" in report.warnings[0]
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT id FROM good ORDER BY id").fetchall() == [(1,), (2,)]
        assert connection.execute("SELECT relispopulated FROM pg_class WHERE relname = 'bad'").fetchone() == (False,)
