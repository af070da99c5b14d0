"""When people are told: against a model that knows only what a reader would want."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from resurgam.catalog.alerts import Alert
from resurgam.policy.alerts import RETRY, Trouble, decide, undelivered
from resurgam.settings.service_model import SEVERITIES, Severity

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = 86400.0


def alert(severity: Severity = "warning", count: int = 1, message: str = "x") -> Alert:
    return Alert("k", severity, message, START, START, count)


@pytest.mark.parametrize(
    ("known", "trouble", "hours", "repeat", "telling"),
    [
        (None, None, 0.0, DAY, None),
        (None, Trouble("warning", "x"), 0.0, DAY, "raised"),
        (alert(), Trouble("warning", "x"), 1.0, DAY, None),
        (alert(), Trouble("warning", "other figures"), 1.0, DAY, None),
        (alert(), Trouble("warning", "another reason", by_message=True), 1.0, DAY, "raised"),
        (alert(), Trouble("error", "x"), 1.0, DAY, "escalated"),
        (alert("error"), Trouble("warning", "x"), 1.0, DAY, None),
        (alert(), Trouble("warning", "x"), 23.9, DAY, "repeated"),
        (alert(), Trouble("warning", "x"), 22.0, DAY, None),
        (alert(), Trouble("warning", "x"), 9000.0, None, None),
        (alert(), Trouble("warning", "x"), -1.0, DAY, "repeated"),  # the clock was set back
        (alert(), None, 1.0, DAY, "recovered"),
        (alert(count=0), None, 1.0, DAY, None),
        (alert(count=0), Trouble("warning", "x"), 0.1, None, None),
        (alert(count=0), Trouble("warning", "x"), 0.2, None, "raised"),
    ],
)
def test_each_case(
    known: Alert | None, trouble: Trouble | None, hours: float, repeat: float | None, telling: str | None
) -> None:
    decision = decide("k", known, trouble, START + timedelta(hours=hours), repeat)
    assert decision.telling == telling
    assert (decision.next is None) == (trouble is None)
    if telling is None and trouble is not None:
        assert decision.next == known


class Told(RuleBasedStateMachine):
    """`heard` is what a reader believes: the severity last heard of, None if all is well; `at`: when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.row: Alert | None = None
        self.heard: Severity | None = None
        self.at = START
        self.tried: datetime | None = None

    @rule(
        severity=st.sampled_from((None, *SEVERITIES)),
        arrives=st.booleans(),
        minutes=st.integers(0, 3000),
        repeats=st.booleans(),
    )
    def look(self, severity: Severity | None, arrives: bool, minutes: int, repeats: bool) -> None:
        self.now += timedelta(minutes=minutes)
        repeat = DAY if repeats else None
        trouble = None if severity is None else Trouble(severity, f"{minutes}")
        decision = decide("k", self.row, trouble, self.now, repeat)
        assert decision.previous == self.row
        self.row = decision.next
        if severity is None:
            assert (decision.telling == "recovered") == (self.heard is not None)
            assert self.row is None
            self.heard = self.tried = None
            return
        rank = SEVERITIES.index
        if self.heard is None:
            pending = self.tried is not None and self.now - self.tried < RETRY
            must, may = not pending, True
        else:
            age = (self.now - self.at).total_seconds()
            must = rank(severity) > rank(self.heard) or (repeats and age >= DAY)
            may = must or (repeats and age >= 0.95 * DAY)
        assert decision.telling is not None if must else may or decision.telling is None
        if decision.telling is None:
            return
        assert self.row is not None and self.row.sent_at == self.now
        if arrives:
            self.heard, self.at, self.tried = severity, self.now, None
        else:
            self.row, self.heard, self.tried = undelivered(self.row), None, self.now

    @precondition(lambda self: self.row is not None)
    @rule()
    def the_first_moment_is_kept(self) -> None:
        assert self.row is not None
        assert self.row.since <= self.row.sent_at


TestTold = Told.TestCase
TestTold.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
