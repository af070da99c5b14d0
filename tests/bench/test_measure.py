"""Figures are only worth something if the instruments are right."""

from __future__ import annotations

import os
import sys

import pytest

from bench import measure, report

_MB = 1 << 20


def test_time_and_output_of_a_command() -> None:
    done = measure.run([sys.executable, "-c", "import time; time.sleep(0.3); print('done')"], os.environ)
    assert done.output == "done\n"
    assert 0.3 <= done.seconds < 3


def test_memory_counts_children_and_not_our_own() -> None:
    ballast = bytearray(os.urandom(1)) * (300 * _MB)
    child = "b = bytearray(b'x' * (60 << 20)); import time; time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    peak = measure.run([sys.executable, "-c", parent], os.environ).memory
    assert 60 * _MB < peak < 200 * _MB
    assert len(ballast) == 300 * _MB


def test_a_command_that_fails_gives_no_figure() -> None:
    with pytest.raises(measure.CommandFailed, match="exited with 3:\nno reason"):
        measure.run([sys.executable, "-c", "print('no reason'); raise SystemExit(3)"], os.environ)


def test_targets() -> None:
    assert report.ratio("a", [1, 2, 30], [10, 20, 300], 0.1).reached
    assert not report.ratio("a", [3], [20], 0.1).reached
    assert report.Line("a", "", "", 1200, "/s", 1000, at_least=True).reached
    assert report.memory("a", [1 * _MB, 300 * _MB], 256).text().endswith("MISSED")
    assert report.ratio("a", [1], [1]).text().rstrip() == report.ratio("a", [1], [1]).text()
