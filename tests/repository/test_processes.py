"""Real processes on a real folder: killed by SIGKILL at any moment, or stopped while others prune (41 to 61)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from resurgam.stores.object_folder import FolderStore
from tests.clusters import soaking
from tests.repository.process_runs import back_up, dump, opened, prune
from tests.repository.scenes import contents, new_repository
from tests.sampling import randomness

ROUNDS = 60 if soaking() else 8


def process(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.repository.process_runs", *map(str, arguments)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None and started.stdout.readline() == "ready\n"
    return started


def look(folder: Path, told: dict[bytes, int]) -> None:
    """Every backup there is gives back its dump; those that were told of are there."""
    repository = opened(folder)
    backups, unreadable = repository.backups()
    assert not unreadable and set(told) <= {one.id for one in backups}
    for one in backups:
        assert contents(repository, one.id)[b"database.sql"] == dump(one.manifest.head.sequence - 1)


def test_sigkill_at_any_moment(tmp_path: Path, tell: Callable[[str], None]) -> None:
    chances, folder = randomness("sigkill"), tmp_path / "repository"
    new_repository(FolderStore(folder))
    told = {back_up(folder, 1): 1}
    output, _ = process("backup", folder, 2).communicate()
    usual = float(output.split()[-1])
    told[bytes.fromhex(output.split()[1])] = 2
    ends: Counter[str] = Counter()
    for number in range(3, 3 + ROUNDS):
        verbs = ["backup", "prune"] if number % 2 else ["backup"]
        runs = [(verb, process(verb, folder, number)) for verb in verbs]
        time.sleep(chances.random() * usual)
        for verb, run in runs:
            run.kill()
            output, _ = run.communicate()
            if output.startswith("committed"):
                told[bytes.fromhex(output.split()[1])] = number
            ends[f"{verb} {output.split()[0] if output else 'killed'}"] += 1
        look(folder, told)
    # Everything goes on unattended.
    gone = next(iter(told))
    opened(folder).delete([gone])
    del told[gone]
    told[back_up(folder, 100)] = 100
    prune(folder)
    look(folder, told)
    tell(f"SIGKILL at {ROUNDS} moments: {dict(ends)}")
    assert ends["backup killed"]


@pytest.mark.parametrize("round_", range(20 if soaking() else 3))
def test_a_backup_that_is_stopped_while_others_prune_completes_or_gives_up(
    tmp_path: Path, round_: int, tell: Callable[[str], None]
) -> None:
    chances, folder = randomness(f"sigstop {round_}"), tmp_path / "repository"
    new_repository(FolderStore(folder))
    told = {back_up(folder, 1): 1}
    output, _ = process("backup", folder, 2).communicate()
    told[bytes.fromhex(output.split()[1])] = 2
    run = process("backup", folder, 3)
    time.sleep(chances.random() * float(output.split()[-1]))
    os.kill(run.pid, signal.SIGSTOP)
    try:
        for intent in (folder / "intents").iterdir():  # it stopped days ago
            os.utime(intent, (time.time() - 9 * 86_400, time.time() - 9 * 86_400))
        gone = next(one for one, number in told.items() if number == 2)
        opened(folder).delete([gone])
        del told[gone]
        told[back_up(folder, 4)] = 4
        prune(folder)
        prune(folder)
    finally:
        os.kill(run.pid, signal.SIGCONT)
    output, _ = run.communicate(timeout=60)
    verb, _, rest = output.partition("\n")[0].partition(" ")
    tell(f"SIGSTOP of a backup while others pruned: {verb}")
    assert verb in ("committed", "failed"), output
    if verb == "committed":
        told[bytes.fromhex(rest)] = 3
    look(folder, told)
    told[back_up(folder, 5)] = 5
    prune(folder)
    look(folder, told)
