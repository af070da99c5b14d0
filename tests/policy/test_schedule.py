"""When scheduled tasks run: days on which the clock is set, by hand; what must hold for any schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resurgam.policy.schedule import LATE, Plan, blackout_end
from resurgam.settings.service_model import Window

DAYS = frozenset(range(7))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ZONES = ("Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "America/Santiago", "Asia/Beirut", "UTC")
CRONS = ("0 2 * * *", "30 2 * * 1-5", "*/20 * * * *", "15 */6 * * *", "0 0 1 * *", "7,37 0-23 * * 0", "59 23 * * *")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def plan(
    cron: str,
    zone: str = "Europe/Berlin",
    jitter: timedelta = timedelta(0),
    catch_up: timedelta = DAY,
    blackout: tuple[Window, ...] = (),
    app: str = "radiology",
) -> Plan:
    return Plan("backup", cron, ZoneInfo(zone), app, jitter, catch_up, blackout)


def walls(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The next slots after a moment of UTC, as the clock on the wall shows them."""
    found = islice(plan(cron, zone).slots(utc(after)), count)
    return [f"{slot.astimezone(ZoneInfo(zone)):%m-%d %H:%M %z}" for slot in found]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # Spring: what is skipped runs when the gap ends, once.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
        ("0,30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-29 03:30 +0200"]),
        ("30 2 * * *", "America/St_Johns", "2026-03-07T12:00", ["03-08 03:00 -0230", "03-09 02:30 -0230"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T02:00", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
        ("0 0 * * *", "America/Santiago", "2026-09-05T12:00", ["09-06 01:00 -0300", "09-07 00:00 -0300"]),
        # Autumn: what comes twice runs the first time only.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("0 */2 * * *", "Europe/Berlin", "2026-10-24T23:00", ["10-25 02:00 +0200", "10-25 04:00 +0100"]),
        ("*/30 1 * * *", "America/St_Johns", "2026-11-01T00:00", ["11-01 01:00 -0230", "11-01 01:30 -0230"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T02:00", ["04-05 01:45 +1100", "04-06 01:45 +1030"]),
        # With every hour it goes by time that passes: none is left out, none comes twice.
        ("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", ["10-25 02:00 +0200", "10-25 02:00 +0100"]),
        ("0 0-23 * * *", "Europe/Berlin", "2026-10-24T23:30", ["10-25 02:00 +0200", "10-25 02:00 +0100"]),
        ("0 * * * *", "Europe/Berlin", "2026-03-29T00:30", ["03-29 03:00 +0200", "03-29 04:00 +0200"]),
        ("15 * * * *", "Australia/Lord_Howe", "2026-10-03T14:50", ["10-04 03:15 +1100", "10-04 04:15 +1100"]),
    ],
)
def test_days_on_which_the_clock_is_set(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert walls(cron, zone, after, 2) == expected


def test_no_run_comes_again_in_the_hour_that_comes_again() -> None:
    nightly = plan("30 2 * * *")
    first = utc("2026-10-25T00:30")
    assert nightly.latest_slot(utc("2026-10-25T01:29")) == first
    assert nightly.due(utc("2026-10-25T01:30"), since=first) is None
    assert nightly.next_slot(first) == utc("2026-10-26T01:30")


@given(st.sampled_from(ZONES), st.integers(0, 23), st.integers(0, 59), st.integers(2024, 2030))
@settings(max_examples=60, deadline=None)
def test_a_daily_slot_comes_once_a_day_at_its_time_or_when_the_gap_ends(
    zone: str, hour: int, minute: int, year: int
) -> None:
    here = ZoneInfo(zone)
    start = datetime(year, 1, 1, tzinfo=UTC)
    slots = list(takewhile(lambda slot: slot < start + 365 * DAY, plan(f"{minute} {hour} * * *", zone).slots(start)))
    dates = [slot.astimezone(here).date() for slot in slots]
    assert all(after - before == DAY for before, after in pairwise(dates))
    for slot in slots:
        wall = slot.astimezone(here)
        if (wall.hour, wall.minute) != (hour, minute):
            before = (slot - timedelta(seconds=1)).astimezone(here)
            assert before.utcoffset() != wall.utcoffset(), "a gap has just ended"
            assert (before.hour, before.minute) < (hour, minute) or before.date() < wall.date()
        assert wall.fold == 0


@given(
    st.sampled_from(ZONES),
    st.sampled_from(CRONS),
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
)
@settings(max_examples=200, deadline=None)
def test_slots_are_the_same_from_wherever_one_looks(zone: str, cron: str, moment: datetime) -> None:
    some = plan(cron, zone)
    latest, following = some.latest_slot(moment), some.next_slot(moment)
    assert latest is not None and following is not None and latest <= moment < following
    assert some.next_slot(latest) == following
    assert some.latest_slot(following - timedelta(microseconds=1)) == latest


def test_a_leap_day_is_found_years_back() -> None:
    assert plan("0 0 29 2 *", "UTC").latest_slot(utc("2031-12-01T00:00")) == utc("2028-02-29T00:00")


@given(
    st.sampled_from(ZONES),
    st.sampled_from(CRONS),
    st.timedeltas(timedelta(0), timedelta(hours=8)),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC)),
)
@settings(max_examples=100, deadline=None)
def test_jitter_is_the_same_everywhere_and_ends_before_the_next_slot(
    zone: str, cron: str, jitter: timedelta, moment: datetime
) -> None:
    ours, again = plan(cron, zone, jitter), plan(cron, zone, jitter)
    slot = ours.next_slot(moment)
    assert slot is not None
    start, following = ours.start(slot), ours.next_slot(slot)
    assert start is not None and following is not None and start == again.start(slot)
    assert timedelta(0) <= start.jitter <= jitter
    assert slot <= start.at < following


def test_jitter_spreads_applications() -> None:
    slot = utc("2026-05-01T00:00")
    starts = {plan("0 2 * * *", jitter=HOUR, app=f"app{number}").start(slot) for number in range(50)}
    assert len(starts) > 40


WORKDAY = Window(frozenset(range(5)), 7 * 60 + 30, 18 * 60)


@pytest.mark.parametrize(
    ("windows", "moment", "end"),
    [
        ((WORKDAY,), "2026-11-23T07:29", "2026-11-23T07:29"),
        ((WORKDAY,), "2026-11-23T07:30", "2026-11-23T18:00"),
        ((WORKDAY,), "2026-11-23T18:00", "2026-11-23T18:00"),
        ((WORKDAY,), "2026-11-22T12:00", "2026-11-22T12:00"),  # a Sunday
        # Over midnight it belongs to the day on which it begins.
        ((Window(frozenset({4}), 22 * 60, 6 * 60),), "2026-11-28T05:59", "2026-11-28T06:00"),
        ((Window(frozenset({5}), 22 * 60, 6 * 60),), "2026-11-28T05:59", "2026-11-28T05:59"),
        # Adjoining, overlapping, and one within another.
        ((WORKDAY, Window(DAYS, 18 * 60, 1440), Window(DAYS, 0, 60)), "2026-11-23T08:00", "2026-11-24T01:00"),
        ((WORKDAY, Window(DAYS, 17 * 60, 19 * 60), Window(DAYS, 8 * 60, 540)), "2026-11-23T08:30", "2026-11-23T19:00"),
    ],
)
def test_blackouts(windows: tuple[Window, ...], moment: str, end: str) -> None:
    assert blackout_end(utc(moment), windows, ZoneInfo("UTC")) == utc(end)


@pytest.mark.parametrize(
    ("window", "moment", "end"),
    [
        # 02:00-02:30 on the night when 02:00-03:00 comes twice: both times, and what lies between.
        (Window(DAYS, 120, 150), "2026-10-25T00:10", "2026-10-25T01:30"),
        (Window(DAYS, 120, 150), "2026-10-25T00:45", "2026-10-25T01:30"),
        # On the night when they are skipped there is no such window; one that ends there ends with the gap.
        (Window(DAYS, 120, 150), "2026-03-29T01:00", "2026-03-29T01:00"),
        (Window(DAYS, 60, 150), "2026-03-29T00:30", "2026-03-29T01:00"),
    ],
)
def test_blackouts_when_the_clock_is_set(window: Window, moment: str, end: str) -> None:
    assert blackout_end(utc(moment), (window,), ZoneInfo("Europe/Berlin")) == utc(end)


@pytest.mark.parametrize("windows", [(Window(DAYS, 0, 1440),), (Window(DAYS, 0, 720), Window(DAYS, 720, 1440))])
def test_a_permanent_blackout_ends_the_search_not_the_program(windows: tuple[Window, ...]) -> None:
    never = plan("* * * * *", blackout=windows, jitter=HOUR)
    now = utc("2026-11-23T12:00")
    assert blackout_end(now, windows, ZoneInfo("UTC")) is None
    assert never.due(now, now - DAY) is None
    assert never.next_start(now, now - DAY) is None


def test_what_is_due_within_a_blackout_starts_once_at_its_end() -> None:
    hourly = plan("0 * * * *", "UTC", blackout=(WORKDAY,))
    before = utc("2026-11-23T07:00")
    for minute in range(8 * 60, 18 * 60):
        now = utc("2026-11-23T00:00") + timedelta(minutes=minute)
        assert hourly.due(now, before) is None
        start = hourly.next_start(now, before)
        assert start is not None and start.at == utc("2026-11-23T18:00")
    assert hourly.due(utc("2026-11-23T18:00"), before) == utc("2026-11-23T18:00")
    jittered = plan("0 * * * *", "UTC", blackout=(WORKDAY,), jitter=HOUR)
    starts = {jittered.start(utc(f"2026-11-23T{hour:02}:00")).at for hour in range(8, 19)}  # type: ignore[union-attr]
    assert len(starts) == 1 and utc("2026-11-23T18:00") <= starts.pop() < utc("2026-11-23T19:00")


def test_catch_up_takes_the_latest_missed_slot_if_it_is_not_too_old() -> None:
    nightly, now = plan("0 2 * * *", "UTC", catch_up=timedelta(hours=6)), utc("2026-11-23T08:00")
    long_ago = now - 30 * DAY
    assert nightly.due(now, long_ago) == utc("2026-11-23T02:00")
    assert nightly.due(now + timedelta(seconds=1), long_ago) is None
    assert nightly.due(now, utc("2026-11-23T02:00")) is None
    assert nightly.due(now, since=utc("2026-11-23T05:00")) is None, "it was scheduled after that slot"
    never = plan("0 2 * * *", "UTC", catch_up=timedelta(0))
    assert never.due(utc("2026-11-23T02:00") + LATE, long_ago) is not None
    assert never.due(utc("2026-11-23T02:01") + LATE, long_ago) is None


def test_catch_up_waits_for_the_blackouts_end() -> None:
    nightly, long_ago = plan("0 2 * * *", "UTC", blackout=(WORKDAY,)), utc("2026-11-01T00:00")
    assert nightly.due(utc("2026-11-23T08:00"), long_ago) is None
    assert nightly.due(utc("2026-11-23T18:00"), long_ago) == utc("2026-11-23T02:00")


_WINDOWS = st.builds(
    Window, st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(0, 1440)
).filter(lambda window: window.start != window.end)


@given(
    st.sampled_from(ZONES),
    st.sampled_from(CRONS),
    st.sampled_from((timedelta(0), timedelta(minutes=10), timedelta(hours=5))),
    st.lists(_WINDOWS, max_size=3).map(tuple),
    st.sampled_from(("2026-03-27T12:00", "2026-10-24T12:00", "2026-04-04T02:00", "2026-09-05T12:00")),
    st.lists(st.sampled_from((1, 1, 1, 1, 7, 400, 3000)), min_size=40, max_size=40),
)
@settings(max_examples=40, deadline=None)
def test_a_scheduler_runs_no_slot_twice_none_in_a_blackout_and_misses_none_while_it_looks(
    zone: str, cron: str, jitter: timedelta, windows: tuple[Window, ...], start: str, steps: list[int]
) -> None:
    """`steps` are the minutes between two looks; long ones are downtime."""
    some, since, now = plan(cron, zone, jitter, 400 * DAY, windows), utc(start), utc(start)
    for step in steps:
        promised = some.next_start(now, since)
        now += timedelta(minutes=step)
        slot = some.due(now, since)
        if slot is not None:
            begun = some.start(slot)
            assert begun is not None and since < slot <= begun.at <= now
            assert blackout_end(now, windows, ZoneInfo(zone)) == now
            since = slot
        elif promised is not None and promised.at <= now:
            assert blackout_end(now, windows, ZoneInfo(zone)) != now, "only a blackout may hold back what was promised"
