"""Connection values: DB_*, then PG*, then DATABASE_URL, then the defaults; and what is left to libpq."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.errors import SettingsError
from resurgam.settings import Database, Secret, Settings, load_settings


def load(**environ: str) -> Settings:
    return load_settings({"APP_DIR": "/nonexistent", **environ}, folder=Path("/"))


def place(**environ: str) -> tuple[str | None, int | None, str | None, str | None, str | None]:
    database = load(**environ).database
    password = database.password.reveal() if database.password else None
    return database.host, database.port, database.name, database.user, password


def refusal(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**environ)
    return caught.value.message


URL = "postgresql://url_user:url_word@url.host:6000/url_db"
PG = {"PGHOST": "pg.host", "PGPORT": "5999", "PGDATABASE": "pg_db", "PGUSER": "pg_user", "PGPASSWORD": "pg_word"}
DB = {"DB_HOST": "db.host", "DB_PORT": "5998", "DB_NAME": "db_db", "DB_USER": "db_user", "DB_PASSWORD": "db_word"}


def test_precedence_value_by_value() -> None:
    assert place(DATABASE_URL=URL) == ("url.host", 6000, "url_db", "url_user", "url_word")
    assert place(DATABASE_URL=URL, **PG) == ("pg.host", 5999, "pg_db", "pg_user", "pg_word")
    assert place(DATABASE_URL=URL, **PG, **DB) == ("db.host", 5998, "db_db", "db_user", "db_word")
    assert place(DATABASE_URL=URL, PGUSER="pg_user", DB_NAME="db_db") == (
        "url.host",
        6000,
        "db_db",
        "pg_user",
        "url_word",
    )


def test_pg_values_may_stand_in_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PGHOST=pg.host\nPGPASSWORD=pg_word\nDATABASE_URL=postgres:///url_db\n")
    database = load_settings({"APP_DIR": str(tmp_path)}, folder=tmp_path).database
    assert database == Database("pg.host", 5432, "url_db", "postgres", Secret("pg_word"))


def test_without_a_password_pgpass_is_left_its_chance() -> None:
    assert place(DB_HOST="h")[4] is None


def test_a_service_supplies_what_db_values_do_not() -> None:
    assert place(PGSERVICE="prod", DATABASE_URL=URL, **PG) == (None, None, None, None, None)
    assert place(PGSERVICE="prod", DB_NAME="mine") == (None, None, "mine", None, None)


def test_what_libpq_would_not_see_is_said(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PGSSLMODE=verify-full\nPGSERVICE=prod\nPGUSER=u\nPGADMIN_DEFAULT_EMAIL=a@b\n")
    settings = load_settings({"APP_DIR": str(tmp_path), "PGSERVICE": "here"}, folder=tmp_path)
    assert len(settings.warnings) == 1
    assert settings.warnings[0].startswith("PGSSLMODE in")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://h/d", ("h", 5432, "d", "postgres", None)),
        ("postgresql+psycopg2://u:p@h:1/d", ("h", 1, "d", "u", "p")),
        ("postgresql+asyncpg://u@h", ("h", 5432, "radiology_db", "u", None)),
        ("postgresql://u:p%40%2F%3A@h/my%20db", ("h", 5432, "my db", "u", "p@/:")),
        ("postgresql://u:raw@sign@h/d", ("h", 5432, "d", "u", "raw@sign")),
        ("postgresql://[::1]:5433/d", ("::1", 5433, "d", "postgres", None)),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/d", ("/var/run/postgresql", 5432, "d", "postgres", None)),
        ("postgresql:///d?host=/var/run&user=u&password=p&port=7", ("/var/run", 7, "d", "u", "p")),
        ("postgresql://", ("postgres", 5432, "radiology_db", "postgres", None)),
    ],
)
def test_urls(url: str, expected: tuple[str, int, str, str, str | None]) -> None:
    assert place(DATABASE_URL=url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "hush",
        "mysql://u:hush@h/d",
        "postgresql://u:hush@h:port/d",
        "postgresql://u:hush@h:70000/d",
        "postgresql://u:hush@a,b/d",
        "postgresql://u:hush@h:1,i:2/d",
        "postgresql://u:hush/x@h/d",
        "postgresql://u:hush%ff@h/d",
        "postgresql://u@h/d?sslpassword=hush",
    ],
)
def test_urls_that_are_refused_without_showing_them(url: str) -> None:
    message = refusal(DATABASE_URL=url)
    assert message.startswith("1 setting is wrong")
    assert "DATABASE_URL" in message
    assert "hush" not in message


def test_another_kind_of_url_is_not_judged_where_nothing_is_needed_from_it() -> None:
    assert place(DATABASE_URL="sqlite:///app.db", DB_HOST="h", DB_NAME="d", DB_USER="u")[:4] == ("h", 5432, "d", "u")


def test_options_of_the_url_are_kept_unless_the_environment_overrules_them() -> None:
    url = (
        "postgresql://h/d?sslmode=verify-full&sslrootcert=/ca%2Epem&hostaddr=10.0.0.1&application_name=x&schema=public"
    )
    settings = load(DATABASE_URL=url)
    assert settings.database.options == (
        ("hostaddr", "10.0.0.1"),
        ("sslmode", "verify-full"),
        ("sslrootcert", "/ca.pem"),
    )
    assert settings.warnings == ("DATABASE_URL has a parameter that is not libpq's and was ignored: 'schema'.",)
    overruled = load(DATABASE_URL=url, PGSSLMODE="require", DB_HOST="other")
    assert overruled.database.options == (("sslrootcert", "/ca.pem"),)
    assert load(DATABASE_URL="postgresql://h/d?ssl=true").database.options == (("sslmode", "require"),)
    assert (
        load(
            DATABASE_URL="postgresql://h/d?ssl_min_protocol_version=TLSv1.3", PGSSLMINPROTOCOLVERSION="TLSv1.2"
        ).database.options
        == ()
    )


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=30))
def test_any_password_survives_its_escaping(password: str) -> None:
    from urllib.parse import quote

    expected = None if "\0" in password else password
    if expected:
        assert place(DATABASE_URL=f"postgresql://u:{quote(password, safe='')}@h/d")[4] == expected


@given(st.text(max_size=60))
def test_no_url_breaks_anything_but_by_a_refusal(url: str) -> None:
    try:
        load(DATABASE_URL=f"postgresql://{url}")
    except SettingsError as error:
        assert "DATABASE_URL" in error.message
