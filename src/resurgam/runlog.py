"""logs/backup.log: one line an event, whole lines whoever else appends, and ERROR where something failed.

A line is `TIME LEVEL sentence`, then what a machine wants of it as `[name=value …]` (logfmt). Each is a single write(2)
to a file opened with O_APPEND, which Linux does not interleave with others', and opened anew each time, so that
logrotate needs to tell nobody. The service shows the same lines on stderr. A log that can't be written never fails a
run; `RunLog.trouble` then says why, for the faces to show.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from resurgam.clock import Clock
from resurgam.durable import write_all

_PLAIN = re.compile(r"[^\s\"=\[\]]+")
_STDERR = 2


@dataclass(slots=True)
class RunLog:
    """Appends to the log file, whose folder is made if it is not there; to stderr too if `echo`."""

    path: Path
    clock: Clock
    echo: bool = False
    trouble: str = field(default="", init=False)

    def info(self, text: str, **fields: object) -> None:
        self.append("INFO", text, **fields)

    def warning(self, text: str, **fields: object) -> None:
        self.append("WARNING", text, **fields)

    def error(self, text: str, **fields: object) -> None:
        self.append("ERROR", text, **fields)

    def append(self, level: str, text: str, **fields: object) -> None:
        moment = self.clock.now().astimezone().isoformat(sep=" ", timespec="seconds")
        told = " ".join(f"{name}={_value(value)}" for name, value in fields.items() if value not in (None, ""))
        line = f"{moment} {level:7} {_one_line(text)}{f' [{told}]' if told else ''}\n".encode(
            "utf-8", "backslashreplace"
        )
        if self.echo:
            with suppress(OSError):  # whoever read our stderr has gone; the file has it
                write_all(_STDERR, line)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                write_all(fd, line)
            finally:
                os.close(fd)
        except OSError as error:
            self.trouble = f"The log {self.path} can not be written ({error.strerror})."


def _one_line(text: str) -> str:
    # A NUL would make a binary file of it for grep, an escape sequence would act on the terminal of `tail -f`.
    return "".join(c if c.isprintable() or ord(c) > 0x9F else f"\\x{ord(c):02x}" for c in " ".join(text.split()))


def _value(value: object) -> str:
    text = _one_line(str(value))
    return text if _PLAIN.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
