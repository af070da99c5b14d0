"""What no dump holds of a database is recorded and given back: owner, grants, settings, locale, comment, limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from resurgam.errors import DamagedError
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.properties import Properties, apply_properties, create_database, read_properties
from tests import clusters
from tests.clusters import Role


@pytest.fixture
def name(server: EmbeddedServer) -> Iterator[str]:
    made = f"props_{clusters.create_database(server, prefix='seed').name[5:]}"
    yield made
    clusters.drop_database(server, made)
    clusters.drop_database(server, made.replace("props_", "seed_"))


def _copy(server: EmbeddedServer, name: str) -> tuple[Properties, Properties, tuple[str, ...]]:
    """The properties of a database, through JSON, and those of a copy made from them."""
    import json

    with closing(psycopg.connect(server.dsn(), autocommit=True)) as session:
        before = Properties.from_json(json.loads(json.dumps(read_properties(session, name).to_json())))
        create_database(session, f"{name}_copy", before)
        refused = apply_properties(session, f"{name}_copy", before)
        return before, read_properties(session, f"{name}_copy"), refused


def _run(server: EmbeddedServer, *statements: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        for statement in statements:
            session.execute(statement.encode())


def test_everything_comes_back(pg: EmbeddedServer, name: str, owner_role: Role) -> None:
    role = owner_role.name
    _run(
        pg,
        f"CREATE DATABASE {name} TEMPLATE template0 OWNER {role} CONNECTION LIMIT 17",
        f"COMMENT ON DATABASE {name} IS 'It''s \"the\" one \\ %s {{}}'",
        f'ALTER DATABASE {name} SET search_path = app, "Odd Schema", public',
        f"ALTER DATABASE {name} SET work_mem = '8MB'",
        f"ALTER DATABASE {name} SET statement_timeout = '1ms'",
        f"ALTER DATABASE {name} SET default_transaction_read_only = on",
        f"ALTER DATABASE {name} SET myapp.tenant = 'a=b, c''d'",
        f"ALTER DATABASE {name} SET session_preload_libraries = ''",
        f"ALTER DATABASE {name} SET temp_tablespaces = ''",
        f"ALTER DATABASE {name} SET DateStyle = 'German'",
        f"ALTER ROLE {role} IN DATABASE {name} SET role = 'pg_monitor'",
        f"ALTER ROLE {role} IN DATABASE {name} SET search_path = ''",
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {name} TO pg_monitor WITH GRANT OPTION",
        f"GRANT TEMPORARY ON DATABASE {name} TO {role}",
    )
    before, after, refused = _copy(pg, name)
    assert refused == ()
    assert after == before
    assert len(before.settings) == 10
    with psycopg.connect(pg.dsn(), autocommit=True) as session:
        rows = session.execute(
            "SELECT datname, setrole, setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase"
            " WHERE datname LIKE %s ORDER BY 2, 1",
            (f"{name}%",),
        ).fetchall()
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert sorted(one[2]) == sorted(other[2])


def test_default_grants_stay_default(server: EmbeddedServer, name: str) -> None:
    _run(server, f"CREATE DATABASE {name} TEMPLATE template0")
    before, after, refused = _copy(server, name)
    assert before.grants is None and after == before and refused == ()


@pytest.mark.parametrize(
    "options",
    [
        "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
        "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
        "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
        "ENCODING 'EUC_JP' LC_COLLATE 'C' LC_CTYPE 'C'",
    ],
)
def test_encodings_and_locales(pg: EmbeddedServer, name: str, options: str) -> None:
    try:
        _run(pg, f"CREATE DATABASE {name} TEMPLATE template0 {options}")
    except psycopg.errors.WrongObjectType:
        pytest.skip("this machine has no such locale")
    before, after, refused = _copy(pg, name)
    assert after == before and refused == ()


def test_icu_locales(pg: EmbeddedServer, name: str) -> None:
    rules = " ICU_RULES '&V << w <<< W'" if pg.version >= 16 else ""
    try:
        _run(
            pg,
            f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'{rules}"
            " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'",
        )
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.WrongObjectType):
        pytest.skip("this PostgreSQL was built without ICU")
    before, after, refused = _copy(pg, name)
    assert before.provider == "icu" and before.locale
    assert after == before and refused == ()


def test_the_builtin_provider(pg: EmbeddedServer, name: str) -> None:
    if pg.version < 17:
        pytest.skip("came with PostgreSQL 17")
    _run(
        pg,
        f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C'"
        " LC_CTYPE 'C' ENCODING 'UTF8'",
    )
    before, after, refused = _copy(pg, name)
    assert before.provider == "builtin" and before.locale == "C.UTF-8"
    assert after == before and refused == ()


def test_what_the_server_refuses_is_told_and_the_rest_is_given_back(server: EmbeddedServer, name: str) -> None:
    _run(server, f"CREATE DATABASE {name} TEMPLATE template0", f"COMMENT ON DATABASE {name} IS 'kept'")
    with closing(psycopg.connect(server.dsn(), autocommit=True)) as session:
        raw = read_properties(session, name).to_json()
        raw["owner"] = "a role that is gone"
        raw["settings"] = [
            {"role": "nobody at all", "name": "work_mem", "value": "1MB"},
            {"role": "", "name": "no_such_setting", "value": "x"},
            {"role": "", "name": "work_mem", "value": "5MB"},
            {"role": "", "name": 'work_mem" TO 1; DROP TABLE x; --', "value": "5MB"},
        ]
        raw["grants"] = [{"grantee": "gone too", "privilege": "CREATE", "grantable": False}]
        properties = Properties.from_json(raw)
        create_database(session, f"{name}_copy", properties)
        refused = apply_properties(session, f"{name}_copy", properties)
        after = read_properties(session, f"{name}_copy")
    assert len(refused) == 5
    assert after.comment == "kept"
    assert [(setting.name, setting.value) for setting in after.settings] == [("work_mem", "5MB")]


def test_names_that_need_quoting(server: EmbeddedServer, name: str) -> None:
    odd = f'{name} "odd" %s {{}} ;--'
    with closing(psycopg.connect(server.dsn(), autocommit=True)) as session:
        session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(odd)))
        session.execute(sql.SQL("ALTER DATABASE {} SET work_mem = '5MB'").format(sql.Identifier(odd)))
        before = read_properties(session, odd)
        create_database(session, odd + "2", before)
        assert apply_properties(session, odd + "2", before) == ()
        assert read_properties(session, odd + "2") == before


@pytest.mark.parametrize("raw", [None, 1, "x", [], {}, {"owner": "x"}])
def test_malformed_metadata_are_damage(raw: object) -> None:
    with pytest.raises(DamagedError):
        Properties.from_json(raw)
