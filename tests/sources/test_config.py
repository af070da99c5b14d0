from __future__ import annotations

import os
from pathlib import Path

import pytest

from resurgam.archive.entry import Kind
from resurgam.errors import FileSourceError
from resurgam.settings import ConfigFile
from resurgam.sources.config import ConfigReport, capture_config
from tests.sources.sinks import KeptEntries

SECRET = "hunter2-do-not-leak"
MANUAL = (".env.example", "docker-compose.yml", "requirements.txt", "backend/config.py")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    (app / "backend").mkdir(parents=True)
    for name in MANUAL:
        (app / name).write_text(f"# {name}\n")
    (app / ".env").write_text(f"DB_PASSWORD={SECRET}\n")
    return app


def capture(
    app: Path, *names: str, secrets: tuple[Path, ...] = (), configured: bool = True
) -> tuple[ConfigReport, KeptEntries]:
    sink = KeptEntries()
    files = [ConfigFile(name, configured) for name in names]
    return capture_config(files, app, sink, secrets=secrets, made_ns=7), sink


def test_the_manuals_list_gives_the_manuals_layout(app: Path) -> None:
    os.chmod(app / "backend" / "config.py", 0o640)
    report, sink = capture(app, *reversed(MANUAL))
    assert sink.paths() == [
        b"config",
        b"config/.env.example",
        b"config/backend",
        b"config/backend/config.py",
        b"config/docker-compose.yml",
        b"config/requirements.txt",
    ]
    assert report == ConfigReport(tuple(sorted(MANUAL)), (), sum(len(name) + 3 for name in MANUAL))
    assert sink[b"config/backend/config.py"].mode == 0o640 and sink[b"config"].mtime_ns == 7
    assert sink.content[b"config/requirements.txt"] == b"# requirements.txt\n"


@pytest.mark.parametrize(
    "name", [".env", "*", ".*", "**/*", ".env*", "link", "hard", "./.env", "copy.env", ".env.local"]
)
def test_no_env_ever_enters(app: Path, name: str) -> None:
    (app / "link").symlink_to(".env")
    os.link(app / ".env", app / "hard")
    os.link(app / ".env", app / "copy.env")
    (app / "backend" / ".env").write_text(f"X={SECRET}")
    (app / ".env.local").write_text(f"X={SECRET}")
    report, sink = capture(app, name)
    assert SECRET.encode() not in b"".join(sink.content.values())
    assert any("left out" in warning for warning in report.warnings)
    assert not any(SECRET in warning for warning in report.warnings)


def test_an_example_that_is_a_link_to_the_env_is_left_out(app: Path) -> None:
    (app / ".env.example").unlink()
    (app / ".env.example").symlink_to(".env")
    report, sink = capture(app, ".env.example")
    assert report.files == () and sink.paths() == [b"config"]


def test_secret_files_of_ours_never_enter(app: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    os.link(tmp_path / "key", app / "notes.txt")
    report, sink = capture(app, "notes.txt", secrets=(tmp_path / "key", tmp_path / "absent"))
    assert report.files == () and sink.paths(Kind.FILE) == [] and "notes.txt" in report.warnings[0]


def test_a_symlink_inside_the_folder_is_read_through_and_one_that_leaves_it_refused(app: Path, tmp_path: Path) -> None:
    (app / "prod.yml").write_text("prod")
    (app / "docker-compose.yml").unlink()
    (app / "docker-compose.yml").symlink_to("prod.yml")
    _, sink = capture(app, "docker-compose.yml")
    assert sink[b"config/docker-compose.yml"].kind is Kind.FILE
    assert sink.content[b"config/docker-compose.yml"] == b"prod"
    (tmp_path / "outside").write_text("x")
    (app / "leaves").symlink_to(tmp_path / "outside")
    for name in ("leaves", "backend", "../outside", str(tmp_path / "outside")):
        with pytest.raises(FileSourceError) as caught:
            capture(app, name)
        assert caught.value.hint


def test_absent_files(app: Path) -> None:
    report, _ = capture(app, "no.yml", "*.none", configured=False)
    assert len(report.warnings) == 2 and report.files == ()
    for name in ("no.yml", "*.none", "no/folder.yml"):
        with pytest.raises(FileSourceError, match="BACKUP_CONFIG_FILES lists it"):
            capture(app, name)


def test_globs_take_files_once_and_no_folders(app: Path) -> None:
    report, _ = capture(app, "*.yml", "docker-compose.yml", "backend/*", "*")
    assert report.files == tuple(sorted(MANUAL))


def test_a_password_is_warned_about_by_file_and_line_only(app: Path) -> None:
    (app / "docker-compose.yml").write_text(f"services:\n  db:\n    POSTGRES_PASSWORD: {SECRET}\n")
    report, sink = capture(app, "docker-compose.yml")
    assert report.files == ("docker-compose.yml",) and SECRET.encode() in sink.content[b"config/docker-compose.yml"]
    (warning,) = report.warnings
    assert "config/docker-compose.yml" in warning and "line 3" in warning and SECRET not in warning


def test_special_files_are_not_waited_for(app: Path) -> None:
    os.mkfifo(app / "pipe")
    with pytest.raises(FileSourceError, match="not a regular file"):
        capture(app, "pipe")
