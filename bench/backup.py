"""The main job, a whole backup: against the plain recipe, against the floor, and beside other tools."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench import measure, report
from bench.lab import DATABASE, Lab

HERE = Path(__file__).parent
RESURGAM = (sys.executable, "-m", "resurgam")
_PEERS = {"gzip": "gzip", "pigz": "pigz", "zstd -1": "zstd -1 -q -T0"}


def run(lab: Lab, pairs: int, peers: int) -> list[report.Line]:
    """Measure in pairs; ours and the floor alternate in who comes first."""
    ours: list[float] = []
    recipe: list[float] = []
    floor: list[float] = []
    peaks: list[int] = []
    for number in range(pairs):
        # The recipe takes so long that a system which reclaims idle memory has emptied its caches behind it: an
        # uncounted floor fills them again, so that ours and the floor meet the same.
        _floor(lab)
        steps: list[Callable[[], None]] = [lambda: _ours(lab, ours, peaks), lambda: floor.append(_floor(lab))]
        for step in steps if number % 2 == 0 else reversed(steps):
            step()
        recipe.append(_recipe(lab))
        print(
            f"  pair {number + 1}: ours {ours[-1]:.2f} s, recipe {recipe[-1]:.2f} s, floor {floor[-1]:.2f} s",
            flush=True,
        )
    lines = [
        report.ratio("backup / plain recipe", ours, recipe, 0.1),
        report.ratio("backup / floor (pg_dump to null + read)", ours, floor, 1.8),
        report.memory("backup, peak memory of our processes", peaks, 256),
    ]
    for name, command in _PEERS.items():
        if shutil.which(command.split()[0]) and peers:
            times = [_peer(lab, command) for _ in range(peers)]
            lines.append(report.ratio(f"backup / (pg_dump and tar | {name})", ours, times))
    return lines


def _backup(lab: Lab) -> measure.Run:
    """One backup into a folder without any, set up by `resurgam init`, which is not counted."""
    backups = lab.work / "backups"
    shutil.rmtree(backups, ignore_errors=True)
    measure.run([*RESURGAM, "init"], lab.environment())
    lab.sql("CHECKPOINT")
    return measure.run([*RESURGAM, "backup"], lab.environment())


def _ours(lab: Lab, seconds: list[float], peaks: list[int]) -> None:
    done = _backup(lab)
    seconds.append(done.seconds)
    peaks.append(done.memory)


def _scratch(lab: Lab) -> Path:
    target = lab.work / "other"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    lab.sql("CHECKPOINT")
    return target


def _recipe(lab: Lab) -> float:
    target = _scratch(lab)
    command: list[str | Path] = [sys.executable, HERE / "plain_recipe.py", DATABASE, lab.app, target]
    seconds = measure.run(command, lab.environment()).seconds
    shutil.rmtree(target)
    return seconds


def _floor(lab: Lab) -> float:
    lab.sql("CHECKPOINT")
    return measure.run([sys.executable, HERE / "floor.py", DATABASE, lab.app], lab.environment()).seconds


def _peer(lab: Lab, compressor: str) -> float:
    target = _scratch(lab)
    script = (
        f"set -e -o pipefail; pg_dump -d {DATABASE} | {compressor} > '{target}/dump'; "
        f"tar cf - -C '{lab.app}' uploads backend/templates | {compressor} > '{target}/files'; sync '{target}'/*"
    )
    seconds = measure.run(["bash", "-c", script], lab.environment()).seconds
    shutil.rmtree(target)
    return seconds
