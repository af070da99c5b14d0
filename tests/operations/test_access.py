"""Tokens made and ended with a note in the audit log; the bootstrap token and its file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from resurgam.catalog.audit import local_actor
from resurgam.catalog.state import State
from resurgam.errors import NotFoundError, StorageError, UsageError
from resurgam.jobs.bootstrap import BootstrapChore
from resurgam.operations.access import FILE, create_token, ensure_bootstrap, revoke_token
from tests.catalog.test_tokens import Watch


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "backups"
    place.mkdir()
    return place


@pytest.fixture
def state(tmp_path: Path, watch: Watch) -> Iterator[State]:
    with State.open(tmp_path / "state.sqlite", clock=watch) as opened:
        yield opened


def audited(state: State) -> list[tuple[str, str, str]]:
    return [(entry.action, entry.target, entry.outcome) for entry in reversed(state.audit.page())]


def test_making_and_ending_tokens_is_noted_without_their_secrets(state: State, folder: Path) -> None:
    me = local_actor()
    text, token = create_token(state, folder, me, "operator", name="ci", expires=timedelta(days=90))
    with pytest.raises(UsageError):
        create_token(state, folder, me, "operator", name="ci", expires=None)
    _, unnamed = create_token(state, folder, me, "viewer", name=None, expires=None)
    assert unnamed.name.startswith("viewer-")
    revoke_token(state, folder, me, "ci")
    with pytest.raises(NotFoundError):
        revoke_token(state, folder, me, "nobody")
    assert audited(state) == [
        ("token create", "ci", "ok"),
        ("token create", "ci", "refused"),
        ("token create", unnamed.name, "ok"),
        ("token revoke", "ci", "ok"),
        ("token revoke", "nobody", "refused"),
    ]
    entry = state.audit.page()[-1]
    assert (entry.actor, entry.origin, entry.details["id"]) == (me.name, "cli", token.id)
    assert text.rpartition("_")[2] not in str([one.to_json() for one in state.audit.page()])


def test_the_first_start_makes_one_token_in_a_private_file(state: State, folder: Path) -> None:
    path = ensure_bootstrap(state, folder)
    assert path == folder / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text().rstrip("\n")
    checked = state.tokens.check(text)
    assert (checked.verdict, checked.token and checked.token.role) == ("good", "admin")
    assert checked.token is not None
    assert checked.token.expires_at == checked.token.created_at + timedelta(hours=24)
    assert ensure_bootstrap(state, folder) is None
    assert path.read_text().rstrip("\n") == text
    assert audited(state) == [("token create", "bootstrap", "ok")]


def test_an_admins_token_ends_it_and_removes_the_file(state: State, folder: Path) -> None:
    path = ensure_bootstrap(state, folder)
    assert path is not None
    text = path.read_text().strip()
    create_token(state, folder, local_actor(), "viewer", name="reader", expires=None)
    assert path.exists()
    create_token(state, folder, local_actor(), "admin", name="boss", expires=None)
    assert not path.exists()
    assert state.tokens.check(text).verdict == "revoked"
    assert ensure_bootstrap(state, folder) is None
    assert list(folder.iterdir()) == []


def test_revoking_it_removes_the_file(state: State, folder: Path) -> None:
    path = ensure_bootstrap(state, folder)
    assert path is not None
    revoke_token(state, folder, local_actor(), "bootstrap")
    assert not path.exists()


def test_the_chore_removes_the_file_when_it_has_expired(state: State, folder: Path, watch: Watch) -> None:
    path = ensure_bootstrap(state, folder)
    assert path is not None
    chore = BootstrapChore(state, folder)
    assert chore.run(watch.time) == watch.time + timedelta(minutes=1)
    assert path.exists()
    watch.time += timedelta(hours=24)
    # From then on it leaves the folder alone: its mount may hang, and all other chores with it.
    assert chore.run(watch.time) == watch.time + timedelta(days=1)
    assert not path.exists()
    assert ensure_bootstrap(state, folder) is None


def test_where_a_token_was_ever_made_there_is_no_bootstrap(state: State, folder: Path) -> None:
    create_token(state, folder, local_actor(), "viewer", name="reader", expires=None)
    revoke_token(state, folder, local_actor(), "reader")
    assert ensure_bootstrap(state, folder) is None
    assert list(folder.iterdir()) == []


def test_a_file_that_can_not_be_written_leaves_no_token(state: State, folder: Path) -> None:
    with pytest.raises(StorageError, match="none was made"):
        ensure_bootstrap(state, folder / "missing")
    assert state.tokens.all() == ()
    assert ensure_bootstrap(state, folder) is not None


def test_a_link_in_its_place_leads_nowhere(state: State, folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / FILE).symlink_to(victim)
    path = ensure_bootstrap(state, folder)
    assert path is not None and not path.is_symlink()
    assert victim.read_text() == "mine"


def test_a_start_that_died_before_the_token_counted_is_made_up_for(folder: Path, tmp_path: Path) -> None:
    state_path = tmp_path / "state.sqlite"
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom resurgam.catalog.state import State\n"
        "from resurgam.operations import access\nreal = access._write\n"
        "def write(path, text):\n    real(path, text)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"access._write = write\nstate = State.open(Path({str(state_path)!r}))\n"
        f"access.ensure_bootstrap(state, Path({str(folder)!r}))\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    dead = (folder / FILE).read_text().strip()
    with State.open(state_path) as state:
        assert state.tokens.check(dead).verdict == "wrong"
        path = ensure_bootstrap(state, folder)
        assert path is not None
        assert state.tokens.check(path.read_text().strip()).verdict == "good"


def test_services_that_start_together_make_one_and_its_file_holds_it(folder: Path, tmp_path: Path) -> None:
    state_path = tmp_path / "state.sqlite"
    State.open(state_path).close()
    code = (
        "from pathlib import Path\nfrom resurgam.catalog.state import State\n"
        "from resurgam.operations.access import ensure_bootstrap\n"
        f"print(ensure_bootstrap(State.open(Path({str(state_path)!r})), Path({str(folder)!r})))\n"
    )
    starts = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    told = [start.communicate(timeout=60)[0].strip() for start in starts]
    assert sorted(told) == sorted(["None"] * 5 + [os.fspath(folder / FILE)])
    with State.open(state_path) as state:
        assert len(state.tokens.all()) == 1
        assert state.tokens.check((folder / FILE).read_text().strip()).verdict == "good"
