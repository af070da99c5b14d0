"""What a role without superuser rights can load of a dump, and what is left out by name.

tests/operations/test_every_object.py asks real servers the same of every kind of object.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from resurgam.postgres.plain_script import Extension, PlainScript, plain_script, told
from resurgam.postgres.script import CopyBlock, Statement
from tests.postgres.dumps import scan
from tests.postgres.test_script import FACTS

LOGIN = replace(FACTS, role="login", member_of=frozenset({"login"}), extensions={"vector": False, "dblink": False})


def divided(text: bytes) -> PlainScript:
    return plain_script(scan(text), LOGIN)


def kept(plain: PlainScript) -> list[bytes]:
    return [item.text for item in plain.script.items if isinstance(item, (Statement, CopyBlock))]


def left_out(text: bytes) -> str:
    return " ".join(told(divided(text).left_out))


def test_extensions_come_beforehand_with_their_schemas_and_comments() -> None:
    plain = divided(
        b'CREATE SCHEMA "my ext";\nCREATE SCHEMA mine;\nCREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA "my ext";\n'
        b"COMMENT ON EXTENSION vector IS 'a; ''b''';\nCOMMENT ON EXTENSION plpgsql IS 'x';\n"
        b'CREATE TABLE mine.t (v "my ext".vector);\n'
    )
    assert plain.schemas == ("my ext",)
    assert plain.extensions == (Extension("vector", "my ext", "a; 'b'"),)
    assert plain.plpgsql == "x" and plain.left_out == ()
    assert kept(plain) == [b"CREATE SCHEMA mine;", b'CREATE TABLE mine.t (v "my ext".vector);']


def test_a_superuser_is_given_nothing_of_a_statement_that_is_more() -> None:
    """Its schema is not made beforehand, and nothing of it is run but what was understood."""
    plain = divided(
        b"CREATE SCHEMA e CREATE TABLE e.x (i int);\nCREATE EXTENSION vector SCHEMA e;\n"
        b"COMMENT ON EXTENSION vector IS E'a';\n"
    )
    assert plain.schemas == () and plain.extensions == (Extension("vector", "e", None),)
    assert kept(plain) == [b"CREATE SCHEMA e CREATE TABLE e.x (i int);"]


def test_what_reaches_beyond_the_database_is_not_created_for_a_dump() -> None:
    plain = divided(
        b"CREATE EXTENSION IF NOT EXISTS dblink WITH SCHEMA public;\nCOMMENT ON EXTENSION dblink IS 'x';\n"
        b"CREATE VIEW s.v AS SELECT * FROM public.dblink('a', 'b') AS t(i int);\nCREATE VIEW s.w AS SELECT 1;\n"
    )
    assert plain.extensions == () and kept(plain) == [b"CREATE VIEW s.w AS SELECT 1;"]
    assert "it needs public.dblink" in " ".join(told(plain.left_out))


def test_with_what_is_left_out_goes_what_names_it_and_nothing_else() -> None:
    plain = divided(
        b"CREATE FUNCTION s.f(int) RETURNS int LANGUAGE c AS 'x', 'y';\n"
        b"CREATE TABLE s.t (i int DEFAULT s.f(1));\nCREATE TABLE s.u (i int DEFAULT 1);\n"
        b"ALTER TABLE s.t ALTER COLUMN i ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME s.t_i_seq START 1);\n"
        b"CREATE FUNCTION s.g() RETURNS text LANGUAGE sql AS $$SELECT 's.f' || s.f(1)$$;\n"
        b"COPY s.t (i) FROM stdin;\n1\n\\.\nCOPY s.u (i) FROM stdin;\n1\n\\.\n"
        b"SELECT pg_catalog.setval('s.t_i_seq', 7, true);\nCREATE INDEX t_i ON s.t (i);\n"
        b"ALTER INDEX s.p ATTACH PARTITION s.t_i;\nCOMMENT ON TABLE s.u IS 'like s.t';\n"
    )
    assert [text[:20] for text in kept(plain)] == [
        b"CREATE TABLE s.u (i ",
        b"CREATE FUNCTION s.g(",
        b"COPY s.u (i) FROM st",
        b"COMMENT ON TABLE s.u",
    ]
    assert plain.script.rows == {("s", "u"): 1}


@pytest.mark.parametrize(
    "text",
    [
        b"CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION s.f();\nALTER EVENT TRIGGER e DISABLE;\n",
        b"CREATE PUBLICATION p FOR ALL TABLES;\nCOMMENT ON PUBLICATION p IS 'x';\n",
        b"CREATE OR REPLACE PROCEDURAL LANGUAGE odd;\nCREATE FUNCTION s.f() RETURNS int LANGUAGE odd AS 'x';\n",
        b"CREATE FUNCTION s.f() RETURNS int LANGUAGE 'plpython3u' AS 'x';\n",
        b"CREATE FUNCTION s.f() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1';\n",
        b'CREATE TYPE s.shell;\nCREATE TYPE s."a;b" (\n    INPUT = s.i,\n    OUTPUT = s.o\n);\n',
        b"CREATE CAST (s.a AS s.b) WITHOUT FUNCTION;\nCOMMENT ON CAST (s.a AS s.b) IS 'x';\n",
        b"CREATE ACCESS METHOD m TYPE TABLE HANDLER x;\nSET default_table_access_method = m;\n",
        b"ALTER TABLE s.t OWNER TO postgres;\n",
        b"SET SESSION AUTHORIZATION stranger;\nGRANT SELECT ON TABLE s.t TO me;\nRESET SESSION AUTHORIZATION;\n",
    ],
)
def test_what_only_a_superuser_may_make_is_left_out(text: bytes) -> None:
    assert kept(divided(text)) == []
    assert left_out(text) != ""


@pytest.mark.parametrize(
    "text",
    [
        b"CREATE TYPE s.e AS ENUM ('a');\n",
        b"CREATE TYPE s.c AS (i int);\n",
        b"CREATE FUNCTION s.f() RETURNS int LANGUAGE sql NOT LEAKPROOF AS 'SELECT 1';\n",
        b"CREATE FUNCTION s.f() RETURNS text LANGUAGE sql AS 'SELECT ''language c''';\n",
        b"CREATE PUBLICATION p FOR TABLE ONLY s.t;\n",
        b"CREATE CAST (s.a AS text) WITH FUNCTION s.f(s.a);\n",
        b"DO $$BEGIN EXECUTE 'COPY s.t TO PROGRAM ''x'''; END$$;\n",
        b"COMMENT ON TABLE s.t IS 'CREATE EVENT TRIGGER e';\n",
    ],
)
def test_everything_else_is_tried(text: bytes) -> None:
    """Also what the server will refuse: a refusal fails the drill, and is not passed over."""
    assert kept(divided(text)) == [text.strip()]
    assert left_out(text) == ""
