"""Statements and commands about the dump's own database: read, kept apart, and never taken for another's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resurgam.errors import HostileError
from resurgam.postgres.own_database import connected_database, database_of, told_properties
from resurgam.postgres.properties import Grant, Properties, Setting
from tests.postgres.dumps import scan

_FRESH = Properties(
    owner="me",
    encoding="UTF8",
    provider="libc",
    collate="C",
    ctype="C",
    locale=None,
    icu_rules=None,
    tablespace="pg_default",
    connection_limit=-1,
    allows_connections=True,
    is_template=False,
    comment=None,
    grants=None,
    settings=(),
    labels=(),
)
_HEAD = "SET standard_conforming_strings = on;\n"
_CONTENT = "CREATE TABLE public.t (id integer);\nCOPY public.t (id) FROM stdin;\n1\n\\.\n"
_END = "-- PostgreSQL database dump complete\n"


def _told(*statements: str, present: Properties | None = None) -> Properties:
    told = told_properties([one.encode() for one in statements], _FRESH, present, "utf-8")
    assert told.left_out == ()
    return told.properties


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("\\connect plain", "plain"),
        ("\\connect Plain_1.x", "Plain_1.x"),
        ('\\connect "select"', "select"),
        ('\\connect "we""ird"', 'we"ird'),
        ('\\connect -reuse-previous=on "dbname=\'we""ird \\\\d=é\\\'s\'"', "we\"ird \\d=é's"),
        ('\\connect -reuse-previous=on "dbname=plain"', "plain"),
        ("\\connect -", None),
        ("\\connect - bob", None),
        ("\\connect plain bob", None),
        ("\\connect plain bob host", None),
        ('\\connect "dbname=plain host=there"', None),
        ('\\connect "postgresql://there/plain"', None),
        ("\\connect -reuse-previous=on \"dbname='plain' host=there\"", None),
        ("\\connect -reuse-previous=on \"dbname='pl'ain'\"", None),
        ("\\connect -reuse-previous=off plain", None),
        ("\\connect 'plain'", None),
        ("\\connect `touch x`", None),
        ("\\connect :x", None),
        ('\\connect ""', None),
        ("\\connect", None),
        ("\\c plain", None),
        ("\\connected plain", None),
        ("\\connect plain \\! touch x", None),
    ],
)
def test_only_what_pg_dump_writes_connects(line: str, name: str | None) -> None:
    assert connected_database(line.encode(), "utf-8") == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CREATE DATABASE a WITH TEMPLATE = template0;", "a"),
        ('DROP DATABASE IF EXISTS "A b";', "A b"),
        ("ALTER DATABASE a OWNER TO bob;", "a"),
        ("ALTER ROLE bob IN DATABASE a SET work_mem TO '1MB';", "a"),
        ("COMMENT ON DATABASE a IS 'x';", "a"),
        ("SECURITY LABEL FOR p ON DATABASE a IS 'x';", "a"),
        ("REVOKE CONNECT,TEMPORARY ON DATABASE a FROM PUBLIC;", "a"),
        ("UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = 'a';", "a"),
        ("GRANT CONNECT ON DATABASE a, b TO PUBLIC;", None),
        ("UPDATE pg_catalog.pg_database SET datallowconn = false WHERE datname = 'a';", None),
        ("UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = 'a' OR true;", None),
        ("ALTER ROLE bob SET work_mem TO '1MB';", None),
        ("CREATE TABLE database (a int);", None),
        ("COMMENT ON TABLE t IS 'ON DATABASE a IS';", None),
        ("ALTER DATABASE été OWNER TO bob;", None),
    ],
)
def test_which_database_a_statement_is_about(text: str, name: str | None) -> None:
    assert database_of(text.encode(), "utf-8") == name


def test_what_create_database_says() -> None:
    made = _told(
        "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'LATIN1' LOCALE_PROVIDER = icu LC_COLLATE = 'x'"
        " LC_CTYPE = 'y' ICU_LOCALE = 'de' ICU_RULES = '&a < b' TABLESPACE = fast;",
        present=replace(_FRESH, comment="of the live one", settings=(Setting("", "work_mem", "1"),)),
    )
    assert made == replace(
        _FRESH, encoding="LATIN1", provider="icu", collate="x", ctype="y", locale="de", icu_rules="&a < b",
        tablespace="fast",
    )  # fmt: skip
    builtin = _told("CREATE DATABASE a LOCALE_PROVIDER = builtin LOCALE = 'C' BUILTIN_LOCALE = 'C.UTF-8';")
    assert (builtin.provider, builtin.collate, builtin.locale) == ("builtin", "C", "C.UTF-8")
    assert _told("CREATE DATABASE a ENCODING = 'UTF8' LC_COLLATE = 'x' LC_CTYPE = 'y';").ctype == "y"


def test_settings_are_what_the_server_would_have_kept() -> None:
    made = _told(
        "ALTER DATABASE a SET search_path TO 'a', 'B c', '$user';",
        "ALTER DATABASE a SET \"my.x\" TO E'8\\\\MB\\'\n';",
        "ALTER ROLE bob IN DATABASE a SET work_mem TO '9MB';",
        "ALTER ROLE ALL IN DATABASE a SET my.y = -1;",
        "ALTER DATABASE a SET gone TO 1;",
        "ALTER DATABASE a RESET gone;",
        present=replace(_FRESH, settings=(Setting("", "datestyle", "ISO, DMY"),)),
    )
    assert made.settings == (
        Setting("", "datestyle", "ISO, DMY"),
        Setting("", "search_path", 'a, "B c", "$user"'),
        Setting("", "my.x", "8\\MB'\n"),
        Setting("bob", "work_mem", "9MB"),
        Setting("", "my.y", "-1"),
    )


def test_grants_begin_with_those_that_every_database_has() -> None:
    made = _told(
        "CREATE DATABASE a;",
        "ALTER DATABASE a OWNER TO bob;",
        "REVOKE CONNECT,TEMPORARY ON DATABASE a FROM PUBLIC;",
        "REVOKE ALL ON DATABASE a FROM bob;",
        "GRANT CREATE,CONNECT ON DATABASE a TO bob;",
        'GRANT TEMPORARY ON DATABASE a TO bob, "B c" WITH GRANT OPTION;',
        "GRANT CREATE ON DATABASE a TO PUBLIC;",
    )
    assert made.grants == (
        Grant("", "CREATE", False),
        Grant("B c", "TEMPORARY", True),
        Grant("bob", "CONNECT", False),
        Grant("bob", "CREATE", False),
        Grant("bob", "TEMPORARY", True),
    )
    assert _told("CREATE DATABASE a;").grants is None


@pytest.mark.parametrize(
    "text",
    [
        "ALTER DATABASE a RENAME TO b;",
        "ALTER DATABASE a SET TABLESPACE fast;",
        "ALTER DATABASE a SET work_mem FROM CURRENT;",
        "ALTER DATABASE a OWNER TO CURRENT_USER;",
        "COMMENT ON DATABASE a IS U&'x';",
        "ALTER DATABASE a SET x TO E'\\x41';",
        "GRANT CONNECT ON DATABASE a TO bob GRANTED BY eve;",
        "GRANT POWER ON DATABASE a TO bob;",
        "CREATE DATABASE a ODD = 1;",
        "ALTER DATABASE a CONNECTION LIMIT = many;",
    ],
)
def test_what_is_not_understood_is_told(text: str) -> None:
    told = told_properties([text.encode()], _FRESH, _FRESH, "utf-8")
    assert told.left_out == (text,)


def test_statements_about_the_own_database_are_none_of_those_that_run() -> None:
    script = scan(
        (
            _HEAD
            + "DROP DATABASE a;\nCREATE DATABASE a;\n\\connect a\n"
            + _HEAD
            + "COMMENT ON DATABASE a IS 'x';\n\n\\connect a\n"
            + _HEAD
            + _CONTENT
            + "GRANT CONNECT ON DATABASE a TO PUBLIC;\nGRANT CONNECT ON DATABASE b TO PUBLIC;\n"
            + _END
        ).encode()
    )
    assert script.complete and script.database == "a" and len(script.about_it) == 4
    left = [item.text for item in script.items]  # type: ignore[union-attr]
    assert len(left) == 4 and left[-1] == b"GRANT CONNECT ON DATABASE b TO PUBLIC;"


@pytest.mark.parametrize(
    ("dump", "line"),
    [
        ("CREATE DATABASE a;\n\\connect b\n" + _CONTENT, 2),
        ("\\connect a\n\\connect b\n" + _CONTENT, 2),
        (_CONTENT + "\\connect a\n", 5),
        ("\\connect a\n" + _CONTENT + "\\connect a\n", 6),
        ("\\restrict k\n\\connect a\n\\unrestrict k\n", 2),
        ("\\encoding SQL_ASCII\n" + _CONTENT, 1),
        ("\\encoding SQL_ASCII\n\\restrict a\n", 1),
        ("\\encoding SQL_ASCII\n", 1),
        ("\\encoding SJIS\n\\connect a\n", 1),
        ("\\connect a\n\\! touch x\n", 2),
        ("SELECT 1; \\connect a\n", 1),
    ],
)
def test_any_other_command_is_refused_with_its_line(dump: str, line: int) -> None:
    with pytest.raises(HostileError, match=f"[Ll]ine {line} "):
        scan((dump + _END).encode())


def test_without_an_own_database_such_statements_stay_to_be_refused() -> None:
    script = scan(("ALTER DATABASE a SET x TO 1;\n" + _CONTENT + "CREATE DATABASE a;\n" + _END).encode())
    assert script.database is None and script.about_it == ()
    assert [item.offset for item in script.items] == sorted(item.offset for item in script.items)
    assert len(script.items) == 4


def test_where_backslashes_escape_such_statements_stay_to_be_refused() -> None:
    script = scan(
        ("\\connect a\nSET standard_conforming_strings = off;\nCOMMENT ON DATABASE a IS 'x\\'y';\n" + _END).encode()
    )
    assert script.about_it == () and len(script.items) == 2
