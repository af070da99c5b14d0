"""Some tables or schemas of a dump: which statements bring them, and how they get new names.

The selected data are loaded into a scratch database together with all definitions, since no parser of ours need then
know what depends on what. There everything that would clash in the live database is renamed by the server itself, and
pg_dump writes what is left. Pure functions over a script, and questions to the scratch database.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from resurgam.errors import NotFoundError
from resurgam.postgres.connection import NAME_LENGTH, short_name
from resurgam.postgres.script import CopyBlock, Item, Run, RunKind, Script, Statement
from resurgam.postgres.statements import Relation, codec, parse_relation
from resurgam.postgres.tokens import tokens

Connection = psycopg.Connection[tuple[Any, ...]]
_REFRESH = re.compile(rb"REFRESH\s+MATERIALIZED\s+VIEW\s", re.IGNORECASE)
# They act on more than the tables that were asked for.
_OF_THE_DATABASE = re.compile(
    rb"(?:CREATE|ALTER|COMMENT\s+ON|SECURITY\s+LABEL\b[^']*\bON)\s+(?:EVENT\s+TRIGGER|PUBLICATION|SUBSCRIPTION)\s",
    re.IGNORECASE,
)
_TABLE = re.compile(rb"CREATE\s+(?:UNLOGGED\s+|FOREIGN\s+)?TABLE\s", re.IGNORECASE)
_SCHEMA = re.compile(rb"CREATE\s+SCHEMA\s", re.IGNORECASE)
_ALTER = re.compile(rb"ALTER\s+TABLE\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for, as the dump has it. `left_out`: foreign keys of the tables that do not come along; `views`:
    materialized views of the schemas that held rows, in the order in which they can be filled.
    """

    script: Script
    tables: tuple[Relation, ...]
    schemas: tuple[str, ...]
    left_out: tuple[str, ...]
    views: tuple[Relation, ...]


@dataclass(frozen=True, slots=True)
class Renamed:
    """A table or schema, by its old and its new name, as SQL writes them."""

    kind: str
    old: str
    new: str


def select_items(script: Script, tables: Sequence[str], schemas: Sequence[str], *, foreign_keys: bool) -> Selection:
    """The script that loads all definitions and the data of these tables and schemas alone.

    `tables` are names as SQL or pg_dump's list write them, `foreign_keys` keeps the keys of the tables, not checked.
    NotFoundError names those that the dump has not.
    """
    encoding = codec(script.encoding)
    there, schemas_there = _defined(script, encoding)
    chosen = _with_partitions([_find(name, there) for name in tables], script, encoding)
    if missing := [schema for schema in schemas if schema not in schemas_there]:
        raise NotFoundError(
            f"The backup's database has no schema {_shown(missing[0])}.", _listed(sorted(schemas_there))
        )

    def wanted(relation: Relation) -> bool:
        return (relation.schema or "public") in schemas or any(relation.overlaps(one) for one in chosen)

    items: list[Item] = []
    left_out: list[str] = []
    views: list[Relation] = []
    for item in script.items:
        if isinstance(item, CopyBlock):
            keep = wanted(item.table)
        elif isinstance(item, Run):
            keep = item.kind is RunKind.INSERTS
        elif _REFRESH.match(item.text):
            keep = False  # what they read may not be there
            view = parse_relation(list(tokens(item.text)), 3, encoding)
            views += [view[0]] if view is not None and view[0].schema in schemas else []
        elif _OF_THE_DATABASE.match(item.text):
            keep = False
        elif (key := _foreign_key(item, encoding)) is not None:
            table, name = key
            keep = foreign_keys and wanted(table)
            if keep:
                item = replace(item, text=_unchecked(item.text))
            elif wanted(table):
                left_out.append(f"{name} of {table}")
        else:
            keep = True
        if keep:
            items.append(item)
    rows = {key: count for key, count in script.rows.items() if wanted(Relation(*key))}
    return Selection(
        replace(script, items=tuple(items), rows=rows), tuple(chosen), tuple(schemas), tuple(left_out), tuple(views)
    )


def _defined(script: Script, encoding: str) -> tuple[list[Relation], set[str]]:
    """The tables and schemas that a script makes."""
    tables = {Relation(*key) for key in script.rows}
    schemas = {"public"}
    for item in script.items:
        if not isinstance(item, Statement):
            continue
        if _TABLE.match(item.text):
            found = list(tokens(item.text[:1000]))
            at = next(i for i, token in enumerate(found) if token == ("word", b"table"))
            named = parse_relation(found, at + 1, encoding)
            if named is not None:
                tables.add(named[0])
        elif _SCHEMA.match(item.text):
            named = parse_relation(list(tokens(item.text[:1000])), 2, encoding)
            if named is not None:
                schemas.add(named[0].name)
    return sorted(tables, key=str), schemas


def _find(name: str, there: Iterable[Relation]) -> Relation:
    """The one table of that name: written plainly as lists show it, or as SQL would."""
    there = list(there)
    found = [one for one in there if name in (str(one), one.name)]
    if not found:
        try:
            read = parse_relation(list(tokens(name.encode())), 0, "utf-8")
        except UnicodeEncodeError:
            read = None
        if read is not None and read[1] == len(list(tokens(name.encode()))):
            found = [one for one in there if read[0].overlaps(one)]
    exact = [one for one in found if name == str(one)]
    found = exact or found
    if not found:
        raise NotFoundError(f"The backup's database has no table {_shown(name)}.", _listed([str(one) for one in there]))
    if len(found) > 1:
        names = ", ".join(str(one) for one in found)
        raise NotFoundError(f"There is more than one table {_shown(name)}: {names}.", "Give the schema, too.")
    return found[0]


def _with_partitions(chosen: list[Relation], script: Script, encoding: str) -> list[Relation]:
    """Partitions come with their table."""
    attached: list[tuple[Relation, Relation]] = []
    for item in script.items:
        if isinstance(item, Statement) and _ALTER.match(item.text) and b"ATTACH PARTITION" in item.text[:1000].upper():
            found = list(tokens(item.text))
            at = 3 if found[2:3] == [("word", b"only")] else 2
            parent = parse_relation(found, at, encoding)
            place = next((i for i, token in enumerate(found) if token == ("word", b"partition")), len(found))
            child = parse_relation(found, place + 1, encoding)
            if parent is not None and child is not None:
                attached.append((parent[0], child[0]))
    whole = list(dict.fromkeys(chosen))
    for parent_, child_ in _until_settled(attached, whole):
        if parent_ in whole and child_ not in whole:
            whole.append(child_)
    return whole


def _until_settled(
    attached: list[tuple[Relation, Relation]], whole: list[Relation]
) -> Iterator[tuple[Relation, Relation]]:
    """The pairs again and again while partitions of partitions are still being found."""
    before = -1
    while before != len(whole):
        before = len(whole)
        yield from attached


def _foreign_key(item: Statement, encoding: str) -> tuple[Relation, str] | None:
    """The table and name of a foreign key that a statement adds."""
    if not _ALTER.match(item.text) or b"FOREIGN" not in item.text.upper():
        return None
    found = list(tokens(item.text))
    named = parse_relation(found, 3 if found[2:3] == [("word", b"only")] else 2, encoding)
    if named is None or found[named[1] : named[1] + 2] != [("word", b"add"), ("word", b"constraint")]:
        return None
    constraint = parse_relation(found, named[1] + 2, encoding)
    if constraint is None or found[constraint[1] : constraint[1] + 1] != [("word", b"foreign")]:
        return None
    return named[0], constraint[0].name


def _unchecked(text: bytes) -> bytes:
    end = text.rstrip().removesuffix(b";")
    return text if end.upper().endswith(b"NOT VALID") else end + b" NOT VALID;"


def rename_in_scratch(session: Connection, selection: Selection, suffix: str) -> tuple[Renamed, ...]:
    """Give the selected tables and schemas, and what of theirs has a name of its own, names that end in `suffix`."""
    renamed: list[Renamed] = []
    with session.transaction():
        for schema in selection.schemas:
            new = restored_name(schema, suffix)
            session.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), sql.Identifier(new)))
            renamed.append(Renamed("schema", Relation(None, schema).sql(), Relation(None, new).sql()))
        for table in selection.tables:
            schema = table.schema or "public"
            if schema in selection.schemas:
                continue
            for kind, place, name in _named_parts(session, Relation(schema, table.name)):
                words = sql.SQL(f"ALTER {kind} {{}} RENAME TO {{}}")
                session.execute(words.format(sql.Identifier(place, name), sql.Identifier(restored_name(name, suffix))))
            old, new_name = Relation(schema, table.name), Relation(schema, restored_name(table.name, suffix))
            renamed.append(Renamed("table", old.sql(), new_name.sql()))
    return tuple(renamed)


def restored_name(name: str, suffix: str) -> str:
    """The name with the suffix. One too long is cut, and told from others of the same beginning by a digest."""
    if len(f"{name}{suffix}".encode()) > NAME_LENGTH:
        suffix = f"_{hashlib.sha256(name.encode()).hexdigest()[:6]}{suffix}"
    return short_name(name, suffix)


def _named_parts(session: Connection, table: Relation) -> list[tuple[str, str, str]]:
    """The table, its indexes, the sequences that it owns and its statistics: kind, schema, name."""
    rows = session.execute(
        """
        WITH t AS (SELECT oid, relkind, relnamespace, relname FROM pg_class WHERE oid = %s::regclass)
        SELECT 'INDEX', n.nspname, c.relname FROM t JOIN pg_index i ON i.indrelid = t.oid
          JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        UNION ALL
        SELECT 'SEQUENCE', n.nspname, c.relname FROM t JOIN pg_depend d ON d.refobjid = t.oid
          AND d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
          JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' JOIN pg_namespace n ON n.oid = c.relnamespace
        UNION ALL
        SELECT 'STATISTICS', n.nspname, s.stxname FROM t JOIN pg_statistic_ext s ON s.stxrelid = t.oid
          JOIN pg_namespace n ON n.oid = s.stxnamespace
        UNION ALL
        SELECT CASE relkind WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, n.nspname, relname
        FROM t JOIN pg_namespace n ON n.oid = relnamespace
        """,
        (table.sql(),),
    )
    return [(str(kind), str(schema), str(name)) for kind, schema, name in rows.fetchall()]


def in_one_transaction(script: Script) -> Script:
    """The script as one transaction, which one connection runs in order."""
    begin, commit = Statement(b"BEGIN;", 0, 1), Statement(b"COMMIT;", script.size, 0)
    return replace(script, items=(begin, *script.items, commit))


def _shown(name: object) -> str:
    text = str(name)[:100]
    return repr("".join(char if char.isprintable() else "?" for char in text))


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - 20} more" if len(names) > 20 else ""
    return f"It has {', '.join(map(_shown, names[:20]))}{more}." if names else "It has none."
