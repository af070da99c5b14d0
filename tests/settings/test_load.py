"""The settings as a whole: where they come from, which one wins, and what is refused all at once."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from resurgam.errors import SettingsError
from resurgam.settings import FileTree, Secret, load_settings
from tests.settings.loading import load, refusal, write_toml


def test_the_manuals_defaults(tmp_path: Path) -> None:
    settings = load_settings({}, folder=tmp_path)
    assert settings.backup_enabled and not settings.remote_backup_enabled
    assert (settings.app_name, settings.app_dir, settings.backup_dir) == (
        "radiology",
        Path("/app"),
        Path("/app/backups"),
    )
    assert (settings.backup_retention_days, settings.max_backups) == (30, 50)
    assert (settings.remote_backup_retention_days, settings.remote_max_backups) == (30, 50)
    assert settings.backup_log_file == Path("/app/logs/backup.log")
    assert settings.backup_state_file == Path("/app/backups/state.sqlite")
    database = settings.database
    assert (database.host, database.port, database.name, database.user) == (
        "postgres",
        5432,
        "radiology_db",
        "postgres",
    )
    assert database.password is None
    assert [file.pattern for file in settings.backup_config_files] == [
        ".env.example",
        "docker-compose.yml",
        "requirements.txt",
        "backend/config.py",
    ]
    assert settings.backup_file_trees == (
        FileTree("templates", Path("/app/backend/templates"), configured=False),
        FileTree("uploads", Path("/app/uploads"), configured=False),
    )
    assert not any(file.configured for file in settings.backup_config_files)
    assert settings.backup_dump_timeout is None
    assert settings.backup_connect_timeout == 10
    assert settings.restore_connections == min(4, os.cpu_count() or 1)
    assert settings.warnings == settings.unavailable == ()


def test_the_manuals_env_file_as_printed(app: Path) -> None:
    (app / ".env").write_text(
        """# Backup Configuration
BACKUP_ENABLED=true
BACKUP_DIR=/app/backups
BACKUP_RETENTION_DAYS=30
MAX_BACKUPS=50

# Database Connection (for pg_dump)
DB_HOST=postgres
DB_PORT=5432
DB_NAME=radiology_db
DB_USER=postgres
DB_PASSWORD=your_secure_password

# Optional: Remote Backup
REMOTE_BACKUP_ENABLED=false
REMOTE_BACKUP_PATH=/mnt/remote_storage/backups
"""
    )
    settings = load(app)
    assert settings.database.password == Secret("your_secure_password")
    assert settings.remote_backup_path == Path("/mnt/remote_storage/backups")
    assert settings.env_path == app / ".env"
    assert settings.warnings == ()


def test_environment_over_env_file_over_toml_over_defaults(app: Path) -> None:
    write_toml(app, "backup_retention_days = 1\nmax_backups = 1\nbackup_keep_daily = 1\nbackup_enabled = false\n")
    (app / ".env").write_text("BACKUP_RETENTION_DAYS=2\nMAX_BACKUPS=2\n")
    settings = load(app, BACKUP_RETENTION_DAYS="3")
    assert settings.backup_retention_days == 3
    assert settings.max_backups == 2
    assert settings.backup_keep_daily == 1
    assert settings.backup_keep_weekly == 0
    assert not settings.backup_enabled


def test_an_empty_value_is_not_set(app: Path) -> None:
    (app / ".env").write_text("MAX_BACKUPS=7\nBACKUP_DIR=\n")
    settings = load(app, MAX_BACKUPS="", DB_PASSWORD="", BACKUP_ENCRYPTION_KEY="")
    assert settings.max_backups == 7
    assert settings.backup_dir == Path("/app/backups")
    assert settings.database.password is None
    assert settings.unavailable == ()


def test_toml_is_found_by_variable_then_here_then_in_app_dir(app: Path) -> None:
    in_app = write_toml(app, "max_backups = 1")
    assert load(app).max_backups == 1
    here = app.parent / "resurgam.toml"
    here.write_text("max_backups = 2")
    assert load(app).config_path == here
    named = app.parent / "named.toml"
    named.write_text("max_backups = 3")
    assert load(app, RESURGAM_CONFIG=str(named)).max_backups == 3
    assert in_app.exists()
    assert "does not exist" in refusal(app, RESURGAM_CONFIG="missing.toml")


def test_toml_takes_its_own_types(app: Path) -> None:
    write_toml(
        app,
        'backup_config_files = ["a,b.yml", "conf/*.ini"]\nbackup_file_trees = []\n'
        'backup_dump_timeout = "2h"\nbackup_connect_timeout = 2.5\n',
    )
    settings = load(app)
    assert [file.pattern for file in settings.backup_config_files] == ["a,b.yml", "conf/*.ini"]
    assert [file.is_glob for file in settings.backup_config_files] == [False, True]
    assert settings.backup_file_trees == ()
    assert settings.backup_dump_timeout == 7200
    assert settings.backup_connect_timeout == 2.5


def test_app_dir_of_toml_starts_at_its_folder_and_leads_to_env(tmp_path: Path) -> None:
    (tmp_path / "resurgam.toml").write_text('app_dir = "site"')
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / ".env").write_text("DB_NAME=site_db")
    settings = load_settings({"RESURGAM_CONFIG": str(tmp_path / "resurgam.toml")}, folder=Path("/"))
    assert settings.app_dir == tmp_path / "site"
    assert settings.database.name == "site_db"


def test_everything_wrong_is_said_at_once(app: Path) -> None:
    write_toml(app, 'max_backup = 3\ndb_password = "hush-toml"\nbackup_keep_daily = [1]\n[database]\nhost = "x"\n')
    (app / ".env").write_text("BACKUP_RETENTION_DAYS=0\n")
    message = refusal(
        app,
        BACKUP_ENABLED="maybe",
        MAX_BACKUPS="5_0",
        DB_PORT="65536",
        BACKUP_LOCK_TIMEOUT="1w",
        APP_NAME="-rf",
        REMOTE_BACKUP_ENABLED="on",
        DB_PASSWORD="hush-env",
        DB_PASSWORD_FILE="/run/secrets/db",
        RESTORE_CONNECTIONS="0",
    )
    for name in (
        "max_backup in",
        "did you mean max_backups?",
        "db_password in",
        "backup_keep_daily in",
        "database in",
        "BACKUP_RETENTION_DAYS",
        "BACKUP_ENABLED",
        "MAX_BACKUPS",
        "DB_PORT",
        "BACKUP_LOCK_TIMEOUT",
        "APP_NAME",
        "REMOTE_BACKUP_PATH must be set",
        "DB_PASSWORD (in the environment) and DB_PASSWORD_FILE are both set",
        "RESTORE_CONNECTIONS",
    ):
        assert name in message
    assert message.startswith("13 settings are wrong and nothing was touched: ")
    assert "hush" not in message
    assert "\n" not in message


@pytest.mark.parametrize("word", ["true", "1", "YES", "On"])
def test_words_for_true(app: Path, word: str) -> None:
    assert load(app, REMOTE_BACKUP_ENABLED=word, REMOTE_BACKUP_PATH="/mnt/r").remote_backup_enabled


@pytest.mark.parametrize("word", ["false", "0", "no", "OFF"])
def test_words_for_false(app: Path, word: str) -> None:
    assert not load(app, BACKUP_ENABLED=word).backup_enabled


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), ("0.5s", 0.5), ("none", None), ("0", None)],
)
def test_durations(app: Path, text: str, seconds: float | None) -> None:
    settings = load(app, BACKUP_DUMP_TIMEOUT=text, BACKUP_CONNECT_TIMEOUT=text)
    assert settings.backup_dump_timeout == settings.backup_connect_timeout == seconds


@pytest.mark.parametrize("text", ["-1", "1 hour", "m", "1e3", "1w", "ten"])
def test_no_durations(app: Path, text: str) -> None:
    assert "BACKUP_DUMP_TIMEOUT (in the environment) must be a duration" in refusal(app, BACKUP_DUMP_TIMEOUT=text)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a" * 41, "ä", ".hidden", "a b"])
def test_app_names_that_are_refused(app: Path, name: str) -> None:
    if name:
        assert "APP_NAME" in refusal(app, APP_NAME=name)
    else:
        assert load(app, APP_NAME=name).app_name == "radiology"


def test_a_cap_below_the_keep_rules_is_refused(app: Path) -> None:
    keep = {"BACKUP_KEEP_DAILY": "30", "BACKUP_KEEP_WEEKLY": "12", "BACKUP_KEEP_MONTHLY": "12"}
    assert "MAX_BACKUPS is 50, below the sum of the BACKUP_KEEP_* settings, 54" in refusal(app, **keep)
    assert load(app, MAX_BACKUPS="54", **keep).max_backups == 54
    assert "REMOTE_MAX_BACKUPS is 53" in refusal(app, MAX_BACKUPS="54", REMOTE_MAX_BACKUPS="53", **keep)


def test_secrets_from_files(app: Path) -> None:
    (app / "password").write_text("with trailing blank \n")
    assert load(app, DB_PASSWORD_FILE="password").database.password == Secret("with trailing blank ")
    write_toml(app, 'db_password_file = "password"')
    assert load(app).database.password == Secret("with trailing blank ")
    # A higher place wins over a lower one, whichever of the two forms it uses.
    assert load(app, DB_PASSWORD="other").database.password == Secret("other")


def test_secret_files_that_are_refused(app: Path) -> None:
    (app / "empty").write_text("\n")
    (app / "binary").write_bytes(b"hush\xff\xfe")
    (app / "long").write_text("hush" * 20000)
    for name, why in (("missing", "No such file"), ("empty", "empty"), ("binary", "UTF-8"), ("long", "too long")):
        message = refusal(app, DB_PASSWORD_FILE=str(app / name))
        assert f"DB_PASSWORD_FILE (in the environment) names {app / name}" in message
        assert why in message
        assert "hush" not in message


def test_a_secret_shows_nowhere(app: Path) -> None:
    settings = load(app, DB_PASSWORD="hush", DATABASE_URL="postgresql://u:hush@h/d?sslmode=require", DB_HOST="h")
    for text in (repr(settings), str(settings), f"{settings.database.password}", json.dumps(settings.public())):
        assert "hush" not in text
    assert settings.public()["database"] == {
        "host": "h",
        "port": 5432,
        "name": "d",
        "user": "u",
        "password": "set",
        "options": [["sslmode", "require"]],
    }
    assert dataclasses.asdict(settings)["database"]["password"] == Secret("hush")
    assert copy.deepcopy(settings) == settings
    with pytest.raises(TypeError):
        pickle.dumps(settings.database.password)
    assert settings.database.password is not None
    assert settings.database.password.reveal() == "hush"
    assert settings.database.password != Secret("other") and settings.database.password != "hush"


def test_a_toml_that_others_could_have_written_is_refused(app: Path) -> None:
    file = write_toml(app, "max_backups = 3")
    for mode in (0o602, 0o620):
        file.chmod(mode)
        assert "others can write to it" in refusal(app)
    file.chmod(0o644)
    assert load(app).max_backups == 3


def test_a_toml_of_another_user_is_refused(app: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    file = write_toml(app, "max_backups = 3")
    os.chown(file, 65534, 65534)
    assert "belongs to another user" in refusal(app)


def test_an_env_file_of_others_is_read_but_names_no_programs(app: Path) -> None:
    env = app / ".env"
    env.write_text("MAX_BACKUPS=9\nBACKUP_PG_BIN=/tmp/evil\n")
    env.chmod(0o666)
    assert "BACKUP_PG_BIN" in refusal(app)
    env.write_text("MAX_BACKUPS=9\n")
    assert load(app).max_backups == 9
    assert load(app, BACKUP_PG_BIN="/usr/lib/postgresql/16/bin").backup_pg_bin == Path("/usr/lib/postgresql/16/bin")


def test_bad_toml_is_named_without_its_content(app: Path) -> None:
    write_toml(app, 'db_password_file = "hush')
    message = refusal(app)
    assert "is not valid TOML" in message
    assert "hush" not in message


def test_env_files_of_applications(app: Path) -> None:
    (app / ".env").write_text(
        "export DB_NAME='quoted db'\nBASE=/srv\nBACKUP_DIR=${BASE}/b # comment\nBACKUP_STATE_FILE=${NOWHERE:-/s/t}\n"
        'DB_PASSWORD="a#b\\nc"\nthis is = no assignment\nJWT_SECRET=whatever\nAPP_DIR=/elsewhere\n'
    )
    settings = load(app)
    assert settings.database.name == "quoted db"
    assert settings.backup_dir == Path("/srv/b")
    assert settings.backup_state_file == Path("/s/t")
    assert settings.database.password == Secret("a#b\nc")
    assert any("no assignment" in warning for warning in settings.warnings)
    assert any("APP_DIR in" in warning for warning in settings.warnings)
    assert "whatever" not in "".join(settings.warnings)


def test_unknown_names_warn_with_what_was_meant(app: Path) -> None:
    warnings = load(app, BACKUP_RETENTION_DAY="7", BACKUP_ZZZ="1", REMOTE_BACKUP_PTH="/x", HOME="/root").warnings
    assert len(warnings) == 3
    assert "BACKUP_RETENTION_DAY (in the environment) is not a setting and was ignored; did you mean" in warnings[0]
    assert "BACKUP_RETENTION_DAYS?" in warnings[0]
    assert warnings[1].endswith("BACKUP_ZZZ (in the environment) is not a setting and was ignored.")
    assert "REMOTE_BACKUP_PATH?" in warnings[2]


def test_what_does_not_exist_yet_is_named(app: Path) -> None:
    settings = load(app, S3_BACKUP_BUCKET="bucket")
    assert settings.unavailable == ("S3_BACKUP_BUCKET",)
    assert settings.warnings == ()


def test_a_current_folder_that_may_not_be_entered_says_nothing_but_app_dir_must_be_open(tmp_path: Path) -> None:
    """As after `su postgres` within /root."""
    with tempfile.TemporaryDirectory() as open_to_all:  # tmp_path's parents are closed to other users
        app, closed = Path(open_to_all, "app"), Path(open_to_all, "closed")
        app.mkdir()
        closed.mkdir()
        for path, mode in ((Path(open_to_all), 0o755), (app, 0o755), (closed, 0o600)):
            path.chmod(mode)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            assert load_settings({"APP_DIR": str(app)}, folder=closed).app_dir == app
            with pytest.raises(SettingsError, match="may not be entered"):
                load_settings({"APP_DIR": str(closed)}, folder=app)
        finally:
            if root:
                os.seteuid(0)


def test_importing_stays_cheap() -> None:
    code = "import resurgam.settings, sys; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "dotenv", "tomllib", "sqlalchemy", "difflib"} & set(modules)
