"""No secret of a repository in anything that is printed, answered, logged or noted."""

from __future__ import annotations

import base64
import json
import logging
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from resurgam import readiness
from resurgam.errors import ResurgamError
from resurgam.operations.repository_keys import make_kit, make_writer_key
from tests.operations.scene import Scene

MARK = "Marker-Passphrase-7391"
OTHER = "Other-Marker-Phrase-5512"


def _forbidden(scene: Scene) -> list[str]:
    """All that would open something: passphrases, the kit's identity and its lines, the writer key's values."""
    found = [MARK, OTHER]
    kit = (scene.root / "kit.txt").read_text()
    found += re.findall(r"AGE-SECRET-KEY-1[A-Z0-9]+", kit) + re.findall(r"^\d: (.{19})", kit, re.MULTILINE)
    writer = json.loads((scene.root / "writer.key").read_text())
    values = [writer[name] for name in ("names", "shared", "auth_shared", "seed")]
    found += values + [base64.b64decode(one).hex() for one in values] + [repr(base64.b64decode(one)) for one in values]
    return found


def test_nothing_that_is_said_holds_a_secret(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scene.more |= {"BACKUP_REPOSITORY": str(scene.root / "repository"), "BACKUP_ENCRYPTION_KEY": MARK}
    said: list[str] = []
    with scene.service() as service:
        readiness.make_repository(service)
        access = readiness.repository(service)
        service.backup()
        make_writer_key(access.keys(), scene.root / "writer.key")
        said.append(repr(make_kit(access.keys(), scene.root / "kit.txt")))
        opened = access.open(anew=True)
        unlocking = access.unlocking
        said += [
            repr(one)
            for one in (service, access, opened, opened.ring, unlocking, opened.repository.keys, service.settings)
        ]
        said += [repr(opened.repository), repr(opened.repository.opener), repr(access.keys()), str(unlocking)]
        said += [json.dumps(service.list_backups()), json.dumps(service.health().to_json(), default=str)]
    forbidden = _forbidden(scene)
    (scene.root / "bad.kit").write_text(forbidden[2][:-3] + "QQQ")
    command = f"{sys.executable} -c \"import sys; print('{OTHER}'); sys.exit('{OTHER}')\""
    for more in (
        {"BACKUP_ENCRYPTION_KEY": OTHER},
        {"BACKUP_ENCRYPTION_KEY": OTHER + "\n\udc80"},
        {"BACKUP_ENCRYPTION_KEY": "", "BACKUP_ENCRYPTION_KEY_COMMAND": command},
        {"BACKUP_ENCRYPTION_KEY": "", "BACKUP_RECOVERY_KIT_FILE": str(scene.root / "bad.kit")},
        {"BACKUP_ENCRYPTION_KEY": "", "BACKUP_ENCRYPTION_IDENTITY_FILE": str(scene.root / "kit.txt")},
        {"BACKUP_ENCRYPTION_KEY": "", "BACKUP_WRITER_KEY_FILE": str(scene.root / "kit.txt")},
        {"BACKUP_WRITER_KEY_FILE": str(scene.root / "writer.key")},
        {"BACKUP_ENCRYPTION_KEY": "", "BACKUP_WRITER_KEY_FILE": str(scene.root / "writer.key")},
    ):
        try:
            with scene.service(**more) as service:
                said.append(repr(readiness.repository(service)))
                service.list_backups()
                service.backup()
        except ResurgamError as error:
            said += [str(error), error.hint, repr(error)]
            said += traceback.TracebackException.from_exception(error, capture_locals=False).format()
            chained: BaseException | None = error
            while chained is not None:
                said.append(repr(chained))
                chained = chained.__cause__ or chained.__context__
    said.append(caplog.text)
    for path in scene.backups.rglob("*"):
        if path.is_file():
            said.append(path.read_bytes().decode("latin-1"))
    for one in said:
        assert [secret for secret in forbidden if secret in one] == [], one[:100]


@pytest.mark.parametrize(
    "arguments", [["list"], ["backup"], ["keys", "list"], ["doctor"], ["health"], ["verify", "--all"]]
)
def test_the_command_line_says_none(scene: Scene, arguments: list[str]) -> None:
    scene.more |= {"BACKUP_REPOSITORY": str(scene.root / "repository"), "BACKUP_ENCRYPTION_KEY": MARK}
    with scene.service() as service:
        readiness.make_repository(service)
        environment = {**scene.environment(), "PATH": str(Path("/usr/bin"))}
    for key in (MARK, OTHER):
        done = subprocess.run(
            [sys.executable, "-m", "resurgam", *arguments, "--json"],
            env={**environment, "BACKUP_ENCRYPTION_KEY": key},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout + done.stderr
        assert MARK not in done.stdout + done.stderr and OTHER not in done.stdout + done.stderr
