"""Opening a ring with what the settings give."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

from resurgam.errors import DamagedError, KeyRefused, ResurgamError, SettingsError
from resurgam.keys.kit import kit_lines
from resurgam.keys.open_ring import create_ring
from resurgam.keys.ring import KeyRing, encode
from resurgam.keys.slots import new_identity
from resurgam.keys.unlock import Unlocking, open_ring, read_passphrase, unlock
from resurgam.keys.writer_key import write_writer_key, writer_key
from resurgam.settings.secret import Secret
from tests.keys.rings import PASSPHRASE, REPOSITORY, WHEN, forged, opened_ring

OPENED, OPS, KIT = opened_ring()


@dataclass
class Given:
    """Rings that are simply there."""

    rings: tuple[KeyRing, ...] = (OPENED.ring,)

    def read(self) -> tuple[KeyRing, ...]:
        return self.rings


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def command(script: str, seconds: float = 20) -> Unlocking:
    return Unlocking(passphrase_command=shell(script), command_seconds=seconds, environ=dict(os.environ))


def test_every_way_opens_it(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text(f"# created: today\n{new_identity().text.reveal()}\n{OPS.text.reveal()}\n")
    (tmp_path / "kit.txt").write_text("\n".join(kit_lines(KIT)))
    ways = [
        Unlocking(passphrase=PASSPHRASE),
        command("printf 'correct horse battery\\nand more\\n'"),
        command("printf 'correct horse battery'"),
        command("echo a warning >&2; echo correct horse battery"),
        Unlocking(identity_file=tmp_path / "identity"),
        Unlocking(kit_file=tmp_path / "kit.txt"),
    ]
    for way in ways:
        unlocked = unlock(Given(), way)
        assert unlocked.secrets == OPENED.secrets
        assert unlocked.ring.generation == OPENED.ring.generation


def test_a_writer_key_opens_for_writing_only(tmp_path: Path) -> None:
    write_writer_key(tmp_path / "writer.json", writer_key(OPENED))
    way = Unlocking(writer_key_file=tmp_path / "writer.json")
    assert way.writes_only
    secrets = unlock(Given(), way).secrets
    assert not secrets.can_read
    assert secrets.epoch == OPENED.secrets.epoch
    with pytest.raises(KeyRefused, match="write-only key"):
        open_ring(Given(), way)


@pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed (apt-get install age)")
def test_an_identity_of_the_age_tool_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "key.txt"
    made = subprocess.run(["age-keygen", "-o", path], capture_output=True, text=True, check=True)
    recipient = made.stderr.split()[-1]
    opened = create_ring(REPOSITORY, WHEN, None, [("age", recipient)])
    assert unlock(Given((opened.ring,)), Unlocking(identity_file=path)).secrets == opened.secrets


def test_no_key_and_two_keys_are_told() -> None:
    with pytest.raises(KeyRefused, match="no key is set") as none:
        unlock(Given(), Unlocking())
    assert "BACKUP_ENCRYPTION_KEY" in none.value.hint
    with pytest.raises(SettingsError, match="BACKUP_ENCRYPTION_KEY and BACKUP_RECOVERY_KIT_FILE"):
        unlock(Given(), Unlocking(passphrase=PASSPHRASE, kit_file=Path("kit.txt")))
    with pytest.raises(SettingsError, match="BACKUP_WRITER_KEY_FILE"):
        unlock(Given(), Unlocking(passphrase=PASSPHRASE, writer_key_file=Path("writer.json")))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo correct horse battery; exit 3", "failed with exit status 3"),
        ("exit 0", "printed no passphrase"),
        ("echo; echo correct horse battery", "printed no passphrase"),
        ("printf '\\377\\376'", "printed no passphrase"),
        ("kill -9 $$", "exit status -9"),
        ("yes", "without end"),
    ],
)
def test_a_command_that_gives_no_passphrase(script: str, said: str) -> None:
    with pytest.raises(KeyRefused, match=said) as caught:
        unlock(Given(), command(script))
    assert "BACKUP_ENCRYPTION_KEY_COMMAND (sh)" in caught.value.message
    assert script not in caught.value.message


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    script = f"sleep 50 & echo $! > {tmp_path}/pid; wait"
    started = time.monotonic()
    with pytest.raises(KeyRefused, match="longer than 1 s"):
        unlock(Given(), command(script, 1))
    assert time.monotonic() - started < 10
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_command_is_run_without_a_shell_and_gets_no_secrets(tmp_path: Path) -> None:
    program = tmp_path / "tell"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nopen({str(tmp_path / 'seen')!r}, 'w').write("
        "repr((sys.argv[1:], sorted(os.environ))))\nprint('correct horse battery')\n"
    )
    program.chmod(0o755)
    environ = {**os.environ, "BACKUP_ENCRYPTION_KEY": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    way = Unlocking(passphrase_command=(str(program), "$(id)", "; ls"), environ=environ)
    assert unlock(Given(), way).secrets == OPENED.secrets
    seen = (tmp_path / "seen").read_text()
    assert "['$(id)', '; ls']" in seen
    assert "BACKUP_ENCRYPTION_KEY" not in seen
    assert "AWS_SECRET_ACCESS_KEY" not in seen


def test_a_missing_command_is_told() -> None:
    with pytest.raises(KeyRefused, match="could not be started"):
        unlock(Given(), Unlocking(passphrase_command=("/nowhere/to/be/found",)))


def test_of_two_copies_that_differ_the_true_one_opens() -> None:
    false = forged(encode(OPENED.ring), lambda fields: fields.update(generation=OPENED.ring.generation + 1))
    for rings in ((false, OPENED.ring), (OPENED.ring, false)):
        assert unlock(Given(rings), Unlocking(passphrase=PASSPHRASE)).ring == OPENED.ring
    with pytest.raises(DamagedError):
        unlock(Given((false,)), Unlocking(passphrase=PASSPHRASE))
    with pytest.raises(KeyRefused):
        unlock(Given((OPENED.ring, false)), Unlocking(passphrase=Secret("another one")))


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [
        (b"correct horse", "correct horse"),
        (b"correct horse\n", "correct horse"),
        (b"correct horse\r\n", "correct horse"),
        (b" with blanks \n", " with blanks "),
        (b"", None),
        (b"\n", None),
        (b"two\nlines\n", None),
        (b"\xff\xfe\n", None),
        (b"x" * 70_000, None),
        (b"nul\0", None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_passphrase_from_a_file(tmp_path: Path, content: bytes, passphrase: str | None) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    if passphrase is None:
        with pytest.raises(KeyRefused):
            read_passphrase(path)
    else:
        assert read_passphrase(path) == Secret(passphrase)


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    """In no repr, message, hint or traceback, whatever goes wrong."""
    wrong = "wrong-but-secret-passphrase"
    identity = new_identity()
    (tmp_path / "identity").write_text(identity.text.reveal() + "\n")
    (tmp_path / "mistyped").write_text(identity.text.reveal()[:-2] + "\n")
    lines = list(kit_lines(identity))
    (tmp_path / "kit").write_text("\n".join(lines))
    (tmp_path / "kit mistyped").write_text("\n".join([*lines[:3], lines[3][:-1] + "#"]))
    write_writer_key(tmp_path / "writer", writer_key(create_ring(b"\xff" * 16, WHEN, PASSPHRASE)))
    (tmp_path / "writer cut").write_bytes((tmp_path / "writer").read_bytes()[:-60])
    ways = [
        Unlocking(passphrase=Secret(wrong)),
        command(f"echo {wrong}"),
        command(f"echo {wrong}; exit 1"),
        command(f"echo; echo {wrong}"),
        command(f"echo {wrong} >&2; exit 1"),
        Unlocking(identity_file=tmp_path / "identity"),
        Unlocking(identity_file=tmp_path / "mistyped"),
        Unlocking(kit_file=tmp_path / "kit"),
        Unlocking(kit_file=tmp_path / "kit mistyped"),
        Unlocking(writer_key_file=tmp_path / "writer"),
        Unlocking(writer_key_file=tmp_path / "writer cut"),
        Unlocking(passphrase=Secret(wrong), kit_file=tmp_path / "kit"),
    ]
    writer = (tmp_path / "writer").read_text().split('"')
    secrets = [wrong, identity.text.reveal()[16:40], *(line[3:12] for line in lines)]
    secrets += [writer[writer.index(name) + 2] for name in ("names", "seed", "shared", "auth_shared")]
    for way in ways:
        with pytest.raises(ResurgamError) as caught:
            unlock(Given(), way)
        error = caught.value
        shown = "\n".join([repr(way), repr(error), str(error), error.message, error.hint])
        shown += "".join(traceback.format_exception(error))
        assert [secret for secret in secrets if secret in shown] == []
