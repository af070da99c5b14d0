"""The repository's settings: one key, no remote copies, and no secret in sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.errors import SettingsError
from resurgam.settings import RepositoryRules
from tests.settings.loading import load


def test_a_repository_in_a_folder(app: Path) -> None:
    settings = load(app, BACKUP_REPOSITORY="backups/repository", BACKUP_ENCRYPTION_KEY="correct horse")
    rules = settings.repository
    assert rules is not None
    assert rules.place == str(app / "backups/repository") and rules.folder == app / "backups/repository"
    assert rules.passphrase is not None and rules.passphrase.reveal() == "correct horse"
    assert (rules.prune_limit, rules.read_all, settings.unavailable) == (50, False, ())
    assert "horse" not in repr(settings) + str(settings.public())


def test_a_url_stays_as_it_is(app: Path) -> None:
    rules = load(app, BACKUP_REPOSITORY="s3://bucket/a//b", BACKUP_ENCRYPTION_KEY_COMMAND="pass show 'a b'").repository
    assert rules is not None and (rules.place, rules.folder) == ("s3://bucket/a//b", None)
    assert rules.command == ("pass", "show", "a b")


def test_without_one_there_are_archives(app: Path) -> None:
    assert load(app).repository is None
    assert load(app, BACKUP_ENCRYPTION_KEY_COMMAND="true").unavailable == ()


def test_files_with_keys_are_secrets(app: Path) -> None:
    settings = load(app, BACKUP_REPOSITORY="/r", BACKUP_WRITER_KEY_FILE="w.key", BACKUP_RECOVERY_KIT_FILE="/k.txt")
    assert settings.repository == RepositoryRules("/r", writer_key_file=app / "w.key", kit_file=Path("/k.txt"))
    assert set(settings.secret_files) == {app / "w.key", Path("/k.txt")}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": "/x"}, "REMOTE_BACKUP_ENABLED copies archives"),
        ({"BACKUP_ENCRYPTION_KEY": "hush", "BACKUP_WRITER_KEY_FILE": "/w"}, "BACKUP_WRITER_KEY_FILE are all set"),
        ({"BACKUP_ENCRYPTION_KEY_COMMAND": "echo 'hush"}, "BACKUP_ENCRYPTION_KEY_COMMAND is no command"),
        ({"BACKUP_PRUNE_LIMIT": "0"}, "BACKUP_PRUNE_LIMIT"),
        ({"BACKUP_REPOSITORY": "/app/backups"}, "BACKUP_REPOSITORY must differ from BACKUP_DIR"),
        ({"BACKUP_REPOSITORY": "", "BACKUP_RECOVERY_KIT_FILE": "/k"}, "BACKUP_REPOSITORY is not set"),
    ],
)
def test_what_does_not_go_together_is_refused(app: Path, more: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(app, **{"BACKUP_REPOSITORY": "/r", **more})
    assert said in caught.value.message and "hush" not in caught.value.message
