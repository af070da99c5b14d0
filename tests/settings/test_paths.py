"""Folders, config files, file trees and excludes as settings."""

from __future__ import annotations

from pathlib import Path

from resurgam.settings import ConfigFile, FileTree, load_settings
from tests.settings.loading import load, refusal


def test_relative_paths_start_in_app_dir(app: Path) -> None:
    settings = load(
        app, BACKUP_DIR="backups", REMOTE_BACKUP_PATH="../remote", BACKUP_LOG_FILE="b.log", BACKUP_PG_BIN="bin"
    )
    assert settings.backup_dir == app / "backups"
    assert settings.backup_state_file == app / "backups" / "state.sqlite"
    assert settings.remote_backup_path == app.parent / "remote"
    assert settings.backup_log_file == app / "b.log"
    assert settings.backup_pg_bin == app / "bin"
    assert load_settings({"APP_DIR": "app"}, folder=app.parent).app_dir == app


def test_a_remote_folder_that_is_the_local_one_is_refused(app: Path) -> None:
    assert "must differ" in refusal(app, BACKUP_DIR="b", REMOTE_BACKUP_PATH="x/../b")


def test_config_files(app: Path) -> None:
    inside = app / "deep" / "x.ini"
    listed = f" a.yml, ./b/../c.yml,{inside},conf/**/*.conf,a.yml,,"
    assert load(app, BACKUP_CONFIG_FILES=listed).backup_config_files == tuple(
        ConfigFile(pattern, configured=True) for pattern in ("a.yml", "c.yml", "deep/x.ini", "conf/**/*.conf")
    )
    assert load(app, BACKUP_CONFIG_FILES="none").backup_config_files == ()
    message = refusal(app, BACKUP_CONFIG_FILES="/etc/passwd,../x,a,.")
    for outside in ("/etc/passwd", "../x", "'.'"):
        assert outside in message


def test_a_dotenv_among_config_files_is_left_out(app: Path) -> None:
    settings = load(app, BACKUP_CONFIG_FILES=".env,backend/.env,.env.example")
    assert [file.pattern for file in settings.backup_config_files] == [".env.example"]
    assert len(settings.warnings) == 2


def test_file_trees(app: Path) -> None:
    trees = load(app, BACKUP_FILE_TREES="uploads,media=/srv/media/,./a=b,img = data/img").backup_file_trees
    assert trees == (
        FileTree("uploads", app / "uploads", configured=True),
        FileTree("media", Path("/srv/media"), configured=True),
        FileTree("a=b", app / "a=b", configured=True),
        FileTree("img", app / "data" / "img", configured=True),
    )
    assert load(app, BACKUP_FILE_TREES="none").backup_file_trees == ()
    assert load(app, BACKUP_FILE_TREES="root=/").backup_file_trees[0].path == Path("/")


def test_file_trees_that_are_refused(app: Path) -> None:
    assert "two trees of the name 'uploads'" in refusal(app, BACKUP_FILE_TREES="a/uploads,b/uploads")
    assert "names no folder" in refusal(app, BACKUP_FILE_TREES="x=")
    assert "a name" in refusal(app, BACKUP_FILE_TREES="/")


def test_excludes(app: Path) -> None:
    assert load(app, BACKUP_EXCLUDE="*.tmp, cache/").backup_exclude == ("*.tmp", "cache/")


def test_control_characters_are_refused(app: Path) -> None:
    assert "DB_HOST" in refusal(app, DB_HOST="a\nb")
