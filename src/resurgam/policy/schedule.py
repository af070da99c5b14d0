"""When scheduled tasks run: decisions without I/O.

Rules:
1. A *slot* is a moment that the cron expression names in the schedule's zone. It is what a run is known by, whatever
   delays it. All moments are aware, in UTC.
2. An expression whose hour is limited goes by the clock on the wall: a time that summer time skips runs when the gap
   ends, one that comes twice runs the first time. With every hour (`*`, `0-23`) it goes by time that passes.
3. A run starts at its slot; within a blackout at the blackout's end. Jitter delays that by less than the time to the
   next slot, and never into a blackout. It follows from the application, the task and that moment alone, so that all
   schedulers agree, and runs that one blackout holds back become one.
4. Of the slots whose start has come only the latest counts. It is due if its start is no longer ago than `catch_up`,
   and never less than `LATE`, by which a busy machine may look late. Nothing is due within a blackout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim

from resurgam.settings.service_model import Window

LATE = timedelta(minutes=5)
# A blackout that lasts longer than this never ends: windows repeat weekly, and none is longer than a day.
_ENDLESS = timedelta(days=15)
_TICK = timedelta(microseconds=1)
# How far to look back for a slot: the first that holds one does, so that few slots are walked through. 29 February is
# eight years apart around 2100; five weeks hold every month's day that each month has.
_BACK = tuple(timedelta(days=days) for days in (1 / 24, 1, 8, 35, 367, 5 * 367, 9 * 367, 41 * 367))


@dataclass(frozen=True, slots=True)
class Start:
    """A run to come: its slot, when it starts, and how much of the delay is jitter."""

    slot: datetime
    at: datetime
    jitter: timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """One task's schedule. `cron` has five fields and names times that come; `app` tells applications' jitter apart."""

    task: str
    cron: str
    zone: ZoneInfo
    app: str
    jitter: timedelta = timedelta(0)
    catch_up: timedelta = timedelta(0)
    blackout: tuple[Window, ...] = ()

    def slots(self, after: datetime) -> Iterator[datetime]:
        """The slots later than `after`, in order, each once."""
        local, last = after.astimezone(self.zone), after
        fields = self.cron.split()
        wall = CronSim(self.cron, local.replace(tzinfo=None))
        if len(wall.hours) == 24:
            fields[1] = "*"
            wall = CronSim(" ".join(fields), local)
        for found in wall:
            moment = _first_utc(found.replace(tzinfo=None), self.zone) if found.tzinfo is None else found
            moment = moment.astimezone(UTC)
            if moment > last:
                yield moment
                last = moment

    def next_slot(self, after: datetime) -> datetime | None:
        """The first slot later than `after`."""
        return next(self.slots(after), None)

    def latest_slot(self, until: datetime) -> datetime | None:
        """The last slot not later than `until`."""
        for back in _BACK:
            latest = None
            for slot in self.slots(until - back):
                if slot > until:
                    break
                latest = slot
            if latest is not None:
                return latest
        return None

    def start(self, slot: datetime) -> Start | None:
        """When the run of that slot starts; None if a blackout that never ends holds it back."""
        opened = blackout_end(slot, self.blackout, self.zone)
        if opened is None:
            return None
        delay = self._jitter(opened)
        if blackout_end(opened + delay, self.blackout, self.zone) != opened + delay:
            delay = timedelta(0)
        return Start(slot, opened + delay, delay)

    def due(self, now: datetime, since: datetime) -> datetime | None:
        """The slot to run now. Only slots later than `since` count: the last one taken, or when this was first seen."""
        if blackout_end(now, self.blackout, self.zone) != now:
            return None
        slot = self.latest_slot(now)
        while slot is not None and slot > since:
            start = self.start(slot)
            if start is not None and start.at <= now:
                return slot if now - start.at <= max(self.catch_up, LATE) else None
            # Its jitter is not over. One before it, and before the blackout that held both back, may have been missed.
            begins = [begin for begin, until in _around(slot, self.blackout, self.zone) if begin <= slot < until]
            slot = self.latest_slot(min(begins, default=slot) - _TICK)
        return None

    def next_start(self, now: datetime, since: datetime) -> Start | None:
        """The next run that starts later than `now`, for a slot later than `since`."""
        held = self.latest_slot(now)
        if held is not None and held > since and not self._has_come(held, now):
            return self.start(held)
        following = self.next_slot(max(now, since))
        return None if following is None else self.start(following)

    def _has_come(self, slot: datetime, now: datetime) -> bool:
        start = self.start(slot)
        return start is not None and start.at <= now

    def _jitter(self, moment: datetime) -> timedelta:
        following = self.next_slot(moment) if self.jitter else None
        if following is None:
            return timedelta(0)
        key = "\0".join((self.app, self.task, moment.isoformat()))
        part = int.from_bytes(hashlib.sha256(key.encode("utf-8", "backslashreplace")).digest()[:6], "big")
        # Whole seconds, rounded down, so that it stays below the next slot.
        return timedelta(seconds=int(min(self.jitter, following - moment).total_seconds() * part / (1 << 48)))


def blackout_end(moment: datetime, windows: tuple[Window, ...], zone: tzinfo) -> datetime | None:
    """The moment itself where it lies in no window, else when the last of those that adjoin ends; None if never."""
    end, limit = moment, moment + _ENDLESS
    while end < limit:
        later = max((until for begin, until in _around(end, windows, zone) if begin <= end < until), default=end)
        if later == end:
            return end
        end = later
    return None


def _around(moment: datetime, windows: tuple[Window, ...], zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
    """The windows of the days about a moment, from and until, in UTC."""
    midnight = moment.astimezone(zone).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    for day in (midnight + timedelta(days=number) for number in (-1, 0)):
        for window in windows:
            if day.weekday() in window.days:
                over = timedelta(days=1) if window.end <= window.start else timedelta(0)
                until = day + over + timedelta(minutes=window.end)
                # Where the clock is put back within it, from the first such time until the second.
                yield _first_utc(day + timedelta(minutes=window.start), zone), _last_utc(until, zone)


def _first_utc(wall: datetime, zone: tzinfo) -> datetime:
    """When the clock on the wall first shows that time, or, where it is skipped, when the gap ends."""
    moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    # PEP 495: in a gap fold=1 gives a moment before it, fold=0 one after it.
    before, after = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), moment
    offset = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = (before + (after - before) / 2).replace(microsecond=0)
        middle = max(middle, before + timedelta(seconds=1))
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after


def _last_utc(wall: datetime, zone: tzinfo) -> datetime:
    """When it last shows that time, or the gap ends."""
    again = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return again if again.astimezone(zone).replace(tzinfo=None) == wall else _first_utc(wall, zone)
