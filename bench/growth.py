"""Memory that does not grow with the data: backup and restore of a database of 1 GB and of one of 10 GB, or of one
table of 5 GB."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import measure, report
from bench.backup import RESURGAM
from bench.lab import DATABASE, Lab
from bench.restore import make_backup
from resurgam.postgres.embedded import EmbeddedServer

# A row of about 1,000 bytes in the dump; the server makes them much faster than a client could.
_ROWS_PER_GB = 1_000_000
_CREATE = """CREATE TABLE {table} AS SELECT n AS id, md5(n::text) AS code,
    (SELECT string_agg(md5((n * 31 + k)::text), ' ') FROM generate_series(1, 28) k) AS body
    FROM generate_series(1, {rows}) n"""
_TABLES = 4


def run(cache: Path, major: int, sizes: tuple[int, int] = (1, 10)) -> list[report.Line]:
    """Peak memory of both operations for both sizes; the larger may have 5 % more."""
    peaks = [_measure(cache, major, gigabytes, _TABLES) for gigabytes in sizes]
    lines = []
    for index, what in enumerate(("backup", "restore")):
        small, large = peaks[0][index], peaks[1][index]
        lines.append(
            report.Line(
                f"{what}, memory at {sizes[1]} GB / at {sizes[0]} GB",
                f"{large / (1 << 20):.0f} MB",
                f"{small / (1 << 20):.0f} MB",
                large / small,
                "",
                1.05,
            )
        )
    return lines


def one_table(cache: Path, major: int, gigabytes: int = 5) -> list[report.Line]:
    """Peak memory of both operations for one table that large, whose rows are narrow: no more than 256 MB."""
    backup, restore = _measure(cache, major, gigabytes, 1, "--check", "full")
    return [
        report.memory(f"backup of one table of {gigabytes} GB, peak memory", [backup], 256),
        report.memory(f"restore --check full of one table of {gigabytes} GB, same", [restore], 256),
    ]


def _measure(cache: Path, major: int, gigabytes: int, tables: int, *options: str) -> tuple[int, int]:
    work = cache / "growth"
    shutil.rmtree(work, ignore_errors=True)
    (work / "backups").mkdir(parents=True)
    (work / "app" / "uploads").mkdir(parents=True)
    try:
        with EmbeddedServer(major=major, settings={"max_wal_size": "8GB"}) as server:
            lab = Lab(server, work / "app", work / "none", work, 0, 0)
            lab.sql(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
            rows = gigabytes * _ROWS_PER_GB // tables
            lab.sql(*[_CREATE.format(table=f"part{n}", rows=rows) for n in range(tables)], database=DATABASE)
            name, backup = make_backup(lab)
            environment = {**lab.environment(), "RESTORE_SAFETY_BACKUP": "false"}
            command = [*RESURGAM, "restore", name, "--yes", "--only", "database", *options]
            restore = measure.run(command, environment)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"  {gigabytes} GB: backup {backup.seconds:.0f} s, restore {restore.seconds:.0f} s", flush=True)
    return backup.memory, restore.memory
