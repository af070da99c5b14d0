"""Was a database written to since it was put aside? By the server's own counts of rows, compared at two moments.

What counts: every row inserted, updated or deleted in any table of the database, its catalogs included, so that DDL,
TRUNCATE and large objects show as well. What ANALYZE writes, which autovacuum may run on its own, is left out.

What it can't see: a sequence that was advanced (nobody misses that), and what somebody writes between the look and a
DROP DATABASE that follows at once. Where the counts were reset (a crash of the server, pg_stat_reset), nobody can tell,
and that is what is answered. Before PostgreSQL 15 counts may come half a second late: then it says "written" wrongly.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from resurgam.postgres.connection import Server
from resurgam.postgres.swap import maintenance_server

# The resets of the two tell of pg_stat_reset in the database, and of a crash, after which all counts begin anew.
_COUNTS = """
WITH analyzed AS (
  SELECT oid, reltoastrelid FROM pg_class
  WHERE oid IN ('pg_catalog.pg_statistic'::regclass, 'pg_catalog.pg_statistic_ext_data'::regclass)
), counted AS (
  SELECT n_tup_ins + n_tup_upd + n_tup_del AS rows, c.relnamespace = 'pg_catalog'::regnamespace AS is_catalog
  FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid
  WHERE NOT c.relisshared AND NOT EXISTS (SELECT FROM analyzed a WHERE c.oid IN (a.oid, a.reltoastrelid))
)
SELECT (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
  coalesce(sum(rows) FILTER (WHERE is_catalog), 0)::bigint,
  coalesce(sum(rows) FILTER (WHERE NOT is_catalog), 0)::bigint,
  (SELECT coalesce(stats_reset::text, '') FROM pg_stat_database WHERE datname = current_database()),
  (SELECT coalesce(stats_reset::text, '') FROM pg_stat_bgwriter)
FROM counted
"""


@dataclass(frozen=True, slots=True)
class WriteMark:
    """The counts of a database at one moment; equal ones mean that nobody wrote between."""

    oid: int
    catalog: int
    tables: int
    resets: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def write_mark(server: Server, name: str) -> tuple[WriteMark, int]:
    """The mark of the database `name`, and its size in bytes. Raises what connecting to it raises, or psycopg.Error."""
    maintenance = maintenance_server(server)
    with closing(maintenance.connect()) as session:
        row = session.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        # A trigger on login would write at each look.
        quiet = bool(row and row[0]) and session.info.server_version >= 170_000
    with closing(server.at(name).connect(options="-c event_triggers=off" if quiet else "")) as session:
        # Texts of moments must not depend on the session's time zone.
        session.execute("SET TimeZone = 'UTC'")
        found = session.execute(_COUNTS).fetchone()
        sized = session.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None and sized is not None  # aggregates
    oid, catalog, tables, reset, crashed = found
    return WriteMark(oid, catalog, tables, f"{reset}|{crashed}"), int(sized[0])


def what_changed(before: WriteMark, now: WriteMark) -> str:
    """A phrase on how the two differ; "" if nobody wrote between."""
    if before == now:
        return ""
    if before.oid != now.oid:
        return "it is another database of the same name"
    if before.resets != now.resets:
        return "the server's counts were reset meanwhile (a crash?), so nobody can tell whether it was written to"
    return "somebody wrote to it"
