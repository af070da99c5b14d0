"""The service's loop: one thread that runs chores when they are due.

Rules:
- A chore says when it wants to run next. The loop looks up at least every 30 s, so that a clock that is set is noticed.
- Wall clock and monotonic clock are compared. Where they drift apart by more than a minute between two looks (the clock
  was set, the machine slept), that is logged, kept as the sign `clock_jump`, and every chore runs at once: what it
  wanted was said by another clock.
- The sign `loop` is the heartbeat, once a minute.
- Nothing that a chore does ends the loop: silence would then spread to all the others. What it raises is logged when it
  first happens, and it is tried again a minute later.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol

from resurgam.clock import Clock
from resurgam.errors import ResurgamError
from resurgam.runlog import RunLog

_LOOK_SECONDS = 30.0
_LEAST_SECONDS = 0.5
_MINUTE = timedelta(minutes=1)
_JUMP_SECONDS = 60.0
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Chore(Protocol):
    """Something that is done again and again. `name` is for the log."""

    @property
    def name(self) -> str: ...

    def run(self, now: datetime) -> datetime:
        """Do it; answers when it wants to run next. May raise ResurgamError."""


class Marks(Protocol):
    """Where the loop puts its signs (catalog/signs.py)."""

    def put(self, name: str, data: Mapping[str, Any] | None = None) -> None: ...


class Loop:
    """Runs chores in a daemon thread, from `start` to `stop`."""

    def __init__(self, clock: Clock, chores: Sequence[Chore], signs: Marks, log: RunLog) -> None:
        self._clock, self._signs, self._log = clock, signs, log
        self._chores: tuple[Chore, ...] = (_Heartbeat(signs), *chores)
        self._wishes = [_LONG_AGO] * len(self._chores)
        self._troubles = [""] * len(self._chores)
        self._last_look: tuple[datetime, float] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="resurgam-loop", daemon=True)

    def start(self) -> None:
        """Begin; every chore runs at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the chore that is at work."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def look(self) -> float:
        """Run what is due; answers for how many seconds there is nothing to do."""
        self._notice_jump()
        for number, chore in enumerate(self._chores):
            if self._stopping.is_set():
                break
            now = self._clock.now()
            if self._wishes[number] <= now:
                self._wishes[number] = self._run(number, chore, now)
        wait = (min(self._wishes) - self._clock.now()).total_seconds()
        return min(max(wait, _LEAST_SECONDS), _LOOK_SECONDS)

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self.look())

    def _run(self, number: int, chore: Chore, now: datetime) -> datetime:
        wish = now + _MINUTE
        with _Held() as held:
            wish = chore.run(now)
        if held.trouble != self._troubles[number]:
            self._log.error(f"{chore.name}: {held.trouble}") if held.trouble else self._log.info(
                f"{chore.name}: it works again"
            )
            self._troubles[number] = held.trouble
        return wish

    def _notice_jump(self) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if self._last_look is not None:
            then, before = self._last_look
            jump = (now - then).total_seconds() - (monotonic - before)
            if abs(jump) > _JUMP_SECONDS:
                self._wishes = [_LONG_AGO] * len(self._chores)
                way = "ahead" if jump > 0 else "back"
                self._log.warning(
                    f"The clock went {way} by {abs(jump):.0f} s: it was set, or the machine slept.", seconds=round(jump)
                )
                with _Held():  # a state that can't be written is told of by the heartbeat
                    self._signs.put("clock_jump", {"seconds": round(jump, 1), "at": now.isoformat()})
        self._last_look = (now, monotonic)


class _Heartbeat:
    name = "heartbeat"

    def __init__(self, signs: Marks) -> None:
        self._signs = signs

    def run(self, now: datetime) -> datetime:
        self._signs.put("loop")
        return now + _MINUTE


class _Held:
    """Keeps an exception back, bugs too, and has it as a sentence in `trouble`."""

    def __init__(self) -> None:
        self.trouble = ""

    def __enter__(self) -> _Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, ResurgamError):
            self.trouble = f"{error.message} {error.hint}".rstrip()
        elif isinstance(error, Exception):
            place = traceback.extract_tb(trace)[-1]
            self.trouble = f"{type(error).__name__}: {error} (line {place.lineno} of {place.filename})"
        return bool(self.trouble)
