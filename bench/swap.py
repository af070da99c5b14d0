"""How long clients are without their database: a hundred connections that never pause, while a restore or undo swaps.

A client's outage is its failed seconds: from its last answer before a failure to its next answer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import measure, report
from bench.backup import HERE, RESURGAM
from bench.lab import DATABASE, Lab
from bench.restore import make_backup
from resurgam.demo.application import create_database
from resurgam.postgres.embedded import EmbeddedServer

_CLIENTS = 100
_PROCESSES = 4
_REPORTS = 10_000
_OUTAGE_SECONDS = 1.0
_UNDO_SECONDS = 5.0
_SETTLING_SECONDS = 1.0


@dataclass(slots=True)
class _Swaps:
    """Of every swap: the outage of each client that noticed it, the whole command's seconds, and what it says."""

    outages: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def lines(self, what: str) -> list[report.Line]:
        worst = max(max(each) for each in self.outages)
        middle = median(outage for each in self.outages for outage in each)
        total = median(sum(each) for each in self.outages)
        return [
            report.Line(f"{what}, outage of the worst client", f"{worst:.2f} s", "", worst, " s", _OUTAGE_SECONDS),
            report.Line(f"{what}, outage of the median client", f"{middle:.2f} s", "", middle, " s", _OUTAGE_SECONDS),
            report.Line(f"{what}, failed seconds of {_CLIENTS} together", f"{total:.1f} s", "", total, " s"),
        ]


def run(cache: Path, major: int, rounds: int) -> list[report.Line]:
    """Restore and undo, so many times, under the same clients."""
    work = cache / "swap"
    shutil.rmtree(work, ignore_errors=True)
    (work / "app" / "uploads").mkdir(parents=True)
    restores, undos = _Swaps(), _Swaps()
    try:
        with EmbeddedServer(major=major, settings={"max_connections": "200"}) as server:
            lab = Lab(server, work / "app", work / "none", work, 0, 0)
            lab.sql(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
            create_database(server.dsn(DATABASE), _REPORTS, seed=1)
            name, _ = make_backup(lab)
            restore = [*RESURGAM, "restore", name, "--yes", "--only", "database"]
            for number in range(rounds):
                _swap(lab, restore, restores)
                _swap(lab, [*RESURGAM, "undo", "--yes"], undos)
                said = ", ".join(f"{max(swaps.outages[-1]):.2f} s" for swaps in (restores, undos))
                print(f"  round {number + 1}: worst outage by a restore and its undo: {said}", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    longest = max(undos.seconds)
    return [
        *restores.lines("restore"),
        *undos.lines("undo"),
        report.Line("undo, whole command, the longest", f"{longest:.2f} s", "", longest, " s", _UNDO_SECONDS),
    ]


def _swap(lab: Lab, command: list[str], swaps: _Swaps) -> None:
    """Run one command that swaps, under the clients; every one of them must have noticed."""
    environment = {**lab.environment(), "RESTORE_SAFETY_BACKUP": "false"}
    with _clients(lab) as spans:
        swaps.seconds.append(measure.run(command, environment).seconds)
        time.sleep(_SETTLING_SECONDS)
    noticed = [sum(end - start for start, end in client) for client in spans if client]
    if len(noticed) != _CLIENTS:
        raise measure.CommandFailed(f"{_CLIENTS - len(noticed)} of {_CLIENTS} clients did not notice the swap")
    swaps.outages.append(noticed)


@contextmanager
def _clients(lab: Lab) -> Iterator[list[list[tuple[float, float]]]]:
    """The clients, all of them connected; their failed spans are in the list when the block has ended."""
    spans: list[list[tuple[float, float]]] = []
    command: list[str | Path] = [sys.executable, HERE / "hammer.py", str(_CLIENTS // _PROCESSES)]
    environment = lab.environment() | {"PGDATABASE": DATABASE}
    processes = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(_PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield spans
        for process in processes:
            spans.extend(json.loads(process.communicate()[0]))
    finally:
        for process in processes:
            process.kill()
            process.wait()
