"""A person who follows a runbook: types its commands in order, as printed, at a terminal, and answers what is asked.

Nothing of a command is changed but what the tables say: a person's `places` are others on the test's machine, PROGRAMS
stand in for what no test has (Docker, apt, the repository), INSTALLED is done already. A block is fenced by ```sh; a
word after it names the way that it belongs to (`sh api`), and blocks without one are for all ways.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.dockerfile import ROOT

_SECONDS = 60.0
_BIN = Path(sys.executable).parent

# What the page's example is called, and what it is here: filled in by `Person.knows`.
EXAMPLE = "radiology_backup_20250104_143022"
# Names that a restore makes up, and the page has an example of; the person reads the real one.
_MADE_UP = re.compile(r"([\w.]+_restored)_20250104143500_3f9c1a")

# Lines of which the outcome is there: the tests' Python has Resurgam installed.
INSTALLED = re.compile(r"^(python3 -m venv|/opt/resurgam/bin/pip|ln -sf /opt/resurgam).*$", re.MULTILINE)

PROGRAMS = {
    # Packages are installed, and the server has a password.
    "apt-get": "exit 0",
    "runuser": "exit 0",
    # The application's repository, and Resurgam's.
    "git": """
        case "$2" in
            */radiology-rag.git) cp -a "$STAND_INS/repository" radiology-rag ;;
            */resurgam.git) mkdir resurgam ;;
            *) exit 1 ;;
        esac""",
    # `backend` is the service; `app` is a session that uses the database; `postgres` is the test's server.
    "docker-compose": """
        service() {
            setsid resurgam serve --port "$SERVICE_PORT" > "$STAND_INS/service.out" 2>&1 &
            echo $! > "$STAND_INS/service.pid"
            curl -s -o "$STAND_INS/ready" --retry-connrefused --retry 40 --retry-delay 1 "http://127.0.0.1:$SERVICE_PORT/readyz"
        }
        end() {
            kill "$(cat "$1")"
            while ps -o stat= -p "$(cat "$1")" | grep -q '^[^Z]'; do sleep 0.1; done
            rm "$1"
        }
        case "$*" in
            "up -d postgres") ;;
            "up -d") [ -e "$STAND_INS/service.pid" ] || service ;;
            "down") end "$STAND_INS/service.pid" ;;
            "restart") end "$STAND_INS/service.pid" && service ;;
            "stop app") end "$STAND_INS/app.pid" ;;
            "start app")
                export PGHOST=$DB_HOST
                psql -X -At -d radiology_db -c 'SELECT count(*) FROM reports' > "$STAND_INS/app.out" ;;
            *) exit 1 ;;
        esac""",
}

# What programs ask, and the answer.
_QUESTIONS = {
    re.compile(r"Type yes to go on: $"): "yes",
    re.compile(r"Enter new password.*: $"): "of-the-application",
    re.compile(r"Enter it again: $"): "of-the-application",
}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block, and the heading that it stands under."""

    heading: str
    code: str


def blocks(name: str, *ways: str) -> list[Block]:
    """The blocks of a runbook that are for these ways, in order."""
    found, heading = [], ""
    text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
    for match in re.finditer(r"^#+ (?P<heading>[^\n]+)$|^```sh ?(?P<way>\w*)\n(?P<code>.*?)^```$", text, re.M | re.S):
        if match["heading"]:
            heading = match["heading"]
        elif not match["way"] or match["way"] in ways:
            found.append(Block(heading, match["code"]))
    return found


def all_ways(name: str) -> set[str]:
    return set(re.findall(r"^```sh (\w+)$", (ROOT / "docs" / "runbooks" / f"{name}.md").read_text(), re.MULTILINE))


_KIT_LINE = re.compile(r"^ *([1-4]: (?:[A-Z0-9]+ )+= [A-Z0-9]{4})$", re.MULTILINE)


@dataclass
class Person:
    """Someone at a terminal, with a folder, an environment and what was read so far.

    `places` maps what stands in a page to what it is here; `answers` are questions beside those that all runbooks ask.
    """

    folder: Path
    environment: Mapping[str, str]
    places: dict[str, str]
    answers: Mapping[str, str] = field(default_factory=dict)
    seen: str = ""

    def __post_init__(self) -> None:
        self.stand_ins.mkdir(parents=True)
        for name, body in PROGRAMS.items():
            program = self.stand_ins / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!/bin/bash\n{body}\n")
            program.chmod(0o755)
        (self.folder / "work").mkdir()
        self._state("cwd").write_text(f"{self.folder / 'work'}\n")
        self._state("env").write_text("")

    @property
    def stand_ins(self) -> Path:
        return self.folder / "stand-ins"

    def knows(self, name: str) -> None:
        """Which backup the person chooses where the page has its example."""
        self.places |= {EXAMPLE: name, "20250104_143022": name[-15:]}

    def follow(self, steps: Sequence[Block]) -> str:
        """Do these steps; what was seen of them. AssertionError with all that was seen, if one fails."""
        before = len(self.seen)
        for step in steps:
            shown, code = self._do(step.code)
            while "/api/jobs/$JOB" in step.code and re.search(r'"state": ?"(queued|running)"', shown):
                time.sleep(0.2)
                shown, code = self._do(step.code)
            assert code == 0, f"{step.heading}: exit {code}\n{self.seen}"
        return self.seen[before:]

    def end(self) -> None:
        """End the service, if a stand-in started one."""
        if (self.stand_ins / "service.pid").exists():
            self._do("docker-compose down")

    def _state(self, name: str) -> Path:
        return self.stand_ins / name

    def _typed(self, code: str) -> str:
        code = INSTALLED.sub(":", code)
        for match in _MADE_UP.finditer(code):
            # The latest of that name, which the command printed.
            *_, real = re.findall(rf"\b{re.escape(match[1])}_\d{{14}}_[0-9a-f]+", self.seen)
            code = code.replace(match[0], real)
        if job := re.findall(r'"job_id": ?(\d+)', self.seen):
            code = code.replace("JOB=1\n", f"JOB={job[-1]}\n")
        for place in sorted(self.places, key=len, reverse=True):
            code = re.sub(rf"(?<!\w){re.escape(place)}(?!\w)", self.places[place].replace("\\", r"\\"), code)
        return code

    def _do(self, code: str) -> tuple[str, int]:
        """One block, in the shell that the one before left; what was shown, and the exit code."""
        prelude = (
            'set -ae\n. $STAND_INS/env\ncd "$(cat $STAND_INS/cwd)"\n'
            "trap 'code=$?; export -p > $STAND_INS/env; pwd > $STAND_INS/cwd; exit $code' EXIT\n"
        )
        typed = self._typed(code)
        environment = {
            **self.environment,
            "STAND_INS": str(self.stand_ins),
            "PATH": f"{self.stand_ins / 'bin'}:{self.environment['PATH']}:{_BIN}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TERM": "dumb",
            "PSQL_PAGER": "cat",
        }
        terminal, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))
        process = subprocess.Popen(
            [shutil.which("bash") or "bash", "-c", prelude + typed],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        try:
            shown = self._converse(terminal, process)
            return shown, process.wait(5)
        finally:
            os.close(terminal)
            if process.poll() is None:
                process.kill()
                process.wait()

    def _converse(self, terminal: int, process: subprocess.Popen[bytes]) -> str:
        questions = _QUESTIONS | {re.compile(f"{re.escape(asked)}$"): answer for asked, answer in self.answers.items()}
        shown, end = b"", time.monotonic() + _SECONDS
        begin = len(self.seen)
        while time.monotonic() < end:
            ready = select.select([terminal], [], [], 0.1)[0]
            if not ready:
                if process.poll() is not None:
                    break
                continue
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the last one who had the terminal is gone
                break
            shown += piece
            text = shown.decode(errors="replace").replace("\r\n", "\n")
            self.seen = self.seen[:begin] + text
            for question, answer in questions.items():
                if question.search(text.rpartition("\n")[2]):
                    os.write(terminal, f"{answer}\n".encode())
        else:
            raise AssertionError(f"it takes too long\n{self.seen}")
        return self.seen[begin:]


def kit_lines(kit: str) -> list[str]:
    """The four lines of the secret on a recovery kit's sheet, as they are printed."""
    lines = _KIT_LINE.findall(kit)
    assert len(lines) == 4
    return lines


def knows_kit(person: Person, name: str, kit: str) -> None:
    """The person holds the sheet `kit`, and types its lines where the runbook has its example."""
    text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
    person.places |= dict(zip(kit_lines(text), kit_lines(kit), strict=True))
