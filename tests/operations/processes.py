"""Real processes of ours for the tests of deaths: the command line and a service's workers, killed where wanted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resurgam.service import Service
from tests.clusters import ROOT
from tests.operations.faults import VARIABLE
from tests.operations.scene import Scene
from tests.repository.faulty_system import Failure

When = Literal["before", "after"]
Operation = Literal["restore", "undo", "drill"]
_SECONDS = 60.0
_SOURCES = str(ROOT / "src")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the process at the state's write of that number; number -1: nothing, writes are counted."""

    action: Literal["kill", "wait"] = "kill"
    number: int = -1
    when: When = "before"


Injected = Fault | Failure | Literal["count calls"]


@dataclass(slots=True)
class Started:
    """A process of ours and the folder by which its fault is steered."""

    process: subprocess.Popen[bytes]
    place: Path

    def await_fault(self) -> bool:
        """Whether it came as far as its fault and waits there; it may have ended before."""
        deadline = time.monotonic() + _SECONDS
        while not (self.place / "reached").exists():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, "neither reached its fault nor ended"
            time.sleep(0.01)
        return True

    def go_on(self) -> None:
        (self.place / "go").touch()

    def end(self) -> int:
        """Its exit code, negative for a signal."""
        try:
            return self.process.wait(_SECONDS)
        finally:
            self.process.kill()

    def writes(self) -> int:
        return len(self.calls())

    def calls(self) -> list[str]:
        """The changes of file systems by name, where those were counted or failed."""
        marks = self.place / "writes"
        return marks.read_text().splitlines() if marks.exists() else []

    def said(self) -> str:
        """What it wrote to stderr."""
        return (self.place / "err").read_text()


def command(operation: Operation, name: str) -> list[str]:
    """What a user would type."""
    if operation == "restore":
        return ["restore", name, "--yes", "--json"]
    return ["undo", "--yes", "--json"] if operation == "undo" else ["drill", name, "--json"]


def start(scene: Scene, *arguments: str, fault: Injected | None = None, **more: str) -> Started:
    """`python -m resurgam ARGUMENTS`, as a user would run it."""
    place, hook = _hooked(scene, fault)
    process = subprocess.Popen(
        [sys.executable, "-m", "resurgam", *arguments],
        env={**scene.environment(**more), **hook},
        cwd=scene.root,
        stdin=subprocess.DEVNULL,
        stdout=(place / "out").open("wb"),
        stderr=(place / "err").open("wb"),
    )
    return Started(process, place)


def worker(scene: Scene, service: Service, operation: Operation, name: str, fault: Fault | None = None) -> Started:
    """A service's worker on a queued job, as the Runner starts it; `service` is who queued it."""
    request: dict[str, object] = {"wait": False}
    if operation != "undo":
        request["name"] = name
    if operation == "restore":
        request |= {"database": True, "config": True, "files": True}
    job = service.state.jobs.submit(operation, name, origin="api", actor="tests", request=request)
    place, hook = _hooked(scene, fault)
    process = subprocess.Popen(
        [sys.executable, "-m", "resurgam.worker"],
        env={"PATH": "/usr/bin:/bin", **hook},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=(place / "err").open("wb"),
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"job": job, "environ": dict(service.environment)}).encode())
    process.stdin.close()
    return Started(process, place)


def killed_after(started: Started, seconds: float) -> bool:
    """Whether SIGKILL met it alive after that long; it may have been quicker."""
    time.sleep(seconds)
    os.kill(started.process.pid, signal.SIGKILL)
    return started.end() == -signal.SIGKILL


def _hooked(scene: Scene, fault: Injected | None) -> tuple[Path, dict[str, str]]:
    place = Path(tempfile.mkdtemp(prefix="fault-", dir=scene.app.parent))
    if fault is None:
        return place, {"PYTHONPATH": _SOURCES}
    (place / "sitecustomize.py").write_text("from tests.operations.faults import install\n\ninstall()\n")
    if isinstance(fault, Fault):
        told = f"{fault.action} {fault.number} {fault.when} {place}"
    else:
        told = f"call -1 0: {place}" if isinstance(fault, str) else f"call {fault.at} {fault.code}:{fault.call} {place}"
    return place, {"PYTHONPATH": os.pathsep.join((str(place), str(ROOT), _SOURCES)), VARIABLE: told}
