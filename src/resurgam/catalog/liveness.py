"""Whether the process that began something is still there.

A process shows that it lives by an flock on a file of its own: the kernel drops that at its death, however it
comes, and it works across containers that share the folder, where a pid would mean another process. Where the file
is gone (a folder restored from elsewhere, /tmp cleaned), pid, start time and boot id decide.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import uuid
from pathlib import Path

# Of the signs that this process has given and not taken back.
_given: set[str] = set()


class Alive:
    """This process's sign of life in one folder, made when first asked for and removed by `close`.

    `mark` is what to store with the thing begun; `is_alive(mark)` answers for any process that used the same folder.
    Not inherited by a program that this process starts (close-on-exec).
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix
        self._token = ""
        self._fd = -1
        self._pid = 0
        self._marking = threading.Lock()

    def mark(self) -> str:
        """JSON that identifies this process."""
        with self._marking:
            # After a fork the child shares the parent's lock, which then would outlive the parent.
            if self._pid != os.getpid():
                self._token = uuid.uuid4().hex
                self._fd = os.open(self._file(self._token), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                self._pid = os.getpid()
                _given.add(self._token)
        start = _start_time(self._pid)
        return json.dumps(
            {"token": self._token, "pid": self._pid, "start": start, "boot": _boot_id(), "host": socket.gethostname()}
        )

    def is_alive(self, mark: str) -> bool:
        """Whether the process of that mark still runs; its file is removed if not."""
        told = json.loads(mark)
        if told["token"] == self._token:
            return True
        file = self._file(told["token"])
        try:
            fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            same = told["boot"] and told["boot"] == _boot_id() and told["start"] == _start_time(told["pid"]) != ""
            return bool(same and (told["pid"] != os.getpid() or told["token"] in _given))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            file.unlink(missing_ok=True)
            return False
        finally:
            os.close(fd)

    def close(self) -> None:
        """Take the sign of life back; whatever this process left unfinished then counts as dead."""
        if self._fd >= 0 and self._pid == os.getpid():
            self._file(self._token).unlink(missing_ok=True)
            os.close(self._fd)
        _given.discard(self._token)
        self._fd, self._token, self._pid = -1, "", 0

    def _file(self, token: str) -> Path:
        return self._folder / f"{self._prefix}{token}"


def _start_time(pid: int) -> str:
    """proc(5), stat, field 22: clock ticks from boot to the process's start; "" if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    # The second field, the program's name in parentheses, may hold blanks and parentheses itself.
    return text.rpartition(")")[2].split()[19]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
