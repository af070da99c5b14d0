"""`resurgam keys`: what it asks, answers and refuses. Its repository lies in memory."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resurgam.cli import keys
from resurgam.cli.face import Face
from resurgam.clock import SystemClock
from resurgam.errors import KeyRefused, NotFoundError, UsageError
from resurgam.keys.open_ring import create_ring, unlock_by_passphrase
from resurgam.keys.slots import new_identity
from resurgam.keys.unlock import Unlocking
from resurgam.operations.repository_keys import KeyAccess
from resurgam.policy.kit import kit_standing
from resurgam.repository.ring_store import RingStore
from resurgam.settings.secret import Secret
from resurgam.stores.object_memory import MemoryStore
from tests.cli.commands import ROOT
from tests.keys.rings import PASSPHRASE, REPOSITORY, WHEN


@dataclass
class Keys:
    """The commands, and the ring that they work on."""

    rings: RingStore
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str, stdin: str = "") -> str:
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        assert keys.app(arguments, prog_name="resurgam keys", standalone_mode=False) == 0
        return self.capture.readouterr().out

    def json(self, *arguments: str, stdin: str = "") -> Any:
        out = self.run(*arguments, "--json", stdin=stdin)
        assert out.count("\n") == 1
        return json.loads(out)


@pytest.fixture
def commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Keys:
    rings = RingStore(MemoryStore(), REPOSITORY)
    rings.create(create_ring(REPOSITORY, WHEN, PASSPHRASE).ring)

    @contextmanager
    def access(face: Face) -> Iterator[KeyAccess]:
        yield KeyAccess(rings, Unlocking(passphrase=PASSPHRASE), SystemClock(), "app", "memory:", lambda secrets: None)

    monkeypatch.setattr(keys, "key_access", access)
    return Keys(rings, capsys, monkeypatch)


def test_list_shows_what_opens_it_and_no_secret(commands: Keys) -> None:
    shown = commands.run("list")
    assert REPOSITORY.hex() in shown
    assert "passphrase" in shown
    answer = commands.json("list")
    assert answer["slots"][0] == {
        "id": commands.rings.read()[0].slots[0].id,
        "kind": "passphrase",
        "name": "passphrase",
        "created_at": "2025-01-04T14:30:22Z",
        "recipient": None,
        "proven_at": None,
    }
    told = (answer["success"], answer["repository"], answer["generation"], answer["epoch"])
    assert told == (True, REPOSITORY.hex(), 1, 1)


def test_add_and_remove(commands: Keys) -> None:
    recipient = new_identity().recipient
    added = commands.json("add", "--name", "ops", "--recipient", recipient)
    assert added["slot"]["recipient"] == recipient
    with pytest.raises(UsageError, match="must be confirmed"):
        commands.run("remove", "ops")
    assert len(commands.rings.read()[0].slots) == 2
    shown = commands.run("remove", "ops", "--yes")
    assert "These remain" in shown
    assert "resurgam keys rotate" in shown
    assert [slot.name for slot in commands.rings.read()[0].slots] == ["passphrase"]
    with pytest.raises(NotFoundError):
        commands.run("remove", "ops", "--yes")


def test_a_passphrase_comes_from_a_file_and_never_from_an_argument(commands: Keys, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("a better passphrase\n")
    commands.run("add", "--name", "second", "--passphrase-file", str(tmp_path / "new"))
    unlock_by_passphrase(commands.rings.read()[0], Secret("a better passphrase"))
    (tmp_path / "other").write_text("yet another passphrase\n")
    commands.run("passphrase", "second", "--passphrase-file", str(tmp_path / "other"))
    unlock_by_passphrase(commands.rings.read()[0], Secret("yet another passphrase"))
    with pytest.raises(KeyRefused):
        unlock_by_passphrase(commands.rings.read()[0], Secret("a better passphrase"))
    with pytest.raises(UsageError, match="Nobody can be asked"):
        commands.run("add", "--name", "third")
    with pytest.raises(UsageError, match="can't be given together"):
        commands.run("add", "--name", "x", "--recipient", "age1x", "--passphrase-file", str(tmp_path / "new"))


def test_rotate_names_what_ended(commands: Keys, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("a second passphrase\n")
    commands.run("add", "--name", "second", "--passphrase-file", str(tmp_path / "new"))
    with pytest.raises(UsageError, match="must be confirmed"):
        commands.run("rotate")
    answer = commands.json("rotate", "--yes")
    assert [slot["name"] for slot in answer["ended"]] == ["second"]
    assert answer["epoch"] == 2


def test_a_kit_is_made_and_proven_by_file_and_by_typing(commands: Keys, tmp_path: Path) -> None:
    out = tmp_path / "kit.txt"
    made = commands.run("kit", "--out", str(out))
    assert "AGE" not in made
    assert kit_standing(commands.rings.read()[0]).word == "unproven"
    lines = [line.strip() for line in out.read_text().splitlines() if line.strip()[1:2] == ":"]
    commands.run("kit", "--prove", stdin="\n".join(lines).lower())
    first = kit_standing(commands.rings.read()[0])
    assert first.word == "proven"
    assert commands.json("kit", "--prove", "--file", str(out))["slot"]["kind"] == "kit"
    with pytest.raises(KeyRefused, match="Line 2"):
        commands.run("kit", "--prove", stdin="\n".join([lines[0], *lines[2:]]))


@pytest.mark.parametrize("arguments", [(), ("--out", "k.txt", "--prove"), ("--file", "k.txt")])
def test_kit_is_made_or_proven(commands: Keys, arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--out FILE to make a kit, or --prove"):
        commands.run("kit", *arguments)


def test_a_writer_key_is_written(commands: Keys, tmp_path: Path) -> None:
    answer = commands.json("writer", "--out", str(tmp_path / "writer.json"))
    assert answer == {"success": True, "file": str(tmp_path / "writer.json"), "epoch": 1}
    assert (tmp_path / "writer.json").stat().st_mode & 0o777 == 0o600


_ASKED = """
import sys
from tests.cli.test_keys import *
rings = RingStore(MemoryStore(), REPOSITORY)
rings.create(create_ring(REPOSITORY, WHEN, PASSPHRASE).ring)
@contextmanager
def access(face):
    yield KeyAccess(rings, Unlocking(passphrase=PASSPHRASE), SystemClock(), "app", "memory:", lambda secrets: None)
keys.key_access = access
try:
    keys.app(["passphrase"], standalone_mode=False)
    print("opens" if unlock_by_passphrase(rings.read()[0], Secret("typed unseen")) else "")
except UsageError as error:
    print(error.message)
"""


@pytest.mark.parametrize(("second", "said"), [("typed unseen", "opens"), ("typed unsehn", "They were not the same")])
def test_a_new_passphrase_is_asked_for_twice_without_echo(second: str, said: str) -> None:
    terminal, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ASKED], stdin=side, stdout=side, stderr=side, cwd=ROOT, start_new_session=True
    )
    os.close(side)
    shown = b""
    try:
        for prompt, answer in ((b"New passphrase: ", "typed unseen"), (b"The same again: ", second)):
            while prompt not in shown:
                shown += os.read(terminal, 1000)
            os.write(terminal, answer.encode() + b"\n")
        while said.encode() not in shown:
            shown += os.read(terminal, 1000)
    finally:
        process.wait(30)
        os.close(terminal)
    assert b"typed" not in shown
