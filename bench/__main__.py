"""`make bench`: every figure of docs/performance in one run, as a table with targets.

BENCH_ARGS="--scale 0.1 --pairs 1" tries it out; `--only backup,restore,swap,list,service,table,growth` chooses.
The last two take their time: memory for one table of 5 GB, and for a database of 1 GB against one of 10 GB.
So do those of a repository: `repository` (against restic and Borg, where they are installed), `days` (a month of daily
backups, by all three) and `million` (so many files, and chunks).
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from bench import backup, growth, listing, million, report, repository, restore, service, swap
from bench.lab import Lab, open_lab
from bench.measure import CommandFailed

_PARTS = "of backup, restore, swap, list, service, repository, days, million, table, growth"
_IN_LAB = frozenset({"backup", "restore", "service", "repository", "days", "million"})
_CACHE = Path(__file__).parents[1] / ".cache" / "bench"


def main() -> int:
    """Exit status: 0 when every target was reached, 1 when one was missed or a command failed."""
    options = _options()
    chosen = options.only.split(",")
    lines: list[report.Line] = []
    try:
        if _IN_LAB & set(chosen):
            with open_lab(options.cache, options.scale, options.pg) as lab:
                _describe(lab)
                parts: dict[str, Callable[[Lab, int, int], list[report.Line]]] = {
                    "backup": backup.run,
                    "restore": restore.run,
                }
                for name, part in parts.items():
                    if name in chosen:
                        print(f"\n{name}, {options.pairs} pairs", flush=True)
                        lines += part(lab, options.pairs, options.peers)
                if "service" in chosen:
                    print(f"\nservice under load, {options.pairs} pairs", flush=True)
                    lines += service.under_load(lab, options.pairs)
                lines += _of_repository(lab, chosen, options.pairs, options.million)
        if "service" in chosen:
            print(f"\nservice over {options.archives:,} archives", flush=True)
            lines += service.over_archives(options.cache, options.archives, options.pairs)
        if "swap" in chosen:
            print(f"\nswap and undo under load, {options.pairs} rounds", flush=True)
            lines += swap.run(options.cache, options.pg, options.pairs)
        if "list" in chosen:
            print(f"\nlist and rebuild, {options.archives:,} archives", flush=True)
            lines += listing.run(options.cache, options.archives, options.pairs)
        if "table" in chosen:
            print("\nmemory for one table of 5 GB", flush=True)
            lines += growth.one_table(options.cache, options.pg)
        if "growth" in chosen:
            print("\nmemory at 1 GB and at 10 GB", flush=True)
            lines += growth.run(options.cache, options.pg)
    except CommandFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    if options.scale != 1 or options.archives != 10_000:
        print("\nThe targets hold for the full size; a smaller one is mostly start-up time.")
    print("\n" + report.heading())
    for line in lines:
        print(line.text())
    return 1 if any(line.reached is False for line in lines) else 0


def _of_repository(lab: Lab, chosen: list[str], pairs: int, many: int) -> list[report.Line]:
    lines: list[report.Line] = []
    if "repository" in chosen:
        print(f"\na repository, {pairs} pairs", flush=True)
        lines += repository.run(lab, pairs)
    if "days" in chosen:
        print("\na repository, a month of daily backups", flush=True)
        lines += repository.days(lab)
    if "million" in chosen:
        print(f"\na repository, {many:,} files and chunks", flush=True)
        lines += million.run(lab, many)
    return lines


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each, alternating (default 5)")
    parser.add_argument(
        "--peers", type=int, default=1, help="measurements of each peer of a backup; 0: no peers at all (default 1)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="the lab's size; 1 is a 675 MB dump and 448 MB of files"
    )
    parser.add_argument("--archives", type=int, default=10_000, help="archives for list and rebuild")
    parser.add_argument("--only", default="backup,restore,swap,list,service", help=_PARTS)
    parser.add_argument("--million", type=int, default=1_000_000, help="files, and chunks, of that part")
    parser.add_argument("--pg", type=int, default=16, help="PostgreSQL's major version (16 or 18)")
    parser.add_argument("--cache", type=Path, default=_CACHE, help="where the lab is kept between runs")
    return parser.parse_args()


def _describe(lab: Lab) -> None:
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"PostgreSQL {lab.server.version} with fsync on\n"
        f"dump {lab.dump.stat().st_size / 1e6:.0f} MB, {lab.files:,} files of {lab.files_bytes / 1e6:.0f} MB; "
        "seconds are medians of wall time, memory is the highest peak"
    )


if __name__ == "__main__":
    sys.exit(main())
