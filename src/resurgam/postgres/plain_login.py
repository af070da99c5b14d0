"""A throw-away login without any right, the database that it owns, and what a superuser must put there beforehand.

Rules:
- the password is random and never leaves this process: the server is sent a verifier (SCRAM-SHA-256) that libpq made;
- whatever a dump does as this login, it can't become more: RESET ROLE and RESET SESSION AUTHORIZATION give it itself;
- a superuser's session works in the database only while nothing of the dump has run in it.
"""

from __future__ import annotations

import secrets
from typing import Any

import psycopg
from psycopg import sql

from resurgam.postgres.plain_script import PlainScript
from resurgam.settings import Secret

Connection = psycopg.Connection[tuple[Any, ...]]
# Longer than any load takes, and an end to a login that nobody could remove.
_VALID = "7 days"
# Not NOINHERIT: up to 15 that would take away what pg_database_owner has, the schema public (observed).
_POWERLESS = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"


def create_login(connection: Connection, name: str, *, past_row_security: bool) -> Secret:
    """Create the role, and answer its password. psycopg's errors pass through.

    `past_row_security`: the dump forces row security on owners, who could then not read their tables back.
    """
    password = secrets.token_urlsafe(32)
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    row = connection.execute("SELECT (now() + %s::interval)::text", (_VALID,)).fetchone()
    assert row is not None
    role = sql.Identifier(name)
    words = sql.SQL(f"CREATE ROLE {{}} LOGIN {_POWERLESS} {{}} PASSWORD {{}} VALID UNTIL {{}}")
    bypass = sql.SQL("BYPASSRLS" if past_row_security else "NOBYPASSRLS")
    connection.execute(words.format(role, bypass, verifier, row[0]))
    return Secret(password)


def drop_login(connection: Connection, name: str) -> None:
    """Drop the role, if it is there; its database must be gone. psycopg's errors pass through."""
    if connection.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", (name,)).fetchone():
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def prepare(connection: Connection, login: str, plain: PlainScript) -> None:
    """Make what the login can't, by a superuser's `connection` to its empty database. psycopg's errors pass through."""
    role = sql.Identifier(login)
    if connection.info.server_version < 150_000:
        connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(role))
    for schema in plain.schemas:
        words = sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}")
        connection.execute(words.format(sql.Identifier(schema), role))
    for extension in plain.extensions:
        name = sql.Identifier(extension.name)
        where = (
            sql.SQL("") if extension.schema is None else sql.SQL("SCHEMA {}").format(sql.Identifier(extension.schema))
        )
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {} {}").format(name, where))
        if extension.comment is not None:
            connection.execute(sql.SQL("COMMENT ON EXTENSION {} IS {}").format(name, extension.comment))
    if plain.plpgsql is not None:
        connection.execute(sql.SQL("COMMENT ON EXTENSION plpgsql IS {}").format(plain.plpgsql))
    for schema, relation, kind in connection.execute(_CONFIGURATION).fetchall():
        what = sql.SQL("SEQUENCE" if kind == "S" else "TABLE")
        words = sql.SQL("GRANT ALL ON {} {} TO {}")
        connection.execute(words.format(what, sql.Identifier(schema, relation), role))


# Tables of extensions whose rows a dump holds.
_CONFIGURATION = """
SELECT n.nspname, c.relname, c.relkind::text FROM pg_catalog.pg_extension e, pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (e.extconfig)
"""
