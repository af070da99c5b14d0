"""Proof that an application is what it was: a fingerprint of everything in it, compared part by part.

It shares no code with the backup: it reads over SQL and the file system, with digests of its own.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

_PINNED: tuple[LiteralString, ...] = (
    "SET TimeZone = 'UTC'",
    "SET DateStyle = 'ISO'",
    "SET IntervalStyle = 'postgres'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 3",
    "SET search_path = ''",
)
_USER_SCHEMAS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_NOT_OF_EXTENSION = "NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = {} AND d.deptype = 'e')"
# One query for each kind of object: its name, and all that defines it.
_DEFINITIONS: dict[str, str] = {
    "column": f"""
        SELECT format('%s.%s', a.attrelid::regclass, a.attname),
            concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
                pg_get_expr(x.adbin, x.adrelid), a.attacl)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef x ON x.adrelid = a.attrelid AND x.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm') AND {_USER_SCHEMAS}""",
    "relation": f"""
        SELECT c.oid::regclass::text, concat_ws(' ', c.relkind, r.rolname, c.relacl, obj_description(c.oid))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'i', 'I') AND {_USER_SCHEMAS}""",
    "view": f"""
        SELECT c.oid::regclass::text, pg_get_viewdef(c.oid) FROM pg_class c JOIN pg_namespace n
        ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND {_USER_SCHEMAS}""",
    "index": f"""
        SELECT c.oid::regclass::text, pg_get_indexdef(c.oid) FROM pg_class c JOIN pg_namespace n
        ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I') AND {_USER_SCHEMAS}""",
    "constraint": f"""
        SELECT format('%s on %s', o.conname,
            coalesce(nullif(o.conrelid, 0)::regclass::text, o.contypid::regtype::text)),
            concat_ws(' ', pg_get_constraintdef(o.oid), o.convalidated)
        FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace WHERE {_USER_SCHEMAS}""",
    "trigger": """
        SELECT format('%s on %s', tgname, tgrelid::regclass), concat_ws(' ', pg_get_triggerdef(oid), tgenabled)
        FROM pg_trigger WHERE NOT tgisinternal""",
    "function": f"""
        SELECT p.oid::regprocedure::text, concat_ws(' ', pg_get_functiondef(p.oid), p.proacl)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.prokind <> 'a' AND {_USER_SCHEMAS} AND {_NOT_OF_EXTENSION.format("p.oid")}""",
    "type": f"""
        SELECT t.oid::regtype::text, concat_ws(' ', t.typtype, format_type(t.typbasetype, t.typtypmod),
            (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typtype IN ('e', 'd') AND {_USER_SCHEMAS} AND {_NOT_OF_EXTENSION.format("t.oid")}""",
    "schema": f"""
        SELECT n.nspname, concat_ws(' ', r.rolname, n.nspacl, obj_description(n.oid))
        FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE {_USER_SCHEMAS}""",
    "extension": "SELECT extname, extversion FROM pg_extension",
    "database": """
        SELECT 'this database', concat_ws(' ', r.rolname, pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
            d.datconnlimit, d.datacl, shobj_description(d.oid, 'pg_database'),
            (SELECT string_agg(s.setconfig::text, ';' ORDER BY s.setrole) FROM pg_db_role_setting s
             WHERE s.setdatabase = d.oid))
        FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = current_database()""",
}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that has to come back, by name.

    `tables` (materialized views too) gives rows and a digest of them in the order of the primary key, or of their text;
    `sequences` the next state; `large_objects` a digest; `objects` what defines each of them; `files` kind, mode,
    owner, modification time in nanoseconds, links, and a digest or a link's target.
    """

    tables: Mapping[str, tuple[int, str]]
    sequences: Mapping[str, str]
    large_objects: Mapping[str, str]
    objects: Mapping[str, str]
    files: Mapping[str, str]

    def summary(self) -> str:
        """One line for people."""
        rows = sum(count for count, _ in self.tables.values())
        return (
            f"{len(self.tables)} tables with {rows:,} rows, {len(self.sequences)} sequences, "
            f"{len(self.large_objects)} large objects, {len(self.objects)} definitions, "
            f"{len(self.files):,} files and folders"
        )


def fingerprint(dsn: str, folder: Path) -> Fingerprint:
    """Read an application whole. The folder's own entry is left out, its contents are not."""
    with psycopg.connect(dsn) as session:
        for setting in _PINNED:
            session.execute(setting)
        return Fingerprint(
            tables={name: _table(session, schema, relation) for name, schema, relation in _tables(session)},
            sequences=_sequences(session),
            large_objects=_large_objects(session),
            objects=_objects(session),
            files=_files(folder),
        )


def differences(before: Fingerprint, after: Fingerprint) -> list[str]:
    """What differs, one line each; empty when the two are equal."""
    found: list[str] = []
    for part in fields(Fingerprint):
        old: Mapping[str, object] = getattr(before, part.name)
        new: Mapping[str, object] = getattr(after, part.name)
        label = part.name.replace("_", " ")
        for name in sorted(old.keys() | new.keys()):
            if name not in new:
                found.append(f"{label}: {name!r} is missing")
            elif name not in old:
                found.append(f"{label}: {name!r} was not there before")
            elif old[name] != new[name]:
                found.append(f"{label}: {name!r} was {old[name]} and is {new[name]}")
    return found


def _tables(session: psycopg.Connection[tuple[object, ...]]) -> list[tuple[str, str, str]]:
    query = f"""SELECT c.oid::regclass::text, n.nspname, c.relname FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND {_USER_SCHEMAS} ORDER BY 1"""
    return [(str(a), str(b), str(c)) for a, b, c in session.execute(query.encode()).fetchall()]


def _table(session: psycopg.Connection[tuple[object, ...]], schema: str, relation: str) -> tuple[int, str]:
    key = session.execute(
        """SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
           WHERE i.indrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND i.indisprimary ORDER BY a.attnum""",
        (schema, relation),
    ).fetchall()
    table = sql.Identifier(schema, relation)
    columns = sql.SQL(", ").join(sql.Identifier("t", str(name)) for (name,) in key) if key else sql.SQL("t::text")
    digest, size = hashlib.sha256(), 0
    command = sql.SQL("COPY (SELECT t.* FROM {} AS t ORDER BY {}) TO STDOUT").format(table, columns)
    with session.cursor() as cursor, cursor.copy(command) as rows:
        for row in rows:
            digest.update(row)
            size += 1
    return size, digest.hexdigest()[:32]


def _sequences(session: psycopg.Connection[tuple[object, ...]]) -> dict[str, str]:
    query = f"""SELECT c.oid::regclass::text, n.nspname, c.relname FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND {_USER_SCHEMAS} ORDER BY 1"""
    found: dict[str, str] = {}
    for name, schema, relation in session.execute(query.encode()).fetchall():
        place = sql.Identifier(str(schema), str(relation))
        row = session.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(place)).fetchone()
        found[str(name)] = f"{row}"
    return found


def _large_objects(session: psycopg.Connection[tuple[object, ...]]) -> dict[str, str]:
    rows = session.execute(
        """SELECT m.oid::text, encode(sha256(lo_get(m.oid)), 'hex'), r.rolname, m.lomacl::text
           FROM pg_largeobject_metadata m JOIN pg_roles r ON r.oid = m.lomowner ORDER BY m.oid"""
    ).fetchall()
    return {str(oid): f"{digest} {owner} {acl}" for oid, digest, owner, acl in rows}


def _objects(session: psycopg.Connection[tuple[object, ...]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, query in _DEFINITIONS.items():
        for name, definition in session.execute(query.encode()).fetchall():
            found[f"{kind} {name}"] = str(definition)
    return found


def _files(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            found[str(path.relative_to(folder))] = _file(path)
    return found


def _file(path: Path) -> str:
    status = path.lstat()
    what = [
        stat.filemode(status.st_mode),
        f"{status.st_uid}:{status.st_gid}",
        f"links {status.st_nlink}" if stat.S_ISREG(status.st_mode) else "",
        str(status.st_mtime_ns),
    ]
    if stat.S_ISLNK(status.st_mode):
        what.append(f"-> {os.fspath(path.readlink())!r}")
    elif stat.S_ISREG(status.st_mode):
        with path.open("rb") as stream:
            what.append(hashlib.file_digest(stream, "sha256").hexdigest()[:32])
    return " ".join(part for part in what if part)
