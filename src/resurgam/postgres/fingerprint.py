"""Fingerprints of databases: read back from a server, and compared.

Rules:
- what is read back comes from pg_dump, through the same scanner as the backup's dump: what it shows, and nothing
  else, is compared;
- materialized views are not in a dump: their rows are summed up by the server, in the dump's snapshot, in any order
  and with floats rounded to 15 digits, because a refresh may add them up in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import closing
from dataclasses import replace
from time import monotonic
from typing import Any

import psycopg
from psycopg import sql

from resurgam.clock import Clock
from resurgam.counting import count_text
from resurgam.postgres.clients import ClientTools
from resurgam.postgres.connection import Server
from resurgam.postgres.dump import Dump
from resurgam.postgres.prints import UNPOPULATED, Fingerprint, Multiset
from resurgam.postgres.script import ScriptScanner
from resurgam.postgres.snapshot import Connection, exported_snapshot
from resurgam.postgres.taking import OWNERS, Taker

__all__ = [
    "OWNERS",
    "Fingerprint",
    "compare",
    "definition_differences",
    "read_back",
    "read_matviews",
    "without",
    "without_invented_names",
    "without_stale_views",
]

_MATVIEWS = """
SELECT n.nspname, c.relname, c.relispopulated FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
_ROWS = """
SELECT count(*), coalesce(sum(pg_catalog.hashtextextended((x.*)::text COLLATE "C", 0)::numeric), 0),
       coalesce(sum(pg_catalog.hashtextextended((x.*)::text COLLATE "C", 1)::numeric), 0)
FROM {} AS x
"""


def read_back(
    server: Server,
    tools: ClientTools,
    *,
    clock: Clock,
    on_bytes: Callable[[int], None] = lambda count: None,
    passing_over: str = "",
) -> Fingerprint:
    """The fingerprint of a database, by pg_dump. Raises SourceError if it can't be dumped whole.

    `passing_over`: a role, whose ownership and rights are left out.
    """
    taker = Taker(passing_over)
    scanner = ScriptScanner(keep_statements=False, observer=taker)
    with closing(server.connect()) as holder, exported_snapshot(holder, server, None) as snapshot:
        encoding = holder.info.parameter_status("server_encoding")
        with closing(Dump(server, tools, snapshot.id, encoding, clock=clock).blocks()) as blocks:
            for block in blocks:
                scanner.feed(block)
                on_bytes(len(block))
        return taker.fingerprint(scanner.finish(), read_matviews(holder))


def read_matviews(connection: Connection, seconds: float | None = None) -> dict[str, tuple[int, str]]:
    """Rows and digest of each materialized view that may be read, in the transaction of `connection`.

    What is not done within so many seconds is left out; the server itself ends what takes longer.
    """
    found: dict[str, tuple[int, str]] = {}
    ends = None if seconds is None else monotonic() + seconds
    for schema, name, populated in connection.execute(_MATVIEWS).fetchall():
        if not populated:
            found[f"{schema}.{name}"] = (UNPOPULATED, "")
            continue
        left = 0 if ends is None else round((ends - monotonic()) * 1000)
        if ends is not None and left <= 0:
            break
        row = _sum_up(connection, sql.Identifier(schema, name), left)
        if row is not None:
            found[f"{schema}.{name}"] = row
    return found


def without_stale_views(connection: Connection, expected: Fingerprint, found: Fingerprint) -> Fingerprint:
    """`found`, with the expected rows for views that differ only because they were out of date in the backup.

    A restore fills a view anew. So one whose rows differ is filled once more: if that changes nothing, it is what its
    query gives of the tables, which are compared by themselves. `connection` is in the database that was loaded.
    """
    settled = dict(found.matviews)
    for schema, name, populated in connection.execute(_MATVIEWS).fetchall():
        wanted, got = expected.matviews.get(f"{schema}.{name}"), settled.get(f"{schema}.{name}")
        if wanted is None or got is None or wanted == got or not populated or wanted[0] == UNPOPULATED:
            continue
        view = sql.Identifier(schema, name)
        try:
            connection.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(view))
        except psycopg.Error:
            continue
        if _sum_up(connection, view, 0) == got:
            settled[f"{schema}.{name}"] = wanted
    return replace(found, matviews=settled)


def without_invented_names(
    expected: Fingerprint, found: Fingerprint, dumped: Fingerprint
) -> tuple[Fingerprint, Fingerprint]:
    """Both, with definitions that lack the names which servers invent for columns, where the dump can tell them.

    `dumped` is taken of the backup's dump now, and believed as far as it is what was recorded.
    """
    wanted, got = dict(expected.objects), dict(found.objects)
    for kind, recorded in expected.objects.items():
        again = dumped.objects.get(kind, Multiset())
        if kind in got and (again.count, again.total) == (recorded.count, recorded.total):
            wanted[kind], got[kind] = dumped.unnamed[kind], found.unnamed[kind]
    return replace(expected, objects=wanted), replace(found, objects=got)


def _sum_up(connection: Connection, view: sql.Identifier, milliseconds: int) -> tuple[int, str] | None:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(
                "SELECT set_config('statement_timeout', %s, true), set_config('extra_float_digits', '0', true)",
                (str(milliseconds),),
            )
            row = connection.execute(sql.SQL(_ROWS).format(view)).fetchone()
    except psycopg.Error:
        if connection.broken:
            raise
        return None  # too slow, or a type that says no
    if row is None:
        return None
    return int(row[0]), "".join(f"{int(total) % (1 << 64):016x}" for total in row[1:])


def compare(expected: Fingerprint, found: Fingerprint, ignore: Set[str] = frozenset()) -> tuple[str, ...]:
    """What differs, a sentence each; empty if nothing does.

    `ignore`: kinds of objects that are not compared, as owners and rights where a restore leaves them out.
    """
    return tuple(_differences(expected, found, ignore))


def without(whole: Fingerprint, left_out: Fingerprint) -> Fingerprint:
    """A fingerprint without what another one holds, which is a part of it."""
    objects = {kind: found.without(left_out.objects.get(kind, Multiset())) for kind, found in whole.objects.items()}
    unnamed = {kind: found.without(left_out.unnamed.get(kind, Multiset())) for kind, found in whole.unnamed.items()}
    return replace(
        whole,
        tables={table: found for table, found in whole.tables.items() if table not in left_out.tables},
        sequences={name: found for name, found in whole.sequences.items() if name not in left_out.sequences},
        matviews={name: found for name, found in whole.matviews.items() if name not in left_out.matviews},
        objects=objects,
        unnamed=unnamed,
    )


def definition_differences(expected: Fingerprint, found: Fingerprint) -> tuple[str, ...]:
    """What differs in the definitions alone, owners among them, and where sequences stand."""
    nothing: dict[Any, Any] = {}
    wanted, there = (
        replace(one, tables=nothing, matviews=nothing, large_objects=Multiset()) for one in (expected, found)
    )
    return tuple(_differences(wanted, there, frozenset()))


def _differences(expected: Fingerprint, found: Fingerprint, ignore: Set[str]) -> Iterator[str]:
    tables = {_plain(table): print_ for table, print_ in expected.tables.items()}
    there = {_plain(table): print_ for table, print_ in found.tables.items()}
    yield from _rows("table", tables, there)
    yield from _each("sequence", expected.sequences, found.sequences, _position)
    yield from _large_objects(expected.large_objects, found.large_objects)
    # A view that one side could not read in time says nothing.
    yield from _rows(
        "materialized view",
        {name: rows for name, rows in expected.matviews.items() if name in found.matviews},
        {name: rows for name, rows in found.matviews.items() if name in expected.matviews},
    )
    for kind in sorted((expected.objects.keys() | found.objects.keys()) - ignore):
        yield from _objects(kind, expected.objects.get(kind, Multiset()), found.objects.get(kind, Multiset()))


def _plain(table: tuple[str | None, str]) -> str:
    """Its name for people; quoted where a dot in it could make it read like another one's."""
    parts = [part for part in table if part]
    return ".".join(f'"{part}"' if "." in part else part for part in parts)


def _each(
    what: str, expected: Mapping[str, Any], found: Mapping[str, Any], say: Callable[[Any, Any], str]
) -> Iterator[str]:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield f"The {what} {name} is missing."
        elif name not in expected:
            yield f"The {what} {name} is not in the backup."
        elif expected[name] != found[name]:
            yield f"The {what} {name} {say(expected[name], found[name])}."


def _rows(what: str, expected: Mapping[str, tuple[int, str]], found: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    def say(wanted: tuple[int, str], got: tuple[int, str]) -> str:
        if UNPOPULATED in (wanted[0], got[0]):
            return "is populated, and should not be" if wanted[0] == UNPOPULATED else "is not populated"
        if wanted[0] != got[0]:
            return f"has {count_text(got[0], 'row')} instead of {wanted[0]:,}"
        return f"has its {got[0]:,} rows, but not their content" if got[0] > 1 else "has another row"

    return _each(what, expected, found, say)


def _position(wanted: tuple[int, bool], got: tuple[int, bool]) -> str:
    if wanted[0] == got[0]:
        return f"stands at {got[0]} {'' if got[1] else 'not '}yet used, other than in the backup"
    return f"stands at {got[0]} instead of {wanted[0]}"


def _large_objects(expected: Multiset, found: Multiset) -> Iterator[str]:
    if (expected.count, expected.size, expected.total) == (found.count, found.size, found.total):
        return
    if _named(expected) and _named(found):
        yield from _each("large object", expected.each, found.each, lambda wanted, got: "has another content")
    else:
        yield f"The large objects differ: {found.size:,} bytes instead of {expected.size:,}, or another content."


def _objects(kind: str, expected: Multiset, found: Multiset) -> Iterator[str]:
    if (expected.count, expected.total) == (found.count, found.total):
        return
    sentences = list(_each(kind or "statement", expected.each, found.each, lambda wanted, got: "is defined otherwise"))
    if sentences and _named(expected) and _named(found):
        yield from sentences
    elif expected.count != found.count:
        yield f"There are {found.count:,} definitions of the kind {kind} instead of {expected.count:,}."
    else:
        yield f"A definition of the kind {kind} differs."


def _named(things: Multiset) -> bool:
    return bool(things.each) or not things.count
