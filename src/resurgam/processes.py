"""Starts programs that end with us, however we end.

The kernel signals a child when we die (Linux; it is the thread that started it that must not end before it), and
elsewhere its next write finds the pipe closed. prctl(2), PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Runs in the child between fork and exec."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    pass_fds: tuple[int, ...] = (),
    own_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program with exactly that environment, an empty stdin, and its output in pipes, unless told otherwise.
    OSError if it can't be.

    `own_session`: it leads a process group of its own and has no terminal on which it could ask for something.
    """
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        pass_fds=pass_fds,
        start_new_session=own_session,
        preexec_fn=_die_with_parent,
    )


def end(process: subprocess.Popen[bytes], grace: float = 10.0) -> None:
    """Make sure that it is gone: SIGTERM, and SIGKILL to one that does not heed it within `grace` seconds."""
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_group(process: subprocess.Popen[bytes], grace: float = 5.0) -> None:
    """Make sure that a program with a session of its own is gone, with all of its process group, in the same way."""
    deadline = time.monotonic() + grace
    # The group bears the leader's number as long as it has members, so no stranger can have it meanwhile.
    group = process.pid
    _signal_group(group, signal.SIGTERM)
    while process.poll() is None or _lives(group):
        if time.monotonic() >= deadline:
            _signal_group(group, signal.SIGKILL)
            process.wait()
            return
        time.sleep(_POLL_SECONDS)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _lives(group: int) -> bool:
    """Whether a process of the group runs. A dead one that nobody waited for does not count: in a container whose first
    process waits for no orphans it would stay for ever."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False
