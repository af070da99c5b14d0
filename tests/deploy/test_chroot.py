"""The image without Docker: the Dockerfile's steps, carried out in a Debian of its base's release, and its CMD run.

What stands in for `python:3.13-slim-trixie` is debootstrap's trixie with Debian's python3 (3.13 too) at that image's
place. Both stages run in one root, so that `COPY --from=build` has nothing to do. The PostgreSQL clients are Debian's,
by the Dockerfile's own build arguments: PostgreSQL's repository is not reachable from every machine that tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.dockerfile import ROOT, only, steps

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEBOOTSTRAP = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_ARGUMENTS = {"POSTGRES_APT": "", "POSTGRES_CLIENT": "postgresql-client"}
_BASE = "python3,python3-venv,ca-certificates,tzdata"
# Of this machine, which may reach the package index through a gate that has a certificate of its own.
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_READY_SECONDS = 10.0
_STOP_SECONDS = 10.0

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.getuid() != 0, reason="only root may chroot and mount"),
    pytest.mark.skipif(_DEBOOTSTRAP is None, reason="debootstrap is not installed (apt-get install debootstrap)"),
]


class Image:
    """A root folder, and what the Dockerfile has set in it so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.user = "0:0"
        self.folder = "/"
        self.environment = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"}

    def command(self, *words: str) -> list[str]:
        """`words` in the root as the user; mounts of its own, so that nothing of it outlives it."""
        mount = 'mount -t proc proc "$0/proc" && user="$1" folder="$2" && shift 2 && '
        inside = 'cd "$0" && exec "$@"'
        enter = f'exec chroot --userspec="$user" "$0" /bin/sh -c {inside!r} "$folder" "$@"'
        return ["unshare", "--mount", "sh", "-c", mount + enter, str(self.root), self.user, self.folder, *words]

    def run(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), env=self.environment | settings, capture_output=True, text=True, check=False
        )

    def build(self) -> None:
        """Carry out every step of the Dockerfile."""
        arguments: dict[str, str] = {}
        for step in steps():
            if step.instruction == "FROM":
                arguments, self.user, self.folder = {}, "0:0", "/"
            elif step.instruction == "ARG":
                name, _, default = step.text.partition("=")
                arguments[name] = _ARGUMENTS.get(name, default)
            elif step.instruction == "ENV":
                for name, value in re.findall(r"(\w+)=(\S+)", step.text):
                    self.environment[name] = value.replace("$PATH", self.environment["PATH"])
            elif step.instruction == "WORKDIR":
                self.folder = step.text
                (self.root / step.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif step.instruction == "COPY":
                self._copy(step.text)
            elif step.instruction == "RUN":
                done = self.run("/bin/sh", "-c", step.text, PIP_CERT=_CERTIFICATES, **arguments)
                assert done.returncode == 0, f"{step.text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            elif step.instruction == "USER":
                self.user = step.text

    def _copy(self, text: str) -> None:
        *sources, target = text.split()
        if sources[0].startswith("--from="):
            return
        place = self.root / str(Path(self.folder) / target).lstrip("/")
        for source in map(ROOT.joinpath, sources):
            if source.is_dir():
                shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                folder = target.endswith("/")
                (place if folder else place.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place / source.name if folder else place)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    root = tmp_path_factory.mktemp("image") / "root"
    release = next(step.text for step in steps() if step.instruction == "FROM").split()[0].rsplit("-", 1)[-1]
    subprocess.run(
        [str(_DEBOOTSTRAP), "--variant=minbase", f"--include={_BASE}", release, str(root)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    if Path(_CERTIFICATES).exists():
        shutil.copy(_CERTIFICATES, root / _CERTIFICATES.lstrip("/"))
    made = Image(root)
    # Debian's own pip may not touch what apt installed; in the image, Python and pip are those of /usr/local.
    assert made.run("python3", "-m", "venv", "/usr/local").returncode == 0
    made.build()
    yield made
    shutil.rmtree(root)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _answer(url: str) -> int:
    """The status that `url` answers, waiting until something does."""
    end = time.monotonic() + _READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_the_clients_are_there_and_the_user_is_1000(image: Image) -> None:
    for tool in ("pg_dump", "pg_dumpall", "psql"):
        assert image.run(tool, "--version").stdout.startswith(tool)
    assert image.run("id", "-u").stdout == "1000\n"
    assert image.run("touch", "/app/backups/x", "/app/logs/x", "/app/x").returncode == 0
    assert image.run("rm", "/app/backups/x", "/app/logs/x", "/app/x").returncode == 0


def test_a_plain_python_imports_the_manuals_modules(image: Image) -> None:
    code = "from backup_service import backup_service; from restore_service import restore_service; print('ok')"
    done = image.run("python", "-c", code)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_run_backup_is_where_the_manual_calls_it(image: Image) -> None:
    script = ("python", "/app/backend/run_backup.py")
    disabled = image.run(*script, BACKUP_ENABLED="false")
    assert disabled.returncode == 0, disabled.stderr
    unreachable = image.run(*script, DB_HOST="127.0.0.1", DB_PORT=str(_free_port()))
    assert unreachable.returncode == 1
    assert "ERROR" in (image.root / "app/logs/backup.log").read_text()


def test_the_service_answers_its_health_check_and_ends_when_told(image: Image) -> None:
    port = str(_free_port())
    words = [word.replace("8000", port) for word in json.loads(only("ENTRYPOINT")) + json.loads(only("CMD"))]
    settings = {"DB_HOST": "127.0.0.1", "DB_PORT": str(_free_port())}
    service = subprocess.Popen(image.command(*words), env=image.environment | settings)
    try:
        assert _answer(f"http://127.0.0.1:{port}/healthz") == 200
        status = Path(f"/proc/{service.pid}/status").read_text()
        assert re.search(r"^Uid:\t1000\t1000\t1000", status, re.MULTILINE)
        check = json.loads(only("HEALTHCHECK").split("CMD", maxsplit=1)[1].replace("8000", port))
        assert image.run(*check).returncode == 0
        assert _answer(f"http://127.0.0.1:{port}/api/backups/list") == 401
        service.send_signal(signal.SIGTERM)
        assert service.wait(_STOP_SECONDS) in (0, 143)
    finally:
        service.kill()
        service.wait()
    assert image.run(*check).returncode != 0
