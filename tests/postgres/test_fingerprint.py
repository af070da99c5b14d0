"""Fingerprints: what a restore gives back has the same; whatever was changed is found and named.

Sentences are those of docs/archive-format.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from resurgam.clock import SystemClock
from resurgam.demo.application import create_database as create_demo
from resurgam.errors import DamagedError
from resurgam.postgres.clients import find_clients
from resurgam.postgres.connection import Server
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.fingerprint import Fingerprint, compare, read_back, without_invented_names
from resurgam.postgres.multiset import same_rows
from resurgam.postgres.prints import NAMED, Multiset
from resurgam.postgres.script import ScriptScanner
from resurgam.postgres.taking import Taker, definitions_of, table_digest
from resurgam.settings import Database as Place
from resurgam.settings import Secret
from tests import clusters
from tests.clusters import Database
from tests.postgres.dumps import NASTY, NASTY_SUPERUSER, BytesDump, fill, load_into, pg_dump, scan

SMALL = """
CREATE SCHEMA app;
CREATE TABLE app.reports (id int PRIMARY KEY, body text, status varchar(10) CHECK (status IN ('new', 'done')));
INSERT INTO app.reports SELECT n, 'finding ' || n, 'new' FROM generate_series(1, 50) n;
CREATE TABLE app.users (id int, body text, status varchar(10));
INSERT INTO app.users VALUES (1, 'finding 7', 'new');
CREATE SEQUENCE app.numbers;
SELECT setval('app.numbers', 41);
CREATE MATERIALIZED VIEW app.counts AS SELECT status, count(*) AS n FROM app.reports GROUP BY status;
CREATE INDEX by_status ON app.reports (status);
CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER watch BEFORE UPDATE ON app.reports FOR EACH ROW EXECUTE FUNCTION app.t();
CREATE POLICY p ON app.users USING (id > 0);
GRANT SELECT ON app.reports TO PUBLIC;
SELECT lo_from_bytea(4711, 'abc');
"""


def taken(dump: bytes, block: int = 65536) -> Fingerprint:
    """The fingerprint of a dump alone."""
    taker = Taker()
    scanner = ScriptScanner(keep_statements=False, observer=taker)
    for start in range(0, len(dump), block):
        scanner.feed(dump[start : start + block])
    return taker.fingerprint(scanner.finish(), {})


def server_of(server: EmbeddedServer, name: str) -> Server:
    return Server(Place(server.host, server.port, name, server.superuser, Secret(server.password)))


def read(server: EmbeddedServer, name: str) -> Fingerprint:
    return read_back(server_of(server, name), find_clients(server.version * 10_000, server.bin), clock=SystemClock())


def copy_of(database: Database, dump: bytes) -> Database:
    target = clusters.create_database(database.server, prefix=database.name)
    load_into(database.server, target.name, dump)
    return target


@pytest.fixture
def small(database: Database) -> Database:
    fill(database.server, database.name, SMALL)
    return database


def test_sentence_27_a_nasty_database_has_the_same_fingerprint_after_a_restore(
    pg: EmbeddedServer, database: Database
) -> None:
    fill(pg, database.name, NASTY + NASTY_SUPERUSER)
    _same_after_a_restore(pg, database)


def test_sentence_27_the_demo_has_the_same_fingerprint_after_a_restore(pg: EmbeddedServer, database: Database) -> None:
    create_demo(pg.dsn(database.name), 200, seed=1)
    _same_after_a_restore(pg, database)


def _same_after_a_restore(pg: EmbeddedServer, database: Database) -> None:
    before = read(pg, database.name)
    dump = pg_dump(pg, database.name, "-v")
    copy = copy_of(database, dump)
    after = read(pg, copy.name)
    script = scan(dump)
    different = {table for table in before.tables if before.tables[table] != after.tables.get(table)}
    with psycopg.connect(pg.dsn(copy.name)) as connection:
        # Inherited tables may get their columns in another order, once; their rows are the same.
        assert all(same_rows(connection, script, BytesDump(dump), table) for table in different), different
    assert len(different) <= 1
    assert compare(before, replace(after, tables=before.tables)) == ()
    assert compare(before, Fingerprint.from_json(json.loads(json.dumps(before.to_json())))) == ()
    for block in (777, 20011):
        assert taken(dump, block) == taken(dump)
    # What a dump holds is found in it alone; materialized views are not.
    assert replace(before, matviews={}) == taken(dump)


CHANGES: list[tuple[str, str]] = [
    ("UPDATE app.reports SET body = 'x' WHERE id = 9", "The table app.reports has its 50 rows, but not their content."),
    ("DELETE FROM app.reports WHERE id = 9", "The table app.reports has 49 rows instead of 50."),
    ("INSERT INTO app.users VALUES (2)", "The table app.users has 2 rows instead of 1."),
    ("DELETE FROM app.users", "The table app.users has 0 rows instead of 1."),
    ("UPDATE app.users SET body = NULL", "The table app.users has another row."),
    ("TRUNCATE app.users; CREATE TABLE app.more ()", "The table app.more is not in the backup."),
    ("DROP TABLE app.users", "The table app.users is missing."),
    ("SELECT setval('app.numbers', 40)", "The sequence app.numbers stands at 40 instead of 41."),
    ("SELECT setval('app.numbers', 41, false)", "The sequence app.numbers stands at 41 not yet used, other than in"),
    ("SELECT lo_put(4711, 0, 'x')", "The large object 4711 has another content."),
    ("SELECT lo_unlink(4711)", "The large object 4711 is missing."),
    (
        "UPDATE app.reports SET status = 'done' WHERE id < 9; REFRESH MATERIALIZED VIEW app.counts",
        "The materialized view app.counts has 2 rows instead of 1.",
    ),
    ("REFRESH MATERIALIZED VIEW app.counts WITH NO DATA", "The materialized view app.counts is not populated."),
    ("DROP INDEX app.by_status", "The INDEX app.by_status is missing."),
    ("DROP TRIGGER watch ON app.reports", "The TRIGGER app.reports watch is missing."),
    ("ALTER TABLE app.reports DROP CONSTRAINT reports_pkey", "The CONSTRAINT app.reports reports_pkey is missing."),
    ("DROP POLICY p ON app.users", "The POLICY app.users p is missing."),
    ("REVOKE SELECT ON app.reports FROM PUBLIC", "The ACL app.TABLE reports is missing."),
    (
        "CREATE OR REPLACE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "The FUNCTION app.f() is defined otherwise.",
    ),
    ("ALTER TABLE app.users ALTER body SET NOT NULL", "The TABLE app.users is defined otherwise."),
]


def test_sentence_27_every_change_is_found_and_named(small: Database) -> None:
    pg = small.server
    before = read(pg, small.name)
    for change, sentence in CHANGES:
        changed = f"{small.name}_changed"
        with psycopg.connect(pg.dsn(), autocommit=True) as session:
            session.execute(f"DROP DATABASE IF EXISTS {changed}".encode())
            session.execute(f"CREATE DATABASE {changed} TEMPLATE {small.name}".encode())
        with psycopg.connect(pg.dsn(changed), autocommit=True) as session:
            session.execute(change.encode())
        assert sentence in " ".join(compare(before, read(pg, changed))), change


def test_a_row_that_moved_to_another_table_is_found_in_both(small: Database) -> None:
    dump = pg_dump(small.server, small.name, "-v")
    row = b"7\tfinding 7\tnew\n"
    moved = dump.replace(row, b"", 1).replace(b"1\tfinding 7\tnew\n", b"1\tfinding 7\tnew\n" + row)
    assert len(moved) == len(dump)
    assert compare(taken(dump), taken(moved)) == (
        "The table app.reports has 49 rows instead of 50.",
        "The table app.users has 2 rows instead of 1.",
    )


def test_casts_that_a_server_changes_once_make_no_difference(small: Database) -> None:
    """`IN` over a varchar comes back with its casts elsewhere (a dump of a dump is equal again)."""
    first = pg_dump(small.server, small.name, "-v")
    second = pg_dump(small.server, copy_of(small, first).name, "-v")
    assert b"::character varying])::text[]" in first
    assert b"::character varying])::text[]" not in second
    assert compare(taken(first), taken(second)) == ()


UNNAMED = """
CREATE FUNCTION app.unnamed(int) RETURNS text LANGUAGE sql BEGIN ATOMIC
    SELECT -1, NULL, 'x', '2020-01-01' UNION SELECT 2, 1.5, 'y'::varchar(5), current_date;
    SELECT (SELECT 'x'), 'y' COLLATE "C", 'z'::text AS text, $1::text, 'it''s ::text AS text' AS said;
    SELECT 'x';
END;
CREATE PROCEDURE app.unnamed_too() LANGUAGE sql BEGIN ATOMIC
    UPDATE app.users SET (body, status) = (SELECT 'x', NULL) WHERE (id, body) IN (SELECT -5, 'x'); END;
CREATE VIEW app.unnamed_there AS SELECT body FROM app.users WHERE (id, body) IN (SELECT 1, 'x');
CREATE RULE unnamed AS ON DELETE TO app.reports DO UPDATE app.users SET (id, body) = (SELECT 1, 'x');
"""


def differing(before: bytes, after: bytes) -> tuple[str, ...]:
    """What a full check says, which has the dump that was backed up and the one that was read back."""
    expected = Fingerprint.from_json(json.loads(json.dumps(taken(before).to_json())))
    return compare(*without_invented_names(expected, taken(after), definitions_of(scan(before))))


def test_sentence_30_columns_without_names_make_no_difference(small: Database) -> None:
    """A server writes them as casts, and names them by these when it reads them (a dump of a dump is equal again)."""
    fill(small.server, small.name, UNNAMED)
    first = pg_dump(small.server, small.name, "-v")
    copy = copy_of(small, first)
    second = pg_dump(small.server, copy.name, "-v")
    assert first.count(b"'x'::text AS text") == 0 and second.count(b"'x'::text AS text") >= 6
    assert len(compare(taken(first), taken(second))) == 4
    assert differing(first, second) == ()
    for old, new in (
        (b"SELECT 'x'::text AS text;", b"SELECT 'X'::text AS text;"),
        (b"SELECT 'x'::text AS text;", b"SELECT 'x'::text AS other;"),
        (b"SELECT 'x'::text AS text;", b"SELECT 'x'::text AS text, 1;"),
        (b"SELECT 'x'::text AS text;", b""),
        (b"'it''s ::text AS text' AS said", b"'it''s ::text AS txt' AS said"),
        (b"'it''s ::text AS text' AS said", b"'it''s ::text' AS said"),
        (b"AS said", b"AS told"),
    ):
        if old not in second:
            old = old.replace(b"' AS said", b"'::text AS said")
            new = new.replace(b"' AS said", b"'::text AS said")
        assert second.count(old) == 1, old
        changed = differing(first, second.replace(old, new))
        assert changed == ("The FUNCTION app.unnamed(integer) is defined otherwise.",), new


def test_a_function_that_was_changed_on_the_server_is_found(small: Database) -> None:
    fill(small.server, small.name, UNNAMED)
    first = pg_dump(small.server, small.name, "-v")
    copy = copy_of(small, first)
    body = "CREATE OR REPLACE PROCEDURE app.unnamed_too() LANGUAGE sql BEGIN ATOMIC UPDATE app.users SET (body, status)"
    fill(small.server, copy.name, f"{body} = (SELECT 'x', NULL) WHERE (id, body) IN (SELECT -6, 'x'); END")
    second = pg_dump(small.server, copy.name, "-v")
    assert differing(first, second) == ("The PROCEDURE app.unnamed_too() is defined otherwise.",)


def test_a_dump_that_is_not_the_one_that_was_taken_is_not_believed(small: Database) -> None:
    fill(small.server, small.name, UNNAMED)
    first = pg_dump(small.server, small.name, "-v")
    edited = first.replace(b"SELECT 'x'::text;", b"SELECT 'X'::text;")
    second = pg_dump(small.server, copy_of(small, edited).name, "-v")
    told = compare(*without_invented_names(taken(first), taken(second), definitions_of(scan(edited))))
    assert told == ("The FUNCTION app.unnamed(integer) is defined otherwise.",)


def test_sentence_30_rows_in_another_order_are_the_same_rows(small: Database) -> None:
    dump = pg_dump(small.server, small.name, "-v")
    copy = copy_of(small, dump)
    with psycopg.connect(small.server.dsn(copy.name), autocommit=True) as session:
        session.execute("UPDATE app.reports SET id = id WHERE id = 3")
        table = ("app", "reports")
        assert read(small.server, copy.name).tables[table] != taken(dump).tables[table]
        assert same_rows(session, scan(dump), BytesDump(dump), table)
        session.execute("UPDATE app.reports SET body = 'finding 4' WHERE id = 3")
        assert not same_rows(session, scan(dump), BytesDump(dump), table)
    assert table_digest(scan(dump), BytesDump(dump), table) == taken(dump).tables[table][1]


def test_names_with_dots_are_told_apart() -> None:
    text = b"COPY %s FROM stdin;\n%s\\.\n"
    one = taken(text % (b'"a.b".c', b"1\n") + text % (b'a."b.c"', b"2\n"))
    other = taken(text % (b'"a.b".c', b"1\n") + text % (b'a."b.c"', b"3\n"))
    assert compare(one, one) == ()
    assert compare(one, other) == ('The table a."b.c" has another row.',)
    script = scan(text % (b"a.b", b"1\n"))
    assert table_digest(script, BytesDump(b""), ("a", "nowhere")) == ""


def test_sentence_29_beyond_the_names_counts_and_digests_remain() -> None:
    text = b"-- Name: %s; Type: INDEX; Schema: s; Owner: o\n\nCREATE INDEX %s ON s.t (a);\n\n"
    names = [b"i%d" % n for n in range(NAMED + 1)]
    many = taken(b"".join(text % (name, name) for name in names))
    assert many.objects["INDEX"].count == NAMED + 1
    assert many.objects["INDEX"].each == {}
    fewer = taken(b"".join(text % (name, name) for name in names[1:]))
    other = taken(b"".join(text % (name, name + b"x") for name in names))
    assert compare(many, fewer) == (f"There are {NAMED:,} definitions of the kind INDEX instead of {NAMED + 1:,}.",)
    assert compare(many, other) == ("A definition of the kind INDEX differs.",)
    assert compare(many, many) == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda value: None,
        lambda value: [],
        lambda value: {**value, "tables": {"s": {"t": [1]}}},
        lambda value: {**value, "tables": [1]},
        lambda value: {**value, "large_objects": [1, 2, "no number", {}]},
        lambda value: {**value, "objects": {"INDEX": 3}},
        lambda value: {key: value[key] for key in value if key != "matviews"},
    ],
)
def test_a_malformed_fingerprint_is_damage(change: Callable[[dict[str, object]], object]) -> None:
    sound = Fingerprint({}, {}, Multiset(), {}, {}).to_json()
    assert Fingerprint.from_json(sound).to_json() == sound
    with pytest.raises(DamagedError, match="fingerprint"):
        Fingerprint.from_json(change(sound))
