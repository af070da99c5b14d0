"""The whole check of a loaded database: is it what was backed up? (docs/archive-format.md, sentences 27 to 30)"""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import closing
from dataclasses import replace
from typing import Any

from resurgam.clock import Clock
from resurgam.errors import VerifyFailed
from resurgam.postgres.clients import ClientTools
from resurgam.postgres.connection import Server
from resurgam.postgres.fingerprint import Fingerprint, compare, read_back
from resurgam.postgres.loader import DumpReader
from resurgam.postgres.multiset import same_rows
from resurgam.postgres.script import Script
from resurgam.postgres.taking import table_digest


def recorded_fingerprint(metadata: dict[str, Any]) -> Fingerprint | None:
    """What the backup says of its database; None if it says nothing, as older and foreign ones. Raises DamagedError."""
    found = metadata["database"].get("fingerprint")
    return None if found is None else Fingerprint.from_json(found)


def check_fingerprint(
    server: Server,
    tools: ClientTools,
    metadata: dict[str, Any],
    script: Script,
    dump: DumpReader,
    *,
    clock: Clock,
    ignore: Set[str] = frozenset(),
    on_bytes: Callable[[int], None] = lambda count: None,
) -> tuple[str, ...]:
    """Read the database that `server` names back, and compare: what differs, a sentence each; empty if all is there.

    `script` and `dump` are the backup's: tables whose digests differ are looked at row by row. `ignore` as in
    `compare`. VerifyFailed if the backup has no fingerprint; raises what reading back raises.
    """
    expected = recorded_fingerprint(metadata)
    if expected is None:
        raise VerifyFailed(
            "The backup has no fingerprint to compare with: an older version or another program made it.",
            "Restore it with its row counts checked (--check rows), which is the default.",
        )
    found = read_back(server, tools, clock=clock, on_bytes=on_bytes)
    tables = dict(found.tables)
    with closing(server.connect(options="-c row_security=off")) as connection:
        for table, wanted in expected.tables.items():
            got = tables.get(table, wanted)
            if got[0] != wanted[0] or got[1] == wanted[1] or table_digest(script, dump, table) != wanted[1]:
                continue
            # The dump is the one that was taken, so that it can be asked for the rows themselves.
            if same_rows(connection, script, dump, table):
                tables[table] = wanted
    return compare(expected, replace(found, tables=tables), ignore)
