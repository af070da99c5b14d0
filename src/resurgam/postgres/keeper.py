"""Keeps one throw-away PostgreSQL server: makes it, watches it, and takes everything away at the end.

Run as a program of its own (`python -I -S keeper.py`), with the standard library only. Its owner writes one
JSON line to its standard input (embedded.py makes it; the password is in it, so that no argument list shows
it) and then keeps that pipe open. The end of the pipe, by close or by the owner's death, even from SIGKILL,
is the order to stop: the server is ended and the folder removed. On its standard output it answers
`started PID` once, or `ended CODE` when the server ended by itself; the log is then left to read until the
pipe ends.

Should the keeper itself be killed, the kernel ends the server (PR_SET_PDEATHSIG, Linux); the folder stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.2


def _die_with_keeper() -> None:
    """In the child, after it changed its user: a change of user clears the setting (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _as_user(order: dict[str, Any]) -> dict[str, Any]:
    """Arguments for subprocess that make the child run as the server's user, in a folder it can enter."""
    common: dict[str, Any] = {
        "cwd": order["folder"],
        "env": order["environment"],
        "stdin": subprocess.DEVNULL,
    }
    if order["uid"] is not None:
        common |= {"user": order["uid"], "group": order["gid"], "extra_groups": []}
    return common


def _initialise(order: dict[str, Any], log: int) -> int:
    """Run initdb; the password goes through a file that only the server's user can read."""
    secret = Path(order["folder"], "password")
    fd = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, order["password"].encode() + b"\n")
        if order["uid"] is not None:
            os.fchown(fd, order["uid"], order["gid"])
        return subprocess.run(
            [*order["initdb"], f"--pwfile={secret}"], check=False, stdout=log, stderr=log, **_as_user(order)
        ).returncode
    finally:
        os.close(fd)
        secret.unlink()


def _wait(server: subprocess.Popen[bytes]) -> None:
    """Return when the owner is gone or wants the end; tell it once if the server ends before."""
    told = False
    while True:
        readable, _, _ = select.select([0], [], [], None if told else _POLL_SECONDS)
        if readable and not os.read(0, 4096):
            return
        if not told and server.poll() is not None:
            told = True
            _tell(f"ended {server.returncode}")


def _tell(line: str) -> None:
    # The owner may be gone by now; then the end of its pipe is what counts.
    with contextlib.suppress(OSError):
        os.write(1, line.encode() + b"\n")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Immediate shutdown: the data goes away, so its last checkpoint is not worth a wait."""
    for signal_number, seconds in ((signal.SIGQUIT, 15.0), (signal.SIGKILL, 15.0)):
        if server.poll() is not None:
            return
        server.send_signal(signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(seconds)


def main() -> int:
    """Serve one order; returns the exit status."""
    # Ctrl-C in a terminal reaches the owner; the keeper ends when its owner does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    order = json.loads(sys.stdin.buffer.readline())
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    server: subprocess.Popen[bytes] | None = None
    try:
        if (status := _initialise(order, log)) != 0:
            _tell(f"ended {status}")
            with contextlib.suppress(OSError):
                while os.read(0, 4096):
                    pass
            return 1
        server = subprocess.Popen(
            order["server"],
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_keeper,
            **_as_user(order),
        )
        _tell(f"started {server.pid}")
        _wait(server)
    finally:
        if server is not None:
            _stop(server)
        os.close(log)
        shutil.rmtree(order["folder"], ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
