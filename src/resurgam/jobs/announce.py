"""Tells people what became of jobs and how health stands, by channels and the dead man's switch.

Rules:
- Nothing that fails here comes out: it goes to the log (labels only, never a URL) and to `state.channels`, where health
  sees it.
- One event is over after `_PING_WAIT` seconds at most, whatever hangs; after an interrupt sooner.
- Of several processes that find the same trouble one tells of it (`Alerts.replace`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from resurgam.catalog.alerts import Alert
from resurgam.clock import Clock
from resurgam.errors import ResurgamError, SettingsError, StateError
from resurgam.notify.channels import SEND_SECONDS, Delivery, Post, channel_id, label_of, send
from resurgam.notify.messages import Message, Sender
from resurgam.policy.alerts import Decision, Trouble, decide, is_over, undelivered
from resurgam.runlog import RunLog
from resurgam.settings.service_model import Channel, Messages, Severity

if TYPE_CHECKING:
    from resurgam.catalog.alerts import Alerts
    from resurgam.catalog.channels import Channels
    from resurgam.catalog.jobs import Job
    from resurgam.notify.ping import Word
    from resurgam.policy.health import HealthReport, Reason

_PING_WAIT = 12.0
# What SIGTERM has begun must be over within 10 s.
_HURRIED = 4.0
_EVERY = timedelta(minutes=1)
# Of these a job of that kind has told itself, with its reason, if it could.
_TOLD_BY_JOBS = {"last_run_failed": "backup", "last_run_degraded": "backup", "verify_failed": "verify"}
_JOB_SEVERITY: Mapping[str, Severity] = {"failed": "error", "degraded": "warning", "refused": "warning"}
_HEALTH_SEVERITY: Mapping[str, Severity] = {"warning": "warning", "critical": "error"}
_UNPINGED = "not tried: a ping would count as a backup's"


class Kept(Protocol):
    """Where it is kept what was told: the state, or what stands for one that can't be opened."""

    @property
    def alerts(self) -> Alerts: ...

    @property
    def channels(self) -> Channels: ...


@dataclass(frozen=True, slots=True)
class Unopened:
    """Stands for a state that can't be opened: of that people must hear most of all, and nothing is kept of it."""

    why: str

    @property
    def alerts(self) -> Alerts:
        raise StateError(self.why)

    @property
    def channels(self) -> Channels:
        raise StateError(self.why)


@dataclass(frozen=True, slots=True)
class Announcer:
    """Who tells people. Any thread may use it. Without channels and a ping URL it does nothing."""

    state: Kept
    messages: Messages
    application: str
    log: RunLog
    clock: Clock
    environ: Mapping[str, str] = field(repr=False)
    # Alerts that the state could not take.
    _unkept: dict[str, Alert] = field(default_factory=dict, repr=False)

    def started(self, kind: str, target: str) -> None:
        """A job begins: the switch hears of a backup."""
        if kind == "backup":
            self._tell((), "start", f"{target}: backup started")

    def ended(self, job: Job) -> None:
        """A job has ended; its row says how.

        Failures, degraded and refused runs are troubles of their kind, told again as BACKUP_NOTIFY_REPEAT says or when
        the reason is another; the next success of the kind is told as their end.
        """
        # Without a code of ours it was an interrupt (or a bug): whoever waits for the end must get it soon.
        interrupted = job.outcome == "cancelled" or (job.outcome == "failed" and not job.details.get("code"))
        self._tell_of(job, _HURRIED if interrupted else None)

    def died(self, job: Job) -> None:
        """A job's process had died; its row says so now."""
        self._tell_of(job, None)

    def unkept(self, kind: str, target: str, error: ResurgamError) -> None:
        """A job failed of which there is no row, since the state can't be used."""
        from resurgam.catalog.jobs import unkept

        details = {"code": error.code, "hint": error.hint}
        self._tell_of(unkept(kind, target, "failed", error.message, self.clock.now(), details), None)

    def _tell_of(self, job: Job, seconds: float | None) -> None:
        if not self.messages.channels and self.messages.ping_url is None:
            return
        message, decision = self._about(job)
        delivered = self._tell(
            [message] if message is not None else [],
            _word(job),
            self._sender.line_of(job),
            seconds,
        )
        self._keep_untold(decision, delivered)

    def health(self, report: HealthReport) -> None:
        """Tell of each reason once, again while it lasts, when it grows worse, and when it is over."""
        if not self.messages.channels or report.status == "disabled":
            return
        reasons = {f"health:{one.code}": one for one in report.reasons if not self._told_by_job(one.code)}
        try:
            stored = self.state.alerts.of("health:")
        except StateError as error:
            self._warn(f"What was told of health can not be read: {error.message}")
            stored = ()
        bad: list[tuple[Decision, Reason]] = []
        over: list[Decision] = []
        gone = (alert.key for alert in stored if is_over(alert, self.clock.now()))
        for key in dict.fromkeys((*reasons, *gone)):
            reason = reasons.get(key)
            trouble = None if reason is None else Trouble(_HEALTH_SEVERITY[reason.severity], reason.message)
            decision = self._decide(key, trouble)
            if decision.telling is None:
                continue
            if reason is not None:
                bad.append((decision, reason))
            else:
                over.append(decision)
        messages = self._about_health(bad, over)
        delivered = self._tell(messages) if messages else ()
        for decision, _ in bad:
            self._keep_untold(decision, delivered[:1])

    def _told_by_job(self, code: str) -> bool:
        """Whether people heard of it from the job. Not where its message reached nobody, or its process was killed, or
        had no channels."""
        if code not in _TOLD_BY_JOBS:
            return False
        try:
            told = self.state.alerts.get(f"job:{_TOLD_BY_JOBS[code]}")
        except StateError:
            return True
        return told is not None and told.count > 0

    def test(self) -> tuple[Delivery, ...]:
        """Send a test to every channel, whatever it is limited to. The switch is named, and not pinged: that would tell
        it of a backup that never was. SettingsError if there is nobody to tell."""
        if not self.messages.channels and self.messages.ping_url is None:
            raise SettingsError("Nobody would hear of anything: there is no channel.", "Set BACKUP_NOTIFY_URLS.")
        message = self._sender.of_test(self.clock.now())
        found = send([Post(channel, message) for channel in self.messages.channels], self.environ)
        self._note(found)
        url = self.messages.ping_url
        return found if url is None else (*found, Delivery(channel_id(url), label_of(url), None, _UNPINGED))

    @property
    def _sender(self) -> Sender:
        return Sender(self.application)

    def _about(self, job: Job) -> tuple[Message | None, Decision | None]:
        """What to say of a job that ended, if anything."""
        severity = _JOB_SEVERITY.get(job.outcome or "")
        if job.outcome == "cancelled" or not self.messages.channels:
            return self._sender.of_job(job, "info"), None
        # A refusal names the job in its way, another one each time.
        by_message = job.outcome != "refused"
        trouble = None if severity is None else Trouble(severity, job.reason, by_message)
        decision = self._decide(f"job:{job.kind}", trouble)
        before = decision.previous
        if severity is not None:
            lead = "This was told before, and lasts." if decision.telling == "repeated" else ""
            return (self._sender.of_job(job, severity, lead=lead) if decision.telling else None), decision
        if decision.telling == "recovered" and before is not None:
            lead = f"It works again. What failed since {_local(before.since)}: {before.message}"
            return self._sender.of_job(job, before.severity, lead=lead, good=True), decision
        return self._sender.of_job(job, "info"), decision

    def _about_health(self, bad: Sequence[tuple[Decision, Reason]], over: Sequence[Decision]) -> list[Message]:
        """One message for all that is wrong, one for all that is over."""
        now, made = self.clock.now(), []
        if bad:
            worst: Severity = "error" if any(one.severity == "critical" for _, one in bad) else "warning"
            found = [f"{_lead(decision)}{one.message}\nWhat to do: {one.hint}" for decision, one in bad]
            made.append(self._sender.of_health(worst, found, now))
        ended = [one.previous for one in over if one.previous is not None]
        if ended:
            worst = "error" if any(one.severity == "error" for one in ended) else "warning"
            gone = [f"Over, after it began at {_local(one.since)}: {one.message}" for one in ended]
            made.append(self._sender.of_health(worst, gone, now, good=True))
        return made

    def _decide(self, key: str, trouble: Trouble | None) -> Decision:
        """What to tell; whoever gets an answer that tells is the only one who does."""
        try:
            while True:
                known = self.state.alerts.get(key)
                decision = decide(key, known, trouble, self.clock.now(), self.messages.repeat)
                if decision.next == known or self.state.alerts.replace(key, known, decision.next):
                    return decision
        except StateError as error:
            # A full disk is what people must hear of, and once.
            self._warn(f"What was told can not be kept: {error.message}")
            decision = decide(key, self._unkept.get(key), trouble, self.clock.now(), self.messages.repeat)
            self._unkept.pop(key, None)
            if decision.next is not None:
                self._unkept[key] = decision.next
            return decision

    def _keep_untold(self, decision: Decision | None, delivered: Sequence[bool]) -> None:
        """A trouble of which every channel failed to tell is told again soon."""
        if decision is None or decision.next is None or decision.telling is None or delivered != [False]:
            return
        try:
            self.state.alerts.replace(decision.next.key, decision.next, undelivered(decision.next))
        except StateError as error:
            self._warn(f"That a message did not arrive can not be kept: {error.message}")

    def _tell(
        self, messages: Sequence[Message], word: Word | None = None, line: str = "", seconds: float | None = None
    ) -> list[bool]:
        """Send the messages and ping, side by side; for each message whether it reached anybody who wants it."""
        pinging = self._pinging(word, line, seconds)
        wanted = [(number, channel) for number, one in enumerate(messages) for channel in self._for(one)]
        found = send([Post(channel, messages[n]) for n, channel in wanted], self.environ, seconds or SEND_SECONDS)
        self._note(found)
        pinging()
        return [
            all(number != n for n, _ in wanted)
            or any(one.ok for (n, _), one in zip(wanted, found, strict=True) if n == number)
            for number in range(len(messages))
        ]

    def _for(self, message: Message) -> list[Channel]:
        return [channel for channel in self.messages.channels if message.is_for(channel)]

    def _pinging(self, word: Word | None, line: str, seconds: float | None) -> Callable[[], None]:
        """Begin to ping; what is returned waits for its end and notes it."""
        url = self.messages.ping_url
        if url is None or word is None:
            return lambda: None
        from resurgam.notify.ping import ping  # urllib takes a while to import

        found: list[Delivery] = []
        begun = self.clock.monotonic()
        limit = _PING_WAIT if seconds is None else seconds
        thread = threading.Thread(target=lambda: found.append(ping(url, word, line)), daemon=True)
        thread.start()

        def wait() -> None:
            thread.join(max(0.0, limit - (self.clock.monotonic() - begun)))
            late = Delivery(channel_id(url), label_of(url), False, "it did not answer in time")
            self._note(found or [late])

        return wait

    def _note(self, deliveries: Sequence[Delivery]) -> None:
        for one in deliveries:
            if not one.ok:
                self._warn(f"A message by {one.label} did not arrive: {one.problem}.")
            try:
                self.state.channels.note(one.id, one.label, one.problem)
            except StateError as error:
                self._warn(f"What became of a message can not be kept: {error.message}")

    def _warn(self, text: str) -> None:
        self.log.warning(text)


class Watched(Protocol):
    """Whose health is watched."""

    def health(self) -> HealthReport:
        """How it stands now."""


@dataclass(frozen=True, slots=True)
class HealthWatch:
    """The chore that looks at health every minute and has people told."""

    watched: Watched
    announcer: Announcer
    name: str = "health watch"

    def run(self, now: datetime) -> datetime:
        """One look; when the next is due."""
        self.announcer.health(self.watched.health())
        return now + _EVERY


def _word(job: Job) -> Word | None:
    """A degraded backup does not satisfy the switch: a copy that is missing must not stay unheard where it is the only
    one who listens. A refused one says nothing: the run in its way speaks for itself."""
    if job.kind != "backup" or job.outcome == "refused":
        return None
    return "success" if job.outcome == "ok" else "fail"


def _lead(decision: Decision) -> str:
    return {"repeated": "Still: ", "escalated": "Worse now: "}.get(decision.telling or "", "")


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"
