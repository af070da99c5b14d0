"""What in a live database a restore in place drops, who stands in its way, and whether its transaction committed.

Rules:
- what our role owns is dropped, one by one from the catalog: DROP OWNED BY would take its rights on the database;
- what somebody else made in the database refuses the restore. The schema public stays, and so do extensions of others;
- one transaction holds it all; its id, noted before it changes anything, tells after a crash which side is up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from resurgam.errors import DatabaseError
from resurgam.postgres.connection import Server
from resurgam.postgres.load_in_place import one_transaction_problems
from resurgam.postgres.loadcheck import TargetFacts
from resurgam.postgres.script import Script

Connection = psycopg.Connection[tuple[Any, ...]]
_POLL = 0.02
_TRIES = 300
_TRY_SECONDS = 0.05
_NAMED = 10

# Objects of initdb have lower oids. What an extension made, or what is a part of something else, goes with that.
_OBJECTS = """
WITH found (rank, word, class, oid, owner, schema) AS (
  SELECT 0, 'EVENT TRIGGER', 'pg_event_trigger'::regclass, oid, evtowner, 0::oid FROM pg_event_trigger
  UNION ALL SELECT 1, 'PUBLICATION', 'pg_publication'::regclass, oid, pubowner, 0 FROM pg_publication
  UNION ALL SELECT 2, 'SCHEMA', 'pg_namespace'::regclass, oid, nspowner, 0 FROM pg_namespace WHERE nspname <> 'public'
  UNION ALL SELECT 3, 'EXTENSION', 'pg_extension'::regclass, oid, extowner, extnamespace FROM pg_extension
  UNION ALL SELECT CASE WHEN relkind IN ('r', 'p', 'f') THEN 4 WHEN relkind IN ('v', 'm') THEN 5 ELSE 6 END,
    CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
      WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
    'pg_class'::regclass, oid, relowner, relnamespace FROM pg_class WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
  UNION ALL SELECT 7, 'ROUTINE', 'pg_proc'::regclass, oid, proowner, pronamespace FROM pg_proc
  UNION ALL SELECT 8, 'TYPE', 'pg_type'::regclass, oid, typowner, typnamespace FROM pg_type
    WHERE typtype <> 'm' AND typcategory <> 'A'
      AND (typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = typrelid AND c.relkind = 'c'))
  UNION ALL SELECT 9, 'OPERATOR CLASS', 'pg_opclass'::regclass, oid, opcowner, opcnamespace FROM pg_opclass
  UNION ALL SELECT 10, 'OPERATOR FAMILY', 'pg_opfamily'::regclass, oid, opfowner, opfnamespace FROM pg_opfamily
  UNION ALL SELECT 11, 'OPERATOR', 'pg_operator'::regclass, oid, oprowner, oprnamespace FROM pg_operator
  UNION ALL SELECT 12, 'COLLATION', 'pg_collation'::regclass, oid, collowner, collnamespace FROM pg_collation
  UNION ALL SELECT 13, 'CONVERSION', 'pg_conversion'::regclass, oid, conowner, connamespace FROM pg_conversion
  UNION ALL SELECT 14, 'TEXT SEARCH CONFIGURATION', 'pg_ts_config'::regclass, oid, cfgowner, cfgnamespace
    FROM pg_ts_config
  UNION ALL SELECT 15, 'TEXT SEARCH DICTIONARY', 'pg_ts_dict'::regclass, oid, dictowner, dictnamespace FROM pg_ts_dict
  UNION ALL SELECT 16, 'STATISTICS', 'pg_statistic_ext'::regclass, oid, stxowner, stxnamespace FROM pg_statistic_ext
  UNION ALL SELECT 17, 'SERVER', 'pg_foreign_server'::regclass, oid, srvowner, 0 FROM pg_foreign_server
  UNION ALL SELECT 18, 'FOREIGN DATA WRAPPER', 'pg_foreign_data_wrapper'::regclass, oid, fdwowner, 0
    FROM pg_foreign_data_wrapper
  UNION ALL SELECT 19, 'LANGUAGE', 'pg_language'::regclass, oid, lanowner, 0 FROM pg_language
)
SELECT f.word, (pg_identify_object(f.class, f.oid, 0)).identity, pg_get_userbyid(f.owner),
  pg_has_role(f.owner, 'USAGE'), CASE WHEN n.nspname IS NULL THEN '' ELSE quote_ident(n.nspname) END
FROM found f LEFT JOIN pg_namespace n ON n.oid = f.schema
WHERE f.oid >= 16384 AND NOT coalesce(n.nspname ~ '^pg_(toast|temp)', false)
  AND NOT (f.word = 'SCHEMA' AND EXISTS (SELECT FROM pg_namespace s WHERE s.oid = f.oid AND s.nspname ~ '^pg_'))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = f.class AND d.objid = f.oid AND d.objsubid = 0
    AND d.deptype IN ('i', 'e'))
ORDER BY f.rank, f.oid
"""

# What takes a default right away again; a row of pg_default_acl goes once it says what the server's own default says.
_DEFAULT_RIGHTS = """
WITH found AS (
  SELECT d.*, format('ALTER DEFAULT PRIVILEGES FOR ROLE %I', pg_get_userbyid(defaclrole))
      || coalesce(' IN SCHEMA ' || quote_ident(n.nspname), '') AS head,
    CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES'
      WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS things
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace WHERE pg_has_role(defaclrole, 'USAGE'))
SELECT text FROM (
  SELECT 0 AS rank, format('%s REVOKE ALL ON %s FROM %s', head, things,
    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END) AS text
  FROM found, LATERAL (SELECT DISTINCT grantee FROM aclexplode(defaclacl)) a
  UNION ALL SELECT 1, format('%s GRANT ALL ON %s TO %I', head, things, pg_get_userbyid(defaclrole))
  FROM found WHERE defaclnamespace = 0
  UNION ALL SELECT 2, format('%s GRANT %s ON %s TO PUBLIC', head,
    CASE defaclobjtype WHEN 'f' THEN 'EXECUTE' ELSE 'USAGE' END, things)
  FROM found WHERE defaclnamespace = 0 AND defaclobjtype IN ('f', 'T')) made ORDER BY rank
"""

# pg_dump tells of public only what differs from a new database's.
_PUBLIC = """
SELECT text FROM (
  SELECT 0 AS rank, format('REVOKE ALL ON SCHEMA public FROM %s',
    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END) AS text
  FROM pg_namespace n, LATERAL (SELECT DISTINCT grantee FROM aclexplode(n.nspacl)) a
  WHERE nspname = 'public' AND pg_has_role(nspowner, 'USAGE')
  UNION ALL SELECT rank, text FROM pg_namespace n, LATERAL (VALUES
    (1, format('GRANT ALL ON SCHEMA public TO %I', pg_get_userbyid(nspowner))),
    (2, CASE WHEN current_setting('server_version_num')::int >= 150000 THEN 'GRANT USAGE ON SCHEMA public TO PUBLIC'
      ELSE 'GRANT ALL ON SCHEMA public TO PUBLIC' END),
    (3, 'COMMENT ON SCHEMA public IS ''standard public schema''')) made (rank, text)
  WHERE nspname = 'public' AND pg_has_role(nspowner, 'USAGE')) all_of_it ORDER BY rank
"""


@dataclass(frozen=True, slots=True)
class Present:
    """Something in the live database, as SQL names it: `DROP word identity`. `schema`: where it is, or ""."""

    word: str
    identity: str
    owner: str
    ours: bool
    schema: str


def read_present(connection: Connection) -> tuple[Present, ...]:
    """What users made in the database that `connection` is in, in the order in which it can be dropped."""
    return tuple(Present(*row) for row in connection.execute(_OBJECTS).fetchall())


def extensions_that_stay(present: tuple[Present, ...]) -> frozenset[str]:
    """The names of extensions of others."""
    return frozenset(
        one.identity.removeprefix('"').removesuffix('"').replace('""', '"')
        for one in present
        if one.word == "EXTENSION" and not one.ours
    )


def examine(
    server: Server, script: Script, facts: TargetFacts, encoding: str, *, exists: bool
) -> tuple[tuple[str, ...], TargetFacts]:
    """Why the database that `server` names can't be replaced in place by the script; and the facts, by which extensions
    of others that are there can be had. `encoding`: the backup's, or "".
    """
    live = str(server.database.name)
    if not exists:
        return (f"The database {live} does not exist, so that nothing can be restored in place.",), facts
    with closing(server.connect()) as session:
        present = read_present(session)
        problems = tuple(_problems(session, present, live, encoding))
    there = dict.fromkeys(extensions_that_stay(present), True)
    return (*problems, *one_transaction_problems(script)), replace(facts, extensions={**facts.extensions, **there})


def _problems(connection: Connection, present: tuple[Present, ...], live: str, encoding: str) -> Iterator[str]:
    others = [one for one in present if not one.ours and one.word != "EXTENSION"]
    if others:
        named = ", ".join(f"{one.word.lower()} {one.identity} of {one.owner}" for one in others[:_NAMED])
        more = f", and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        yield (
            f"In {live} are objects of others, which a restore in place can neither keep nor replace: {named}{more}. "
            "Restore as a role that owns them, or let a superuser run ALTER ROLE … CREATEDB and restore beside."
        )
    dropped = {one.identity for one in present if one.word == "SCHEMA"}
    for one in present:
        if one.word == "EXTENSION" and not one.ours and one.schema in dropped:
            yield (
                f"The extension {one.identity} of {one.owner} is in the schema {one.schema}, which would be replaced: "
                "let its owner move it (ALTER EXTENSION … SET SCHEMA public)."
            )
    row = connection.execute(
        "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    if encoding and row is not None and row[0] != encoding:
        yield f"{live} has the encoding {row[0]}, the backup {encoding}, and in place that can't change."
    row = connection.execute(
        "SELECT count(*) FROM pg_largeobject_metadata WHERE NOT pg_has_role(lomowner, 'USAGE')"
    ).fetchone()
    if row is not None and row[0]:
        yield f"In {live} are {row[0]:,} large objects of others, which a restore in place can't replace."


def dropping(connection: Connection) -> Iterator[str]:
    """The statements that drop what is ours, in order; the catalog is asked as they are taken."""
    present = [one for one in read_present(connection) if one.ours]
    schemas = {one.identity for one in present if one.word == "SCHEMA"}
    for one in present:
        if one.schema not in schemas or one.word == "EXTENSION":
            yield f"DROP {one.word} IF EXISTS {one.identity} CASCADE"
    yield "SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE pg_has_role(lomowner, 'USAGE')"
    yield from (str(text) for (text,) in connection.execute(_DEFAULT_RIGHTS).fetchall())
    if connection.execute("SELECT FROM pg_namespace WHERE nspname = 'public'").fetchone() is None:
        yield "CREATE SCHEMA public"
    yield from (str(text) for (text,) in connection.execute(_PUBLIC).fetchall())


@contextmanager
def blockers_ended(server: Server, pid: int) -> Iterator[None]:
    """While this lasts, every session that holds a lock which the session `pid` waits for is ended, if we may."""
    done = threading.Event()
    with closing(server.connect()) as ender:
        ending = threading.Thread(target=_end_blockers, args=(ender, pid, done), daemon=True)
        ending.start()
        try:
            yield
        finally:
            done.set()
            ending.join()


def _end_blockers(ender: Connection, pid: int, done: threading.Event) -> None:
    while not done.wait(_POLL):
        try:
            for (blocker,) in ender.execute("SELECT unnest(pg_blocking_pids(%s))", (pid,)).fetchall():
                try:
                    ender.execute("SELECT pg_terminate_backend(%s)", (blocker,))
                except psycopg.errors.InsufficientPrivilege:
                    continue  # somebody else's session: the lock's time-out tells
        except psycopg.OperationalError:
            return


def transaction_committed(connection: Connection, xid: str, pid: int) -> bool:
    """Whether that transaction committed. One whose client is dead, and goes on, is ended first.

    DatabaseError if the server does not know yet, or not any more.
    """
    for _ in range(_TRIES):
        try:
            row = connection.execute("SELECT pg_xact_status(%s::text::xid8)", (xid,)).fetchone()
        except psycopg.errors.InvalidParameterValue:  # it lies in the future: another server stands there now
            return False
        status = None if row is None else row[0]
        if status in ("committed", "aborted"):
            return bool(status == "committed")
        if status is None:
            raise DatabaseError(
                f"The server does not remember any more whether the transaction {xid} of an earlier restore in place "
                "was committed.",
                "See docs/troubleshooting.md.",
            )
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND usename = current_user"
            " AND application_name = 'resurgam' AND backend_xid::text = (%s::numeric %% 4294967296)::text",
            (pid, xid),
        )
        connection.execute("SELECT pg_sleep(%s)", (_TRY_SECONDS,))
    raise DatabaseError(
        "The server has not yet decided whether the transaction of an earlier restore in place is committed.",
        "See pg_stat_activity for a COMMIT that waits (a synchronous standby may be down), and run this again.",
    )
