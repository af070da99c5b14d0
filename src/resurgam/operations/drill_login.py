"""The login by which a drill loads a dump where we are a superuser: made, given a database, refused, dropped.

What is in a dump runs with the rights of whoever loads it. So a superuser loads none in a drill: a throw-away login of
no rights does, by a real connection of its own, since SET ROLE can be undone by the dump.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from resurgam.errors import DatabaseError
from resurgam.operations.restore_database import DatabasePlan, drop_database, end_creation
from resurgam.postgres.connection import Server
from resurgam.postgres.loadcheck import read_facts
from resurgam.postgres.plain_login import create_login, drop_login, prepare
from resurgam.postgres.plain_script import PlainScript, plain_script
from resurgam.postgres.properties import create_database
from resurgam.postgres.roles import create_roles
from resurgam.postgres.script import Script, Statement
from resurgam.postgres.swap import maintenance_server
from resurgam.settings import Secret

_REFUSALS = ("pg_hba.conf", "authentication", "password")
_LET_IN = "Is it pg_hba.conf? Let roles named *_drill_* log in by password from here, or set DRILL_SERVER=embedded."


@dataclass(frozen=True, slots=True)
class PlainPlan:
    """`plan` loads what the login can, into the database that it owns; `plain.left_out` is the rest."""

    plan: DatabasePlan
    plain: PlainScript
    login: str


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """The server does not let our login in (pg_hba.conf), and why; nothing is left of it."""

    reason: str


def plan_by_login(plan: DatabasePlan, login: str) -> PlainPlan | LoginRefused:
    """Make the login, and as `plan.fresh` the database that it loads, both noted by the caller before.

    Missing roles are created as `plan` says. DatabaseError if the server does not make what must be there beforehand.
    """
    try:
        password = _made(plan, login)
        server = _as_login(plan.server.at(plan.fresh), login, password)
        try:
            with closing(server.connect()) as session:
                facts = replace(read_facts(session), left_out=plan.facts.left_out)
        except DatabaseError as error:
            # Anything else (no connection is free, the server goes down) must not end in a superuser's load.
            if not any(sign in error.message.lower() for sign in _REFUSALS):
                raise DatabaseError(error.message, _LET_IN) from None
            drop_with_login(plan.server, plan.fresh, login)
            return LoginRefused(error.message)
        plain = plain_script(plan.script, facts)
        with closing(plan.server.at(plan.fresh).connect()) as session:
            prepare(session, login, plain)
    except psycopg.Error as error:
        raise DatabaseError(
            f"What the drill needs on the server could not be made ({error.diag.message_primary or error}); the live "
            "database is untouched.",
            "A throw-away server needs nothing of it: DRILL_SERVER=embedded.",
        ) from None
    properties = None if plan.properties is None else replace(plan.properties, owner=login)
    plan = replace(plan, server=server, facts=facts, script=plain.script, properties=properties)
    return PlainPlan(plan, plain, login)


def drop_with_login(server: Server, database: str, login: str | None) -> None:
    """Drop a scratch database and the login that owns it; harmless where they are not. DatabaseError if one stays."""
    maintenance = maintenance_server(server)
    drop_database(maintenance, database)
    if login is None:
        return
    with closing(maintenance.connect()) as session:
        try:
            # Unlike DROP DATABASE it does not wait for the disk by itself; the note goes when it is durable.
            session.execute("SET synchronous_commit = local")
            end_creation(session, sql.SQL("CREATE ROLE {}").format(sql.Identifier(login)).as_string(session))
            drop_login(session, login)
        except psycopg.Error as error:
            raise DatabaseError(
                f"The drill's role {login} could not be dropped ({error.diag.message_primary}).",
                f'It has no rights, and can\'t log in after a week. Drop it by hand: DROP ROLE "{login}";',
            ) from None


def _made(plan: DatabasePlan, login: str) -> Secret:
    with closing(plan.maintenance.connect()) as session:
        if plan.create_roles:
            create_roles(session, plan.create_roles, plan.facts)
        password = create_login(session, login, past_row_security=_forces_row_security(plan.script))
        create_database(session, plan.fresh, plan.properties, owner=login)
    return password


def _as_login(server: Server, login: str, password: Secret) -> Server:
    return replace(server, database=replace(server.database, user=login, password=password))


def _forces_row_security(script: Script) -> bool:
    return any(isinstance(item, Statement) and b"FORCE ROW LEVEL SECURITY" in item.text for item in script.items)
