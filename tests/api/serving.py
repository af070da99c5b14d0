"""A live `resurgam serve` as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from resurgam.catalog.roles import Role
from tests.operations.scene import Scene

COMMAND = (sys.executable, "-m", "resurgam", "serve")
_ANSWERS = re.compile(r"The API answers at (http://\S+)\.")


@dataclass
class Served:
    """The process, where it answers, and what it says on stderr."""

    scene: Scene
    process: subprocess.Popen[str]
    url: str = ""
    said: list[str] = field(default_factory=list)

    def token(self, role: Role = "admin") -> str:
        """A new token, by the command line."""
        made = subprocess.run(
            [sys.executable, "-m", "resurgam", "token", "create", "--role", role],
            env=self.scene.environment(),
            capture_output=True,
            text=True,
            check=True,
            cwd=self.scene.root,
        )
        found = re.search(r"rsg_\w+", made.stdout)
        assert found is not None
        return found[0]

    def client(self, token: str, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60, **more)

    def signal(self, number: signal.Signals) -> tuple[int, float]:
        """Send it; the exit code, and how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(30), time.monotonic() - began


@contextmanager
def served(scene: Scene, port: int = 0, **more: str) -> Iterator[Served]:
    environment = {**scene.environment(**more), "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [*COMMAND, "--port", str(port)], env=environment, cwd=scene.root, text=True, stderr=subprocess.PIPE
    )
    made = Served(scene, process)
    ready = threading.Event()

    def read() -> None:
        for line in process.stderr or ():
            made.said.append(line)
            if found := _ANSWERS.search(line):
                made.url = found[1]
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(30) and made.url, "".join(made.said)
        yield made
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        reader.join(5)
