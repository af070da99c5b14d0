"""Alerts and channels in the state: one of many tells, and no URL is kept."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resurgam.catalog.alerts import Alert
from resurgam.catalog.state import State

MOMENT = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
ALERT = Alert("job:backup", "error", "no café \udce9", MOMENT, MOMENT, 1)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state.sqlite") as opened:
        yield opened


def test_one_of_many_replaces(tmp_path: Path, state: State) -> None:
    """Eight openings of one file, as of eight processes."""

    def raise_it(number: int) -> bool:
        with State.open(tmp_path / "state.sqlite") as own:
            return own.alerts.replace("k", None, replace(ALERT, key="k", message=f"{number}"))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(raise_it, range(8))) == 1


def test_rows(state: State) -> None:
    kept = replace(ALERT, message="no café \\udce9")
    assert state.alerts.replace(ALERT.key, None, ALERT)
    assert state.alerts.get(ALERT.key) == kept
    assert not state.alerts.replace(ALERT.key, None, ALERT)
    again = replace(kept, count=2)
    assert state.alerts.replace(ALERT.key, kept, again)
    health = replace(ALERT, key="health:no_backup", message="m")
    assert state.alerts.replace(health.key, None, health)
    assert state.alerts.of("health:") == (health,)
    assert not state.alerts.replace(ALERT.key, kept, None)
    assert state.alerts.replace(ALERT.key, again, None)
    assert state.alerts.get(ALERT.key) is None


def test_channels(state: State) -> None:
    state.channels.note("a#1", "json://h")
    state.channels.note("b#2", "slack://…", "refused")
    first, second = state.channels.all()
    assert (first.label, first.problem, first.failed_at) == ("json://h", "", None) and first.ok_at is not None
    assert (second.problem, second.ok_at) == ("refused", None) and second.failed_at is not None
    state.channels.note("b#2", "slack://…")
    later = state.channels.all()[1]
    assert later.problem == "" and later.failed_at == second.failed_at and later.ok_at is not None
