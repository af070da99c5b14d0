"""Which pg_dump: never an older one than the server, the same version if there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.errors import ClientToolError
from resurgam.postgres import clients
from resurgam.postgres.clients import find_clients, list_clients


def _tool(folder: Path, version: str, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("pg_dump", "pg_dumpall"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(clients, "_PLACES", (f"{tmp_path}/lib/*/bin",))
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/usr/sbin")
    return tmp_path


def test_the_same_version_is_preferred_and_a_newer_one_will_do(places: Path) -> None:
    for version in ("14.1", "16.2", "18.0"):
        _tool(places / "lib" / version.split(".")[0] / "bin", version)
    assert find_clients(160004).major == 16
    assert find_clients(170000).major == 18
    assert find_clients(140000).version == "14.1"


def test_on_path_comes_first(places: Path) -> None:
    _tool(places / "path", "16.9")
    _tool(places / "lib/16/bin", "16.2")
    assert find_clients(160000).pg_dump == places / "path/pg_dump"


def test_too_old_and_missing_say_what_to_install(places: Path) -> None:
    with pytest.raises(ClientToolError, match="pg_dump not found") as caught:
        find_clients(160000)
    assert "postgresql-client-16" in caught.value.hint
    _tool(places / "lib/15/bin", "15.7 (Debian 15.7-0+deb12u1)")
    with pytest.raises(ClientToolError, match=r"server is version 16, the newest pg_dump found is of 15\.7"):
        find_clients(160000)


@pytest.mark.parametrize("broken", ["alone", "not executable", "fails", "garbage", "folder"])
def test_what_does_not_work_is_as_good_as_not_there(places: Path, broken: str) -> None:
    folder = _tool(places / "own", "16.1", *(("pg_dump",) if broken == "alone" else ()))
    if broken == "not executable":
        (folder / "pg_dump").chmod(0o644)
    elif broken == "fails":
        (folder / "pg_dump").write_text("#!/bin/sh\nexit 1\n")
    elif broken == "garbage":
        (folder / "pg_dump").write_text("#!/bin/sh\necho hello\n")
    elif broken == "folder":
        (folder / "pg_dump").unlink()
        (folder / "pg_dump").mkdir()
    assert list_clients(folder) == ()
    with pytest.raises(ClientToolError, match="not found"):
        find_clients(160000, folder)


@pytest.mark.parametrize(("printed", "major"), [("19beta1", 19), ("18rc1", 18), ("17devel", 17), ("9.6.24", 9)])
def test_versions_as_they_are_printed(places: Path, printed: str, major: int) -> None:
    (tools,) = list_clients(_tool(places / "own", printed))
    assert (tools.major, tools.version) == (major, printed)


def test_real_tools(postgres_bins: dict[int, Path]) -> None:
    for major, folder in postgres_bins.items():
        assert find_clients(major * 10_000, folder).major == major
