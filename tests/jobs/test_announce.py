"""Who is told of what: by real servers, from real jobs and backups; whatever a channel does, nothing fails for it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resurgam.catalog.jobs import Job, Outcome
from resurgam.catalog.state import State
from resurgam.errors import SettingsError, StateError
from resurgam.jobs.announce import Announcer, HealthWatch
from resurgam.policy.health import HealthFacts, HealthLimits, HealthReport, assess
from resurgam.policy.health_facts import Disk
from resurgam.runlog import RunLog
from resurgam.settings.secret import Secret
from resurgam.settings.service_model import Channel, Messages, Severity
from tests.notify.servers import Web, closed_port, deaf_port, web_server

PLANTED = "planted-Secret"


@dataclass
class Watch:
    """A clock that a test sets; durations are real."""

    time: datetime = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Stage:
    """An announcer with a state and a log of its own."""

    folder: Path
    state: State
    clock: Watch = field(default_factory=Watch)

    @property
    def log(self) -> RunLog:
        return RunLog(self.folder / "backup.log", self.clock)

    def announcer(self, *channels: Channel, ping: str | None = None) -> Announcer:
        messages = Messages(channels, 86400.0, None if ping is None else Secret(ping))
        return Announcer(self.state, messages, "radiology", self.log, self.clock, dict(os.environ))

    def job(self, outcome: Outcome, reason: str = "", kind: str = "backup", hint: str = "") -> Job:
        number = self.state.jobs.begin(kind, "radiology")
        details = {"code": "storage", "hint": hint} if outcome == "failed" else {}
        self.state.jobs.finish(number, outcome, reason, details)
        return self.state.jobs.get(number)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    clock = Watch()
    with State.open(tmp_path / "state.sqlite", clock=clock) as state:
        yield Stage(tmp_path, state, clock)


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server


def to(web: Web, least: Severity = "warning", events: frozenset[str] | None = None) -> Channel:
    return Channel(Secret(f"json://u:{PLANTED}@{web.place}/{PLANTED}"), least, events)


def told(web: Web) -> list[tuple[str, str]]:
    """Types and titles, in order; and they are forgotten."""
    found = [json.loads(one.body) for one in web.seen]
    web.seen.clear()
    return [(one["type"], one["title"]) for one in found]


def test_a_failure_is_told_with_all_that_helps(stage: Stage, web: Web) -> None:
    stage.announcer(to(web)).ended(stage.job("failed", "The disk is full; nothing was published.", hint="Make room."))
    (seen,) = web.seen
    body = json.loads(seen.body)["message"]
    for part in (
        "The disk is full; nothing was published.",
        "What to do: Make room.",
        "radiology",
        os.uname().nodename,
    ):
        assert part in body
    assert "Job 1" in body and f"{stage.clock.time.astimezone():%Y-%m-%d %H:%M:%S %Z}" in body
    assert PLANTED not in body


def test_failures_repeat_daily_and_another_reason_at_once_and_the_end_is_told(stage: Stage, web: Web) -> None:
    announcer = stage.announcer(to(web))
    failed = [("failure", "radiology: backup failed")]
    hourly: list[tuple[Outcome, str, list[tuple[str, str]]]] = [
        ("failed", "no room", failed),
        ("failed", "no room", []),
        ("failed", "no server", failed),
        ("refused", "busy", []),
        ("failed", "no server", []),
    ]
    for outcome, reason, wanted in hourly:
        announcer.ended(stage.job(outcome, reason))
        stage.clock.sleep(3600)
        assert told(web) == wanted
    stage.clock.sleep(86400)
    announcer.ended(stage.job("failed", "no server"))
    assert "This was told before, and lasts." in json.loads(web.seen[0].body)["message"]
    assert told(web) == failed
    announcer.ended(stage.job("cancelled"))
    assert told(web) == []
    announcer.ended(stage.job("ok"))
    assert told(web) == [("success", "radiology: backup succeeded")]
    announcer.ended(stage.job("ok"))
    assert told(web) == []


def test_kinds_are_apart(stage: Stage, web: Web) -> None:
    announcer = stage.announcer(to(web))
    announcer.ended(stage.job("failed", "flipped bits", kind="verify"))
    announcer.ended(stage.job("ok"))
    assert told(web) == [("failure", "radiology: verify failed")]


def test_channels_get_what_they_are_for(stage: Stage) -> None:
    with web_server() as all_of_it, web_server() as errors, web_server() as restores:
        announcer = stage.announcer(
            to(all_of_it, "info"), to(errors, "error"), to(restores, "info", frozenset({"restore"}))
        )
        for outcome, reason, kind in (
            ("ok", "", "backup"),
            ("degraded", "no copy", "backup"),
            ("cancelled", "x", "backup"),
            ("ok", "", "restore"),
        ):
            announcer.ended(stage.job(outcome, reason, kind))  # type: ignore[arg-type]
        announcer.ended(stage.job("failed", "no server"))
        assert [kind for kind, _ in told(all_of_it)] == ["info", "warning", "info", "info", "failure"]
        assert [kind for kind, _ in told(errors)] == ["failure"]
        assert told(restores) == [("info", "radiology: restore succeeded")]


def test_a_message_that_reached_nobody_is_told_again_soon(stage: Stage) -> None:
    with web_server(statuses=[500, 500, 200]) as web:
        announcer = stage.announcer(to(web))
        announcer.ended(stage.job("failed", "no room"))
        (record,) = stage.state.channels.all()
        assert (record.label, record.problem) == (
            "json://127.0.0.1",
            "it answered with status 500 (Internal Server Error)",
        )
        announcer.ended(stage.job("failed", "no room"))
        assert len(web.seen) == 1
        for _ in range(3):
            stage.clock.sleep(660)
            announcer.ended(stage.job("failed", "no room"))
        assert len(web.seen) == 3
        assert stage.state.channels.all()[0].problem == ""


# The switch


def test_what_the_switch_hears(stage: Stage, web: Web) -> None:
    announcer = stage.announcer(ping=f"http://{web.place}/{PLANTED}?rid=1")
    for outcome in ("ok", "failed", "degraded", "cancelled", "refused"):
        announcer.started("backup", "radiology")
        announcer.ended(stage.job(outcome, "why"))
        heard = [path.removeprefix(f"/{PLANTED}").removesuffix("?rid=1") for path in web.paths()]
        wanted = {"ok": ["/start", ""], "refused": ["/start"]}.get(outcome, ["/start", "/fail"])
        assert heard == wanted
        web.seen.clear()
    announcer.started("verify", "all")
    announcer.ended(stage.job("ok", kind="verify"))
    assert web.seen == []
    announcer.died(stage.job("failed", "Its process ended without a word."))
    assert [(one.path, one.body) for one in web.seen] == [
        (f"/{PLANTED}/fail?rid=1", "radiology: backup failed: Its process ended without a word.")
    ]


# Health


def report(*, free: int = 900, enabled: bool = True, now: datetime) -> HealthReport:
    """No backup yet, and so much of 1000 bytes free."""
    facts = HealthFacts("radiology", enabled, "/b", 30, 10, disk=Disk(free, 1000))
    return assess(facts, HealthLimits(), now)


def test_health_tells_each_reason_once_and_its_end(stage: Stage, web: Web) -> None:
    announcer = stage.announcer(to(web))
    announcer.health(report(now=stage.clock.now()))
    assert told(web) == [("failure", "radiology: 1 finding of health (error)")]
    for _ in range(5):
        stage.clock.sleep(60)
        announcer.health(report(now=stage.clock.now()))
    assert web.seen == []
    announcer.health(report(free=1, now=stage.clock.now()))
    assert told(web) == [("warning", "radiology: 1 finding of health (warning)")]
    announcer.health(report(enabled=False, now=stage.clock.now()))
    assert web.seen == []
    stage.clock.sleep(1800)
    announcer.health(report(now=stage.clock.now()))
    assert told(web) == [("success", "radiology: 1 finding of health over")]
    stage.clock.sleep(86400)
    announcer.health(report(free=1, now=stage.clock.now()))
    (seen,) = web.seen
    said = json.loads(seen.body)
    assert said["title"] == "radiology: 2 findings of health (error)"
    assert "Still: There is no backup" in said["message"]


@pytest.mark.parametrize("arrived", [True, False])
def test_health_tells_of_a_failure_that_the_job_could_not_tell_of(stage: Stage, web: Web, arrived: bool) -> None:
    job = stage.job("failed", "pg_dump failed.")
    stage.announcer(to(web) if arrived else to(Web(closed_port()))).ended(job)
    web.seen.clear()
    facts = HealthFacts("radiology", True, "/b", 30, 10, last_backups=stage.state.history.last("backup", ("failed",)))
    stage.announcer(to(web)).health(assess(facts, HealthLimits(), stage.clock.now()))
    (seen,) = web.seen
    assert ("pg_dump failed." in seen.body) is not arrived


def test_what_swings_about_its_limit_does_not_flood_anybody(stage: Stage, web: Web) -> None:
    announcer = stage.announcer(to(web))
    announcer.health(report(now=stage.clock.now()))
    web.seen.clear()
    for minute in range(60):
        announcer.health(report(free=199 if minute % 2 == 0 else 201, now=stage.clock.now()))
        stage.clock.sleep(60)
    assert 2 <= len(web.seen) <= 4
    stage.clock.sleep(1800)
    announcer.health(report(now=stage.clock.now()))
    assert told(web)[-1] == ("success", "radiology: 1 finding of health over")


def test_two_services_tell_once(stage: Stage, web: Web) -> None:
    with State.open(stage.folder / "state.sqlite", clock=stage.clock) as other:
        for state in (stage.state, other):
            Stage(stage.folder, state, stage.clock).announcer(to(web)).health(report(now=stage.clock.now()))
    assert len(web.seen) == 1


def test_a_state_that_can_not_be_written_is_told_of_once(
    stage: Stage, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise StateError("The disk is full.")

    monkeypatch.setattr(stage.state.alerts, "replace", full)
    monkeypatch.setattr(stage.state.channels, "note", full)
    announcer = stage.announcer(to(web))
    for _ in range(3):
        announcer.health(report(now=stage.clock.now()))
    assert len(told(web)) == 1


def test_the_watch_looks_every_minute(stage: Stage, web: Web) -> None:
    class Ill:
        def health(self) -> HealthReport:
            return report(now=stage.clock.now())

    now = stage.clock.now()
    assert HealthWatch(Ill(), stage.announcer(to(web))).run(now) == now + timedelta(minutes=1)
    assert len(web.seen) == 1


# Tests, hangs, secrets


def test_a_test_goes_to_everybody_and_the_switch_is_left_alone(stage: Stage, web: Web) -> None:
    gone = Channel(Secret(f"json://u:{PLANTED}@127.0.0.1:{closed_port()}"), "error", frozenset({"restore"}))
    found = stage.announcer(to(web, "error"), gone, ping=f"http://{web.place}/ping").test()
    assert [one.ok for one in found] == [True, False, None]
    assert web.paths() == [f"/{PLANTED}"]
    assert [record.problem for record in stage.state.channels.all()].count("") == 1
    with pytest.raises(SettingsError, match="no channel"):
        stage.announcer().test()


def test_one_event_is_over_in_time_whatever_hangs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resurgam.jobs.announce.SEND_SECONDS", 1.0)
    monkeypatch.setattr("resurgam.jobs.announce._PING_WAIT", 1.2)
    monkeypatch.setattr("resurgam.jobs.announce._HURRIED", 0.5)
    with deaf_port() as deaf:
        mail = Channel(Secret(f"mailto://u:{PLANTED}@127.0.0.1:{deaf}/?to=a@example.com&from=b@example.com"))
        announcer = stage.announcer(mail, ping=f"http://127.0.0.1:{deaf}/{PLANTED}")
        for outcome, most in (("failed", 2.0), ("cancelled", 1.0)):
            began = time.monotonic()
            announcer.ended(stage.job(outcome, "why"))  # type: ignore[arg-type]
            assert time.monotonic() - began < most
    assert {record.problem for record in stage.state.channels.all()} == {"it did not answer in time"}
    log = (stage.folder / "backup.log").read_text()
    assert log.count(" WARNING ") == 3 and "mailto://127.0.0.1" in log
    for path in stage.folder.iterdir():
        assert PLANTED.encode() not in path.read_bytes(), path
