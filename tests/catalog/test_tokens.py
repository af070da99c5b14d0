"""Tokens: shown once, stored as a digest, and counted only while they are active."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resurgam.catalog.roles import ROLES, covers
from resurgam.catalog.state import State
from resurgam.errors import NotFoundError, UsageError


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def state(tmp_path: Path, watch: Watch) -> Iterator[State]:
    with State.open(tmp_path / "state.sqlite", clock=watch) as opened:
        yield opened


def test_a_token_counts_and_its_text_is_nowhere(state: State, tmp_path: Path) -> None:
    text, made = state.tokens.create("ci", "viewer", timedelta(days=90))
    assert text.startswith(f"rsg_{made.id}_")
    secret = text.rpartition("_")[2]
    assert len(bytes.fromhex(secret)) == 32
    checked = state.tokens.check(text)
    assert (checked.verdict, checked.token and checked.token.role) == ("good", "viewer")
    state.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made.id.encode() in stored
    assert secret.encode() not in stored
    assert bytes.fromhex(secret) not in stored


def test_no_two_tokens_are_alike(state: State) -> None:
    texts = {state.tokens.create(f"n{number}", "viewer", None)[0] for number in range(50)}
    assert len({text.rpartition("_")[2] for text in texts}) == 50


def test_what_does_not_count_and_why(state: State, watch: Watch) -> None:
    text, made = state.tokens.create("ci", "operator", timedelta(hours=1))
    other, _ = state.tokens.create("other", "admin", None)
    secret, other_secret = text.rpartition("_")[2], other.rpartition("_")[2]
    last = "0" if secret[-1] != "0" else "1"
    wrong = [text[:-1] + last, f"rsg_{made.id}_{other_secret}", f"rsg_{'0' * 12}_{secret}"]
    assert {state.tokens.check(one).verdict for one in wrong} == {"wrong"}
    malformed = ["", "rsg_", text[:-1], text + "0", text.upper(), f" {text}", f"{text}\n", "rsg_\udce9", "x" * 10_000]
    assert {state.tokens.check(one).verdict for one in malformed} == {"malformed"}
    watch.time += timedelta(minutes=59, seconds=59)
    assert state.tokens.check(text).verdict == "good"
    watch.time += timedelta(seconds=1)
    expired = state.tokens.check(text)
    assert (expired.verdict, expired.token and expired.token.name) == ("expired", "ci")
    state.tokens.revoke(made.id)
    assert state.tokens.check(text).verdict == "revoked"
    assert state.tokens.check(other).verdict == "good"


def test_revoked_by_id_or_by_the_name_of_the_active_one(state: State, watch: Watch) -> None:
    old, first = state.tokens.create("ci", "viewer", timedelta(hours=1))
    watch.time += timedelta(hours=2)
    new, second = state.tokens.create("ci", "viewer", None)
    assert state.tokens.revoke("ci").id == second.id
    assert state.tokens.check(new).verdict == "revoked"
    assert state.tokens.revoke(first.id).revoked_at == watch.time
    assert state.tokens.check(old).verdict == "revoked"
    ended = state.tokens.revoke(second.id).revoked_at
    watch.time += timedelta(hours=1)
    assert state.tokens.revoke(second.id).revoked_at == ended
    with pytest.raises(NotFoundError, match="no token nobody"):
        state.tokens.revoke("nobody")
    assert [token.status(watch.time) for token in state.tokens.all()] == ["revoked", "revoked"]


def test_names_and_durations_that_are_refused(state: State) -> None:
    state.tokens.create("ci", "viewer", None)
    with pytest.raises(UsageError, match="an active token ci"):
        state.tokens.create("ci", "admin", None)
    for name in ("", " x", "a\nb", "a/b", "x" * 65, "é", "bootstrap", "0123456789ab", "\x1b[2J"):
        with pytest.raises(UsageError, match="name"):
            state.tokens.create(name, "viewer", None)
    for expires in (timedelta(0), timedelta(seconds=-1), timedelta(days=40_000)):
        with pytest.raises(UsageError, match="100 years"):
            state.tokens.create("other", "viewer", expires)
    assert [token.name for token in state.tokens.all()] == ["ci"]


def test_the_last_use_is_written_once_a_minute(state: State, watch: Watch, tmp_path: Path) -> None:
    text, _ = state.tokens.create("ci", "viewer", None)

    def used() -> datetime | None:
        return state.tokens.all()[0].used_at

    def changes() -> int:
        return int(state._access.database._raw.total_changes)

    assert used() is None
    first = watch.time
    state.tokens.check(text)
    assert used() == first
    before = changes()
    for _ in range(59):
        watch.time += timedelta(seconds=1)
        state.tokens.check(text)
    assert (used(), changes()) == (first, before)
    watch.time += timedelta(seconds=1)
    state.tokens.check(text)
    assert used() == watch.time


def test_on_a_full_disk_a_token_still_counts(state: State) -> None:
    text, _ = state.tokens.create("ci", "admin", None)
    database = state._access.database
    database._raw.execute("PRAGMA query_only = ON")  # what a full disk does to a write, without a disk to fill
    assert state.tokens.check(text).verdict == "good"


def test_the_bootstrap_token_is_made_once_and_an_admins_token_ends_it(state: State, watch: Watch) -> None:
    shown: list[str] = []
    made = state.tokens.create_bootstrap(timedelta(hours=24), shown.append)
    assert made is not None and made.role == "admin"
    assert state.tokens.create_bootstrap(timedelta(hours=24), shown.append) is None
    (text,) = shown
    assert state.tokens.check(text).verdict == "good"
    state.tokens.create("reader", "viewer", None)
    assert state.tokens.check(text).verdict == "good"
    state.tokens.create("boss", "admin", None)
    assert state.tokens.check(text).verdict == "revoked"
    assert state.tokens.create_bootstrap(timedelta(hours=24), shown.append) is None


def test_a_bootstrap_token_that_could_not_be_delivered_is_none(state: State) -> None:
    def fail(text: str) -> None:
        raise UsageError("no")

    with pytest.raises(UsageError):
        state.tokens.create_bootstrap(timedelta(hours=24), fail)
    assert state.tokens.all() == ()


def test_many_threads_may_check_at_once(state: State) -> None:
    text, _ = state.tokens.create("ci", "viewer", None)
    verdicts: list[str] = []

    def check() -> None:
        verdicts.extend(state.tokens.check(text).verdict for _ in range(20))

    threads = [threading.Thread(target=check) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == ["good"] * 160


def test_a_digest_that_someone_altered_lets_nobody_in(state: State, tmp_path: Path) -> None:
    text, made = state.tokens.create("ci", "viewer", None)
    with sqlite3.connect(tmp_path / "state.sqlite") as raw:
        raw.execute("UPDATE tokens SET digest = '' WHERE id = ?", (made.id,))
    raw.close()
    assert state.tokens.check(text).verdict == "wrong"


def test_each_role_may_what_those_before_it_may() -> None:
    assert ROLES == ("viewer", "operator", "admin")
    assert [[covers(role, needed) for needed in ROLES] for role in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert not any(covers(None, needed) for needed in ROLES)
