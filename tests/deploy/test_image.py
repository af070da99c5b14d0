"""deploy/Dockerfile: what can be told of it without a Docker engine. test_chroot.py carries its steps out."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import resurgam
from tests.deploy.dockerfile import DOCKERFILE, ROOT, only, steps

HADOLINT = Path(sys.executable).parent / "hadolint"
# As Debian ships it in postgresql-common, /usr/share/postgresql-common/pgdg/apt.postgresql.org.asc; its fingerprint is
# B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8.
_KEY_SHA256 = "0144068502a1eddd2a0280ede10ef607d1ec592ce819940991203941564e8e76"


def _pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_1000_serves_everywhere_and_is_looked_after() -> None:
    assert only("USER") == "1000:1000"
    assert only("CMD") == '["resurgam", "serve", "--host", "0.0.0.0", "--port", "8000"]'
    assert only("ENTRYPOINT") == '["tini", "--"]'  # both in exec form: SIGTERM reaches the service
    assert "http://127.0.0.1:8000/healthz" in only("HEALTHCHECK")


def test_bases_have_a_version_and_nothing_secret_is_built_in() -> None:
    bases = {step.text.split()[0] for step in steps() if step.instruction == "FROM"}
    assert all(re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base) for base in bases)
    set_there = " ".join(step.text for step in steps() if step.instruction in ("ARG", "ENV"))
    assert not re.search(r"PASSWORD|SECRET|TOKEN|DATABASE_URL", set_there)
    assert f"resurgam:{resurgam.__version__}" in DOCKERFILE.read_text()


def test_what_it_copies_is_let_through_by_dockerignore() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for step in steps():
        if step.instruction != "COPY" or step.text.startswith("--from="):
            continue
        for source in step.text.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == name or source.startswith(f"{name}/") for name in allowed), source


def test_its_lock_holds_what_the_package_needs_in_the_tested_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["notify"]
    runtime, tested = _pins(ROOT / "deploy" / "requirements.txt"), _pins(ROOT / "requirements-dev.txt")
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ;]", name)[0]).lower() for name in wanted}
    assert names - runtime.keys() == set()
    assert runtime.items() - tested.items() == set()


def test_the_key_of_postgresqls_repository_is_the_one_that_debian_ships() -> None:
    key = (ROOT / "deploy" / "apt.postgresql.org.asc").read_bytes()
    assert hashlib.sha256(key).hexdigest() == _KEY_SHA256
