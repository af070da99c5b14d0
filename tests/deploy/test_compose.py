"""deploy/docker-compose.yml, as Docker Compose itself (from PyPI; it needs no engine for this) understands it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.dockerfile import ROOT

COMPOSE = Path(sys.executable).parent / "docker-compose"


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Schema and references checked, defaults filled in, in a folder like the application's."""
    folder = tmp_path_factory.mktemp("radiology-rag")
    shutil.copy(ROOT / "deploy" / "docker-compose.yml", folder)
    command = [str(COMPOSE), "--file", "docker-compose.yml", "config", "--format", "json"]
    done = subprocess.run(
        command, cwd=folder, env={"PATH": os.environ["PATH"], "HOME": str(folder)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    told: dict[str, Any] = json.loads(done.stdout.decode().replace(str(folder), "."))
    return told


def test_a_mistake_would_be_found(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "docker-compose.yml").read_text()
    (tmp_path / "docker-compose.yml").write_text(text.replace("stop_grace_period", "stop_grace_perod", 1))
    command = [str(COMPOSE), "--file", str(tmp_path / "docker-compose.yml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "stop_grace_perod" in done.stderr


def test_it_bears_the_manuals_names(compose: dict[str, Any]) -> None:
    names = {name: service["container_name"] for name, service in compose["services"].items()}
    assert names == {"backend": "radiology-backend-local", "postgres": "radiology-postgres"}
    mounts = {(mount["source"], mount["target"]) for mount in compose["services"]["backend"]["volumes"]}
    assert mounts >= {("./backups", "/app/backups"), ("./logs", "/app/logs")}
    (port,) = compose["services"]["backend"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8000", 8000)
    settings = compose["services"]["backend"]["environment"]
    assert (settings["BACKUP_DIR"], settings["DB_HOST"], settings["DB_NAME"]) == (
        "/app/backups",
        "postgres",
        "radiology_db",
    )


def test_it_comes_back_after_a_restart_and_ends_in_good_order(compose: dict[str, Any]) -> None:
    backend, postgres = compose["services"]["backend"], compose["services"]["postgres"]
    assert backend["restart"] == postgres["restart"] == "unless-stopped"
    assert backend["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert backend["stop_grace_period"] == "20s"  # a cancelled backup needs up to 10 s
    assert "pg_isready -h 127.0.0.1" in postgres["healthcheck"]["test"][1]


def test_images_have_a_version_and_the_database_lies_where_that_version_puts_it(compose: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    assert all(re.search(r":\d+(\.\d+)+$", image) for image in images.values())
    assert images["postgres"].startswith("postgres:18.")
    (volume,) = compose["services"]["postgres"]["volumes"]
    assert (volume["type"], volume["target"]) == ("volume", "/var/lib/postgresql")


def test_secrets_come_as_files_and_rights_are_few(compose: dict[str, Any]) -> None:
    backend, postgres = compose["services"]["backend"], compose["services"]["postgres"]
    assert compose["secrets"]["db_password"]["file"] == "./secrets/db_password"
    for service in (backend, postgres):
        secret = {name: value for name, value in service["environment"].items() if "PASSWORD" in name}
        assert set(secret.values()) == {"/run/secrets/db_password"}
        assert all(name.endswith("_FILE") for name in secret)
    assert backend["cap_drop"] == ["ALL"]
    assert "privileged" not in backend
