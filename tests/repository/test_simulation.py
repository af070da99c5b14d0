"""Seeded runs of the real code in every order (docs/ordering.md, 41 to 61): a sample, or 10,000 when soaking."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.clusters import soaking
from tests.sampling import SEED

_SIDE_BY_SIDE = 2
_BAD = ("no second look", "revival", "manifests before tombstones", "outcome replaced", "no waiting")


def _simulation(*arguments: str) -> subprocess.Popen[str]:
    """Without hash randomization: only then a seed gives the same run in each process."""
    command = [sys.executable, "-m", "tests.repository.simulation", *arguments]
    return subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": "0"}, stdout=subprocess.PIPE, text=True)


def test_no_order_of_backups_prunes_deletions_and_crashes_loses_anything(tell: Callable[[str], None]) -> None:
    each = 5000 if soaking() else 125
    first = 0 if soaking() else SEED
    begins = range(first, first + _SIDE_BY_SIDE * each, each)
    running = [_simulation(str(begin), str(begin + each)) for begin in begins]
    outputs = [one.communicate()[0] for one in running]
    for output in outputs:
        tell(f"simulation: {output.strip().splitlines()[-1]}")
    assert all(one.returncode == 0 for one in running), "\n".join(outputs)


@pytest.mark.soak
@pytest.mark.parametrize("name", _BAD)
def test_the_simulation_finds_protocols_that_lose_data(name: str) -> None:
    running = _simulation("--bad", name, "0", "400")
    output = running.communicate()[0]
    assert running.returncode == 1, output


def test_a_seed_gives_the_same_run_again() -> None:
    logs = [_simulation("--log", "11").communicate()[0] for _ in range(2)]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) > 300
    assert re.search("killed|stopped", logs[0])
