"""A repository under much: a million small files, and a million chunks. Ours alone; the others are not asked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench import report
from bench.lab import Lab
from bench.rivals import Ours, rivals

_EMPTY = "empty"
_IN_FOLDER = 1000
# A backup whose dump is cut into chunks of 128 bytes: a million of them are 128 MB.
_CHUNKS = """
import sys
from resurgam.pipeline.chunker import Cutting
from resurgam.repository import writer
made = writer.RepositoryWriter.add_late
def add_late(self, entry, blocks):
    writer.FINE = Cutting(64, 128, 256, 1 << 20)
    try:
        return made(self, entry, blocks)
    finally:
        writer.FINE = fine
fine, writer.RepositoryWriter.add_late = writer.FINE, add_late
from resurgam.cli.main import main
sys.exit(main(["backup", "--quiet"]))
"""


def run(lab: Lab, files: int) -> list[report.Line]:
    """`files` small files and a fifth of them, for comparison; then a repository of at least as many chunks."""
    lab.sql(f"DROP DATABASE IF EXISTS {_EMPTY}", f"CREATE DATABASE {_EMPTY} TEMPLATE template0")
    few = _tree(lab, files // 5)
    many = _tree(lab, files)
    lines = []
    for index, what in enumerate(("backup", "unchanged repeat")):
        (small, _), (large, memory) = few[index], many[index]
        times = f"{large:.1f} s", f"{small:.1f} s"
        lines.append(report.Line(f"{files:,} files, {what} / 5 x a fifth", *times, large / small / 5, "", 1.1))
        lines.append(report.memory(f"{files:,} files, {what}: peak memory", [memory], 256))
    return lines + _million_chunks(lab, files)


def _tree(lab: Lab, files: int) -> list[tuple[float, int]]:
    """Seconds and memory of a first backup of so many files of 100 bytes, and of the same again."""
    app = lab.work / "many"
    for number in range(files // _IN_FOLDER):
        folder = app / "uploads" / f"{number // 100:02d}" / f"{number % 100:02d}"
        folder.mkdir(parents=True)
        for name in range(_IN_FOLDER):
            (folder / f"{name:04d}.txt").write_bytes(b"report %d of folder %d\n" % (name * 7919, number * 104729) * 4)
    (app / "backend" / "templates").mkdir(parents=True)
    ours, _ = rivals(lab, lab.work / "rivals", app, _EMPTY)
    ours.make()
    taken = [ours.files(), ours.files()]
    print(f"  {files:,} files: {taken[0].seconds:.1f} s, again {taken[1].seconds:.1f} s", flush=True)
    shutil.rmtree(app)
    shutil.rmtree(lab.work / "rivals")
    return [(one.seconds, one.memory) for one in taken]


def _million_chunks(lab: Lab, chunks: int) -> list[report.Line]:
    """Listing it, and planning a prune; without the local cache and with it."""
    database = "chunks"
    lab.sql(f"DROP DATABASE IF EXISTS {database}", f"CREATE DATABASE {database} TEMPLATE template0")
    rows = f"CREATE TABLE noise AS SELECT md5(n::text) || md5((-n)::text) AS a FROM generate_series(1, {chunks * 2}) n"
    lab.sql(rows, database=database)
    ours, _ = rivals(lab, lab.work / "rivals", lab.work / "rivals" / "ours" / "no-files", database)
    ours.make()
    command: list[str | Path] = [sys.executable, "-c", _CHUNKS]
    subprocess.run(command, check=True, env=ours.environment(database, ours.app), stdout=subprocess.DEVNULL)
    lines = []
    for what, step in (("list", Ours.list_backups), ("plan of a prune", Ours.plan_prune)):
        ours.forget_cache()
        for cache in ("cold", "warm"):
            done = step(ours)
            print(f"  {chunks:,} chunks, {what}, {cache}: {done.seconds:.2f} s", flush=True)
            lines.append(
                report.Line(f"{chunks:,} chunks: {what}, {cache}", f"{done.seconds:.2f} s", "", done.seconds, " s", 5)
            )
            lines.append(report.memory(f"{chunks:,} chunks: {what}, {cache}, memory", [done.memory], 256))
    shutil.rmtree(lab.work / "rivals")
    return lines
