"""Who calls: strict headers, tokens, JWTs, and guesses that are answered late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from resurgam.api.auth import Authenticator, Caller
from resurgam.catalog.state import State
from resurgam.clock import SystemClock
from resurgam.errors import AuthError
from resurgam.runlog import RunLog
from resurgam.settings import Secret
from resurgam.settings.service_model import JwtRules
from tests.api import jwts

RULES = JwtRules(Secret(jwts.SECRET), None, "HS256", None, None, "role", "admin")
HERE = "192.0.2.1"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state.sqlite") as opened:
        yield opened


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog(tmp_path / "backup.log", SystemClock())


@pytest.fixture
def guard(state: State, log: RunLog) -> Authenticator:
    return Authenticator(state.tokens, RULES, log, SystemClock())


def caller(guard: Authenticator, header: str | None, address: str = HERE) -> Caller:
    return asyncio.run(guard.authenticate(header, address))


def refused(guard: Authenticator, header: str | None, address: str = HERE) -> str:
    with pytest.raises(AuthError) as caught:
        caller(guard, header, address)
    assert caught.value.hint
    return caught.value.message


def jwt(**changes: object) -> str:
    return jwts.by_secret({"sub": "alice", "role": "admin", "exp": int(time.time()) + 600, **changes})


def test_a_token_and_a_jwt_say_who_calls(guard: Authenticator, state: State) -> None:
    text, _ = state.tokens.create("ci", "operator", None)
    for header in (f"Bearer {text}", f"bearer {text}", f"BEARER   {text}", f" Bearer {text} "):
        assert caller(guard, header) == Caller("token:ci", "operator")
    assert caller(guard, f"Bearer {jwt()}") == Caller("jwt:alice", "admin")
    # Known, but allowed nothing: that is for the routes to answer, with 403.
    assert caller(guard, f"Bearer {jwt(role='user')}") == Caller("jwt:alice", None)


def test_without_rules_a_jwt_is_nothing(state: State, log: RunLog) -> None:
    guard = Authenticator(state.tokens, None, log, SystemClock())
    assert "no kind" in refused(guard, f"Bearer {jwt()}")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YWRtaW46YWRtaW4=",
        "Token {token}",
        "{token}",
        "Bearer {token} {token}",
        "Bearer {token}, Bearer {token}",
        "Bearer {token}\n",
        "Bearer\t{token}",
        'Bearer "{token}"',
        "Bearer {token}\x00",
        "Bearer admin",
        "Bearer null",
        "Bearer rsg_",
        "Bearer {token}x",
        "Bearer rsg_é",
        "Bearer " + "a" * 10_000,
        "Bearer " + "a." * 5_000,
        "\u212aearer x",
    ],
)
def test_headers_that_hold_no_credential_are_refused_at_once(
    guard: Authenticator, state: State, header: str | None
) -> None:
    text, _ = state.tokens.create("ci", "admin", None)
    started = time.monotonic()
    for _ in range(8):
        assert refused(guard, None if header is None else header.replace("{token}", text))
    assert time.monotonic() - started < 1


def test_tokens_that_do_not_count_say_why_only_to_whoever_has_them(guard: Authenticator, state: State) -> None:
    text, made = state.tokens.create("ci", "admin", timedelta(microseconds=1))
    ended, _ = state.tokens.create("old", "admin", None)
    state.tokens.revoke("old")
    assert "has expired" in refused(guard, f"Bearer {text}")
    assert "was revoked" in refused(guard, f"Bearer {ended}")
    assert "not accepted" in refused(guard, f"Bearer rsg_{made.id}_{'0' * 64}")
    assert "not accepted" in refused(guard, f"Bearer {jwts.by_secret({}, 'another secret')}")


def test_no_answer_holds_what_was_sent(guard: Authenticator, state: State, log: RunLog) -> None:
    text, _ = state.tokens.create("ci", "admin", timedelta(microseconds=1))
    told = [refused(guard, f"Bearer {sent}") for sent in (text, f"{text}x", jwts.by_secret({}, "another"), "s3cret")]
    told.append(log.path.read_text() if log.path.exists() else "")
    assert not any(part in line for line in told for part in (text, text.rpartition("_")[2], "s3cret"))


def test_guesses_are_answered_late_and_good_credentials_never(guard: Authenticator, state: State) -> None:
    text, made = state.tokens.create("ci", "viewer", None)
    wrong = f"Bearer rsg_{made.id}_{'0' * 64}"
    forged = f"Bearer {jwts.by_secret({}, 'another secret')}"

    async def guess(header: str) -> float:
        started = time.monotonic()
        with pytest.raises(AuthError):
            await guard.authenticate(header, HERE)
        return time.monotonic() - started

    async def story() -> None:
        assert max([await guess(header) for header in (wrong, forged, wrong, forged, wrong)]) < 0.3
        # Five at once wait in one line: 0.05, 0.15, 0.35, 0.75, 1.55 seconds.
        guesses = [asyncio.create_task(guess(header)) for header in (wrong, forged, wrong, forged, wrong)]
        await asyncio.sleep(0)
        for _ in range(10):
            started = time.monotonic()
            assert (await guard.authenticate(f"Bearer {text}", HERE)).name == "token:ci"
            assert (await guard.authenticate(f"Bearer {jwt()}", HERE)).role == "admin"
            assert time.monotonic() - started < 0.3
        other = time.monotonic()
        with pytest.raises(AuthError):
            await guard.authenticate(wrong, "192.0.2.2")
        assert time.monotonic() - other < 0.3
        waits = sorted(await asyncio.gather(*guesses))
        line = (0.05, 0.15, 0.35, 0.75, 1.55)
        assert all(expected - 0.02 < wait < expected + 1 for wait, expected in zip(waits, line, strict=True))

    asyncio.run(story())
