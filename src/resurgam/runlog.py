"""logs/backup.log: one line an event, whole lines whoever else appends, and ERROR where something failed.

Each line is a single write(2) to a file opened with O_APPEND, which Linux does not interleave with others'. A log
that can't be written never fails a run; `RunLog.trouble` then says why, for the faces to show.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from resurgam.clock import Clock
from resurgam.durable import write_all


@dataclass(slots=True)
class RunLog:
    """Appends to the log file, whose folder is made if it is not there."""

    path: Path
    clock: Clock
    trouble: str = field(default="", init=False)

    def info(self, text: str) -> None:
        self._append("INFO", text)

    def warning(self, text: str) -> None:
        self._append("WARNING", text)

    def error(self, text: str) -> None:
        self._append("ERROR", text)

    def _append(self, level: str, text: str) -> None:
        moment = self.clock.now().astimezone().isoformat(sep=" ", timespec="seconds")
        # A NUL would make a binary file of it for grep, an escape sequence would act on the terminal of `tail -f`.
        plain = "".join(c if c.isprintable() or ord(c) > 0x9F else f"\\x{ord(c):02x}" for c in " ".join(text.split()))
        line = f"{moment} {level:7} {plain}\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                write_all(fd, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(fd)
        except OSError as error:
            self.trouble = f"The log {self.path} can not be written ({error.strerror})."
