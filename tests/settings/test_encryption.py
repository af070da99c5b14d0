"""The settings of encrypted archives: what encrypts them follows from the keys, and no secret is in sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.errors import SettingsError
from resurgam.settings.model import Encryption
from resurgam.settings.secret import Secret
from tests.settings.loading import load

RECIPIENT = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"


def test_without_a_key_nothing_is_encrypted(app: Path) -> None:
    assert load(app).encryption == Encryption()


def test_a_key_or_recipients_mean_age(app: Path) -> None:
    assert load(app, BACKUP_ENCRYPTION_KEY=" horse ").encryption == Encryption("age", Secret(" horse "))
    assert load(app, BACKUP_ENCRYPTION_KEY_COMMAND="pass 'a b'").encryption == Encryption(
        "age", key_command=("pass", "a b")
    )
    assert load(app, BACKUP_ENCRYPTION_RECIPIENTS=f"{RECIPIENT}, {RECIPIENT}").encryption == Encryption(
        "age", recipients=(RECIPIENT,)
    )


def test_gpg_and_none_are_wishes(app: Path) -> None:
    key = {"BACKUP_ENCRYPTION_KEY": "horse"}
    assert load(app, **key, BACKUP_ENCRYPTION="GPG").encryption.kind == "gpg"
    assert load(app, **key, BACKUP_ENCRYPTION="none").encryption == Encryption(None, Secret("horse"))
    assert load(app, **key, BACKUP_REPOSITORY="/r").encryption.kind is None


def test_the_identity_file_never_enters_a_backup(app: Path) -> None:
    settings = load(app, BACKUP_ENCRYPTION_IDENTITY_FILE="key.txt")
    assert settings.encryption == Encryption(identity_file=app / "key.txt")
    assert settings.secret_files == (app / "key.txt",)


def test_a_key_may_stand_in_a_file(app: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("horse\n")
    settings = load(app, BACKUP_ENCRYPTION_KEY_FILE=str(tmp_path / "key"))
    assert settings.encryption.key == Secret("horse")
    assert settings.secret_files == (tmp_path / "key",)
    assert "horse" not in repr(settings) + str(settings.public())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"BACKUP_ENCRYPTION": "pgp"}, "must be age, gpg or none"),
        ({"BACKUP_ENCRYPTION": "age"}, "age needs BACKUP_ENCRYPTION_KEY or BACKUP_ENCRYPTION_RECIPIENTS"),
        ({"BACKUP_ENCRYPTION": "gpg"}, "gpg needs BACKUP_ENCRYPTION_KEY"),
        ({"BACKUP_ENCRYPTION": "gpg", "BACKUP_ENCRYPTION_RECIPIENTS": RECIPIENT}, "gpg encrypts by a passphrase"),
        ({"BACKUP_ENCRYPTION_KEY": "hush", "BACKUP_ENCRYPTION_KEY_COMMAND": "true"}, "are both set"),
        ({"BACKUP_ENCRYPTION_KEY": "hush\nhush"}, "must be one line"),
        ({"BACKUP_ENCRYPTION_KEY": "hush" * 2000}, "at most 4000 bytes"),
        ({"BACKUP_ENCRYPTION_KEY": "   "}, "must not be blank"),
        ({"BACKUP_ENCRYPTION_RECIPIENTS": RECIPIENT, "BACKUP_REPOSITORY": "/r"}, "a repository is always encrypted"),
    ],
)
def test_what_does_not_go_together_is_refused(app: Path, more: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(app, **more)
    assert said in caught.value.message and "hush" not in caught.value.message
