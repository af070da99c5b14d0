"""What the scanner makes of dumps: items, entries, completeness; and what it refuses."""

from __future__ import annotations

import random

import pytest

from resurgam.errors import ArchiveError, DamagedError, HostileError
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.loadcheck import TargetFacts, check_script
from resurgam.postgres.script import CopyBlock, Run, RunKind, ScriptScanner, Statement
from resurgam.postgres.statements import Relation
from tests.clusters import Database
from tests.postgres.dumps import NASTY, NASTY_SUPERUSER, fill, pg_dump, scan

END = b"--\n-- PostgreSQL database dump complete\n--\n\n"


def test_a_real_dump_in_blocks_of_any_size(pg: EmbeddedServer, database: Database) -> None:
    fill(pg, database.name, NASTY + NASTY_SUPERUSER)
    dump = pg_dump(pg, database.name, "-v")
    script = scan(dump)
    assert script.complete
    assert script.dumped_from is not None and script.dumped_from.startswith(str(pg.version))
    assert script.dumped_by is not None and script.dumped_by.startswith(str(pg.version))
    assert script.rows["app", "a"] == 3000
    assert script.rows["app", "nothing"] == 2
    assert script.rows["app", 'we"ird;\n-- Name: f; Type: T; Schema: s; Owner: o\n\\! id;'] == 2
    for item in script.items:
        if isinstance(item, Statement):
            assert dump[item.offset :].startswith(item.text)
            assert item.line == dump.count(b"\n", 0, item.offset) + 1
        elif isinstance(item, CopyBlock):
            assert dump[item.offset + item.length :].startswith(b"\\.\n")
            assert dump.count(b"\n", item.offset, item.offset + item.length) == item.rows
    named = {item.toc.name for item in script.items if item.toc}
    assert not named & {"fake", "f", "x"}
    for block in (1000, 4097, 20011):
        assert scan(dump, block) == script
    slim = scan(dump, keep_statements=False)
    assert slim.rows == script.rows
    assert all(isinstance(item, CopyBlock) for item in slim.items)
    cut_anywhere(dump)


def cut_anywhere(dump: bytes) -> None:
    """Whatever is missing at the end is noticed."""
    chosen = random.Random(7)
    last = dump.rindex(b"\\unrestrict") if b"\\unrestrict" in dump else dump.rindex(b"complete")
    for cut in [*chosen.sample(range(last), 40), last, last - 1]:
        try:
            assert not scan(dump[:cut]).complete, cut
        except ArchiveError as error:
            assert "dump" in error.message


def test_entries_and_copy_blocks() -> None:
    script = scan(
        b"-- Dumped from database version 16.2 (Debian 16.2-1)\n\n--\n-- TOC entry 215 (class 1259 OID 16402)\n"
        b"-- Dependencies: 7 214\n-- Name: t; Type: TABLE; Schema: public; Owner: bob; Tablespace: fast\n--\n\n"
        b"CREATE TABLE public.t ();\nALTER TABLE public.t OWNER TO bob;\n"
        b"--\n-- TOC entry 9 (class 0 OID 16402)\n-- Data for Name: t; Type: TABLE DATA; Schema: -; Owner: bob\n--\n\n"
        b'COPY public."T; x" (a, "b)") FROM stdin;\n1\n2\n\\.\n' + END
    )
    table, owner, data = script.items
    assert isinstance(table, Statement) and table.toc is not None
    assert (table.toc.id, table.toc.dependencies) == (215, (7, 214))
    assert (table.toc.name, table.toc.type, table.toc.schema, table.toc.owner) == ("t", "TABLE", "public", "bob")
    assert owner.toc == table.toc
    assert isinstance(data, CopyBlock) and data.toc is not None
    assert data.toc.data and data.toc.schema is None
    assert (data.table, data.rows, data.length, data.plain) == (Relation("public", "T; x"), 2, 4, True)
    assert script.rows == {("public", "T; x"): 2}
    assert script.dumped_from == "16.2 (Debian 16.2-1)"
    assert script.complete


def test_names_are_folded_and_may_lack_a_schema() -> None:
    script = scan(b"copy /* x */ Some_Table (A) -- y\n from STDIN with (null 'x');\n1\n\\.\n")
    assert script.rows == {(None, "some_table"): 1}
    assert isinstance(script.items[0], CopyBlock) and not script.items[0].plain


def test_long_stretches_are_spans() -> None:
    inserts = b"".join(b"INSERT INTO t VALUES (%d, 'x;''');\n" % i for i in range(50))
    odd = b"INSERT INTO t SELECT (1);\n"
    large = b"BEGIN;\nSELECT pg_catalog.lo_open('1', 131072);\nSELECT pg_catalog.lowrite(0, '\\x00');\n"
    large += b"SELECT pg_catalog.lo_close(0);\nCOMMIT;\n"
    created = b"SELECT pg_catalog.lo_create('1');\nALTER LARGE OBJECT 1 OWNER TO \"Bob\";\n"
    script = scan(b"CREATE TABLE t ();\n" + inserts + odd + b"SELECT 1;\n" + created + b"SELECT 2;\n" + large + END)
    runs = [item for item in script.items if isinstance(item, Run)]
    assert [run.kind for run in runs] == [RunKind.INSERTS, RunKind.LARGE_OBJECTS, RunKind.LARGE_OBJECTS]
    assert runs[0].length == len(inserts + odd.strip())
    assert runs[1].owners == {"Bob"}
    assert all(run.whole for run in runs)
    assert len(script.items) == 6


def test_restrict_keys() -> None:
    assert scan(b"\\restrict abc\n\nSELECT 1;\n" + END + b"\\unrestrict abc\n").restrict_key == "abc"
    assert "unrestrict" in scan(b"\\restrict abc\n\nSELECT 1;\n" + END).missing


@pytest.mark.parametrize(
    "text",
    [
        b"\\restrict abc\n\\unrestrict abd\n",
        b"\\restrict abc\n\\restrict abc\n",
        b"\\unrestrict abc\n",
        b"\\restrict abc; \\! id\n",
        b"\\restrict\n",
        b"SELECT 1; \\restrict abc\n",
        b"\\connect other\n",
        b"\\! id\n",
        b"\\i /etc/passwd\n",
        b"\\copy t from program 'id'\n",
        b"\\\n",
        b"SELECT 'id' \\gexec\n",
        b"SELECT 1 \\g | id\n",
        b"COPY t FROM PROGRAM 'id';\n",
        b"COPY t FROM '/etc/passwd';\n",
        b"SELECT 1;COPY/**/t/* stdin */FROM--stdin\nPROGRAM 'stdin';\n",
        b"cOpY t TO stdout;\n",
        b"COPY (SELECT 1) TO PROGRAM 'id';\n",
        b"COPY t FROM stdin WITH (FORMAT csv);\n1\n\\.\n",
        b"COPY t FROM stdin BINARY;\n1\n\\.\n",
        b"COPY t FROM stdin WHERE id > 1;\n1\n\\.\n",
        b"COPY t TO PROGRAM 'x' FROM stdin;\n\\.\n",
        b"COPY a.b.c FROM stdin;\n\\.\n",
        b"SET client_encoding = 'SJIS';\n",
        b"SET SESSION client_encoding TO big5;\n",
        b"SET NAMES 'GB18030';\n",
        b"SELECT pg_catalog.set_config('client_encoding', 'Shift_JIS_2004', false);\n",
    ],
)
def test_refused_with_its_line(text: bytes) -> None:
    with pytest.raises(HostileError, match=r"Line [345]"):
        scan(b"SELECT 1;\n\n" + text + END)


def test_a_fake_end_is_not_the_end() -> None:
    assert not scan(b"SELECT 1;\n" + END + b"SELECT 2;\n").complete
    assert not scan(b"CREATE FUNCTION f() AS $$\n" + END + b"$$;\n").complete
    assert not scan(b"/*\n" + END + b"*/\n").complete
    assert not scan(b"COPY t FROM stdin;\n" + END + b"\\.\n").complete
    assert scan(b"SELECT 1;\n" + END + b"-- Completed on 2026-01-01\n/* bye */").complete
    assert not scan(b"").complete
    with pytest.raises(DamagedError, match="ends within COPY data that begins at line 1"):
        scan(b"COPY t FROM stdin;\n1\n")


def test_strings_are_read_as_the_script_sets_it() -> None:
    script = scan(
        b"SET standard_conforming_strings = off;\nSELECT '\\';';\nSET standard_conforming_strings = on;\nSELECT '\\';"
    )
    assert [item.text for item in script.items if isinstance(item, Statement)][1::2] == [
        b"SELECT '\\';';",
        b"SELECT '\\';",
    ]


def test_memory_does_not_grow_with_the_data() -> None:
    scanner = ScriptScanner()
    scanner.feed(b"COPY t FROM stdin;\n")
    for _ in range(2000):
        scanner.feed(b"some row of a table\t1\n" * 100)
    assert len(scanner._lexer._buffer) < 100
    scanner.feed(b"\\.\n" + END)
    assert scanner.finish().rows == {(None, "t"): 200000}


FACTS = TargetFacts(
    server_version=160000,
    role="me",
    superuser=False,
    roles=frozenset({"me", "friend", "stranger", "pg_monitor"}),
    member_of=frozenset({"me", "friend"}),
    extensions={"plpgsql": True, "vector": True, "file_fdw": False},
    settings=frozenset({"search_path", "default_tablespace", "default_table_access_method"}),
    tablespaces=frozenset({"pg_default"}),
    access_methods=frozenset({"heap"}),
)


_WAYS = " Create them, or restore with --roles create, or with --roles skip to leave out what is given to them."


def checked(text: bytes, **options: bool) -> tuple[str, str]:
    problems, warnings = check_script(scan(text), FACTS, **options)
    return " ".join(problems), " ".join(warnings)


def test_roles_that_are_missing_are_named_together() -> None:
    text = (
        b'ALTER TABLE t OWNER TO gone;\nGRANT SELECT ON t TO PUBLIC, "Also gone", friend WITH GRANT OPTION;\n'
        b"REVOKE ALL ON t FROM gone;\nALTER DEFAULT PRIVILEGES FOR ROLE third GRANT SELECT ON TABLES TO me;\n"
        b"SELECT pg_catalog.lo_create('1');\nALTER LARGE OBJECT 1 OWNER TO fourth;\n"
        b"COMMENT ON TABLE t IS 'ALTER TABLE t OWNER TO nobody';\n"
    )
    problems, _ = checked(text)
    assert problems == "The dump names roles that the server does not have: Also gone, fourth, gone, third." + _WAYS
    problems, warnings = checked(text, skip_ownership=True)
    assert problems == ""
    assert "1 statement will be skipped: ALTER … OWNER TO, as asked." in warnings


def test_what_a_plain_role_can_not_give_is_skipped_with_a_warning() -> None:
    problems, warnings = checked(
        b"ALTER TABLE t OWNER TO stranger;\nALTER TABLE t OWNER TO friend;\n"
        b"ALTER SCHEMA public OWNER TO pg_database_owner;\n"
        b"SET SESSION AUTHORIZATION stranger;\nGRANT SELECT ON t TO me;\nRESET SESSION AUTHORIZATION;\n"
        b"COMMENT ON EXTENSION plpgsql IS 'x';\nSET transaction_timeout = 0;\n"
    )
    assert "1 statement will be skipped: ALTER … OWNER TO a role" in warnings
    assert "3 statements will be skipped: GRANT in the name of another role." in warnings
    assert "plpgsql" in warnings
    assert "transaction_timeout" in warnings
    assert problems == "The dump names roles that the server does not have: pg_database_owner." + _WAYS


def test_extensions_tablespaces_and_powers() -> None:
    problems, _ = checked(
        b"CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;\n"
        b"CREATE EXTENSION vector;\nCREATE EXTENSION file_fdw;\n"
        b"SET default_tablespace = fast;\nSET default_tablespace = '';\n"
        b"CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f();\n"
    )
    assert problems == (
        "The server lacks extensions: postgis. "
        "Only a superuser, which me is not, may create the extensions: file_fdw. "
        "The server lacks tablespaces: fast. "
        "Only a superuser, which me is not, may create what the dump holds: event triggers."
    )


def test_access_methods_are_a_databases_own() -> None:
    setting = b"SET default_table_access_method = columnar;\n"
    assert checked(setting)[0] == "The server lacks table access methods: columnar."
    assert checked(b"CREATE EXTENSION plpgsql;\n" + setting)[0] == "The server lacks table access methods: columnar."
    assert checked(b"CREATE EXTENSION vector;\n" + setting)[0] == ""
    assert "columnar" not in checked(b"CREATE ACCESS METHOD columnar TYPE TABLE HANDLER h;\n" + setting)[0]


@pytest.mark.parametrize(
    "text",
    [
        b"PREPARE TRANSACTION 'stuck';",
        b"GRANT pg_execute_server_program TO me;",
        b"revoke friend from me;",
        b"GRANT ALL ON DATABASE live TO PUBLIC;",
        b"GRANT SET ON PARAMETER shared_preload_libraries TO me;",
        b"REASSIGN OWNED BY me TO stranger;",
        b"DROP OWNED BY me;",
        b"LOAD '/tmp/evil.so';",
        b"CREATE SUBSCRIPTION s CONNECTION 'host=evil' PUBLICATION p;",
        b"CREATE SUBSCRIPTION s CONNECTION 'connect = false' PUBLICATION p WITH (slot_name = NONE);",
        b"ALTER SUBSCRIPTION s ENABLE;",
        b"SELECT pg_catalog.lo_export(1, '/tmp/x');",
        b"SELECT/**/\"lo_import\"('/etc/passwd');",
        b"WITH x AS (SELECT pg_read_file('/etc/passwd')) SELECT * FROM x;",
        b"SELECT dblink_exec('dbname=live', 'DROP TABLE users');",
        b"SELECT pg_create_physical_replication_slot('x');",
        b"DROP DATABASE live;",
        b"drop /* x */ database if exists live;",
        b"ALTER SYSTEM SET archive_command = 'rm -rf /';",
        b"ALTER DATABASE live RENAME TO gone;",
        b"CREATE ROLE intruder SUPERUSER;",
        b"ALTER USER me PASSWORD 'x';",
        b"DROP TABLESPACE t;",
    ],
)
def test_statements_about_the_whole_server_are_refused(text: bytes) -> None:
    problems, _ = checked(b"SELECT 1;\n" + text + b"\n")
    assert "about the whole server" in problems
    assert "line 2" in problems


def test_what_only_looks_like_it_is_not_refused() -> None:
    text = (
        b"CREATE USER MAPPING FOR me SERVER s;\nCOMMENT ON DATABASE d IS 'DROP DATABASE d';\n"
        b"GRANT SELECT ON database TO me;\nGRANT SELECT ON role TO me;\nGRANT ALL ON TABLE t TO me;\n"
        b"CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false, slot_name = 's');\n"
        b"ALTER SUBSCRIPTION s OWNER TO me;\nPREPARE q AS SELECT 1;\nSELECT pg_catalog.lo_create('5');\n"
        b"CREATE TABLE role (database int);\nCREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'DROP DATABASE x';\n"
    )
    assert checked(text)[0] == ""
