"""Memory that does not grow with the data: backup and restore of a database of 1 GB and of one of 10 GB."""

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
    peaks = [_measure(cache, major, gigabytes) for gigabytes in sizes]
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


def _measure(cache: Path, major: int, gigabytes: int) -> tuple[int, int]:
    work = cache / "growth"
    shutil.rmtree(work, ignore_errors=True)
    (work / "backups").mkdir(parents=True)
    (work / "app" / "uploads").mkdir(parents=True)
    try:
        with EmbeddedServer(major=major, settings={"max_wal_size": "8GB"}) as server:
            lab = Lab(server, work / "app", work / "none", work, 0, 0)
            lab.sql(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
            rows = gigabytes * _ROWS_PER_GB // _TABLES
            lab.sql(*[_CREATE.format(table=f"part{n}", rows=rows) for n in range(_TABLES)], database=DATABASE)
            name, backup = make_backup(lab)
            restore = measure.run([*RESURGAM, "restore", name, "--yes", "--only", "database"], lab.environment())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"  {gigabytes} GB: backup {backup.seconds:.0f} s, restore {restore.seconds:.0f} s", flush=True)
    return backup.memory, restore.memory
