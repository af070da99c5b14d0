"""The service: how soon it is ready, what it costs while idle, how quickly it answers over thousands of backups, and
what many clients take from a backup under way."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import measure, report
from bench.backup import RESURGAM
from bench.lab import Lab
from bench.listing import archive_folder

_CLIENTS = 200
_REQUESTS_A_SECOND = 20
_IDLE_SECONDS = 60.0
_ASKED = ("/api/backups/list?limit=100", "/api/backups/status/health", "/api/jobs?limit=20")


@dataclass(frozen=True, slots=True)
class Served:
    """A running `resurgam serve`; `ready` is the seconds from its start to the first 200 of /readyz."""

    pid: int
    port: int
    token: str
    ready: float

    def ask(self, connection: http.client.HTTPConnection, path: str, method: str = "GET") -> Any:
        connection.request(method, path, headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise measure.CommandFailed(f"{method} {path} answered {answer.status}: {body[:300]!r}")
        return json.loads(body)


def over_archives(cache: Path, count: int, rounds: int) -> list[report.Line]:
    """Start, idle cost and answers, over a folder of `count` archives."""
    folder = archive_folder(cache, count)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DB_", "BACKUP_", "PG"))}
    environment |= {
        "BACKUP_DIR": str(folder),
        "APP_DIR": str(folder.parent),
        "BACKUP_LOG_FILE": str(cache / "serve.log"),
        "BACKUP_SCHEDULE": "0 2 29 2 *",
        "BACKUP_SCHEDULE_CATCH_UP": "none",
    }
    ready = []
    for _ in range(rounds):
        with _serving(environment) as served:
            ready.append(served.ready)
    with _serving(environment) as served, closing(http.client.HTTPConnection("127.0.0.1", served.port)) as connection:
        paging = _times(served, connection, "/api/backups/list?limit=100")
        health = _times(served, connection, "/api/backups/status/health")
        time.sleep(5)
        before, started = _cpu_seconds(served.pid), time.monotonic()
        time.sleep(_IDLE_SECONDS)
        share = 100 * (_cpu_seconds(served.pid) - before) / (time.monotonic() - started)
        resident = _resident(served.pid)
    return [
        report.Line("service, start to ready", f"{median(ready):.2f} s", "", median(ready), " s", 2.0),
        _p95(f"GET /list, page of 100 of {count:,}, p95", paging, 100),
        _p95("GET /status/health, p95", health, 50),
        report.memory("service, idle, resident", [resident], 120),
        report.Line("service, idle, share of a core", f"{share:.2f} %", "", share, " %", 0.5),
    ]


def under_load(lab: Lab, pairs: int) -> list[report.Line]:
    """A backup by the service while 200 open clients ask 20 times a second together, against one with none."""
    quiet, busy = [], []
    environment = lab.environment() | {"MAX_BACKUPS": "1"}
    with _serving(environment) as served:
        _backup(served)
        for number in range(pairs):
            for loaded in (False, True) if number % 2 == 0 else (True, False):
                os.sync()
                lab.sql("CHECKPOINT")
                if loaded:
                    with _clients(served):
                        busy.append(_backup(served))
                else:
                    quiet.append(_backup(served))
            print(f"  pair {number + 1}: quiet {quiet[-1]:.2f} s, with clients {busy[-1]:.2f} s", flush=True)
    return [report.ratio(f"backup with {_CLIENTS} clients / without", busy, quiet, 1.1)]


def _backup(served: Served) -> float:
    """One backup through the API; the seconds that the job took, by its own record."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=600)) as connection:
        done = served.ask(connection, "/api/backups/create-sync", "POST")
    return float(done["backup"]["seconds"])


@contextmanager
def _serving(environment: dict[str, str]) -> Iterator[Served]:
    made = measure.run([*RESURGAM, "token", "create", "--role", "admin", "--json"], environment)
    token = json.loads(made.output.splitlines()[0])["token"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*RESURGAM, "serve", "--port", str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield Served(process.pid, port, token, _until_ready(port, started))
    finally:
        process.terminate()
        process.wait(30)


def _until_ready(port: int, started: float) -> float:
    while time.perf_counter() - started < 30:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return time.perf_counter() - started
        except OSError:
            pass
        time.sleep(0.01)
    raise measure.CommandFailed("the service was not ready within 30 s")


def _times(served: Served, connection: http.client.HTTPConnection, path: str) -> list[float]:
    served.ask(connection, path)
    seconds = []
    for _ in range(200):
        started = time.perf_counter()
        served.ask(connection, path)
        seconds.append(time.perf_counter() - started)
    return seconds


def _p95(what: str, seconds: list[float], target_ms: float) -> report.Line:
    worst = quantiles(seconds, n=20)[-1] * 1000
    return report.Line(what, f"{worst:.1f} ms", f"{median(seconds) * 1000:.1f} ms", worst, " ms", target_ms)


@contextmanager
def _clients(served: Served) -> Iterator[None]:
    """200 open connections, of which each in turn asks something, 20 times a second."""
    over = threading.Event()
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            asyncio.run(_ask_all(served, over))
        except (OSError, ValueError, measure.CommandFailed) as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise measure.CommandFailed(f"a client failed: {failures[0]}")


async def _ask_all(served: Served, over: threading.Event) -> None:
    connections = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(_CLIENTS)]
    number = 0
    due = time.monotonic()
    while not over.is_set():
        path = _ASKED[number % len(_ASKED)]
        try:
            await _ask(served, *connections[number % _CLIENTS], path)
        except (asyncio.IncompleteReadError, ConnectionError):
            # The server ends connections that were idle for long, as every server does.
            connections[number % _CLIENTS][1].close()
            connections[number % _CLIENTS] = await asyncio.open_connection("127.0.0.1", served.port)
            await _ask(served, *connections[number % _CLIENTS], path)
        number += 1
        due += 1 / _REQUESTS_A_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    for _, writer in connections:
        writer.close()


async def _ask(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {served.token}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if not head.startswith(b"HTTP/1.1 200") or length is None:
        raise measure.CommandFailed(f"{path} answered {head[:100]!r}")
    await reader.readexactly(int(length[1]))


def _cpu_seconds(pid: int) -> float:
    """proc(5), stat: utime and stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(match[1]) * 1024 if match else 0
