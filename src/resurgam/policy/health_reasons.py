"""The rules of health, one a function: what is wrong, how bad it is, and what to do next.

Codes never change once released: alerts and dashboards are made of them. One reason a code at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from resurgam.policy.health_repository import repository_reasons, unseen
from resurgam.policy.health_view import SKEW, View
from resurgam.policy.health_wording import count_of, duration_of, hours_of, mb_of, moment_of, names_of
from resurgam.settings.service_model import HealthLimits

if TYPE_CHECKING:
    pass

Severity = Literal["warning", "critical"]
_HEARTBEAT = timedelta(minutes=5)
_OVERDUE = timedelta(hours=1)
_VERIFY = timedelta(days=8)
_DAY = timedelta(days=1)
_DRILL = 35 * 86400.0
_LOW = 0.2
# The target of a verification of every backup.
_ALL = "all"
# Codes of errors that say that a backup is not what it should be; others only kept it from being read.
UNSOUND = frozenset({"verify_failed", "archive", "damaged", "hostile"})


@dataclass(frozen=True, slots=True)
class Reason:
    """Something wrong: a sentence with figures, and a hint that names the next command or setting."""

    code: str
    severity: Severity
    message: str
    hint: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "severity": self.severity, "message": self.message, "hint": self.hint}


Rule = Callable[[View, HealthLimits], Iterator[Reason]]


def troubles(view: View, limits: HealthLimits) -> Iterator[Reason]:
    """What could not be looked at."""
    for trouble in view.facts.troubles:
        yield Reason(trouble.code, "critical", trouble.message, trouble.hint)


def setting_unavailable(view: View, limits: HealthLimits) -> Iterator[Reason]:
    if names := ", ".join(view.facts.unavailable):
        message = f"{names}: this version does not have that feature, and every backup fails."
        yield Reason("setting_unavailable", "critical", message, f"Unset {names}.")


def repository_unwell(view: View, limits: HealthLimits) -> Iterator[Reason]:
    for reason in repository_reasons(view.facts.repository):
        yield Reason(*reason)


def no_backup(view: View, limits: HealthLimits) -> Iterator[Reason]:
    facts = view.facts
    if view.good or unseen(facts):
        return
    found = f"There is no backup of {facts.application} in {facts.place}"
    if facts.backups:
        found = (
            f"None of the {len(facts.backups):,} backups of {facts.application} can be restored: all are damaged"
            if len(facts.backups) > 1
            else f"The one backup of {facts.application} can't be restored: it is damaged"
        )
    elif facts.others:
        found += f" ({facts.others:,} of other names; APP_NAME says whose count)"
    yield Reason("no_backup", "critical", f"{found}.", "`resurgam backup` takes one; `resurgam doctor` if it fails.")


def backup_too_old(view: View, limits: HealthLimits) -> Iterator[Reason]:
    newest = view.dated
    if newest is None or limits.max_age is None or view.age(newest.taken_at) <= limits.max_age:
        return
    message = (
        f"The newest backup, {newest.name}, is {hours_of(view.age(newest.taken_at))} old; "
        f"BACKUP_MAX_AGE is {hours_of(limits.max_age)}."
    )
    hint = (
        "`resurgam backup` takes one now. Does the timer run (cron, systemd, or BACKUP_SCHEDULE and `resurgam serve`)?"
    )
    yield Reason("backup_too_old", "critical", message, hint)


def last_run_failed(view: View, limits: HealthLimits) -> Iterator[Reason]:
    runs = view.facts.last_backups
    if not runs or runs[0].outcome != "failed":
        return
    in_a_row = next((number for number, run in enumerate(runs) if run.outcome != "failed"), len(runs))
    newest = view.dated
    stale = newest is None or (limits.max_age is not None and view.age(newest.taken_at) > limits.max_age)
    times = f"The last {in_a_row} backups failed, the latest" if in_a_row > 1 else "The last backup failed"
    message = f"{times} {hours_of(view.age(runs[0].finished_at))} ago: {runs[0].reason or 'no reason was kept.'}"
    hint = runs[0].hint or "`resurgam doctor` looks for the cause; the log has the run."
    yield Reason("last_run_failed", "critical" if in_a_row > 1 or stale else "warning", message, hint)


def last_run_degraded(view: View, limits: HealthLimits) -> Iterator[Reason]:
    runs = view.facts.last_backups
    if runs and runs[0].outcome == "degraded":
        message = f"The last backup is whole, but not all that follows it went well: {runs[0].reason}"
        yield Reason("last_run_degraded", "warning", message, "`resurgam doctor` looks for the cause.")


def success_rate(view: View, limits: HealthLimits) -> Iterator[Reason]:
    rate = view.success_rate
    if rate is None or view.runs < 5 or rate >= 90:
        return
    failed = view.runs - view.successes
    message = f"{failed:,} of the {view.runs:,} backups of the last 30 days failed: {rate:.0f} % succeeded."
    hint = "`grep ERROR` in the log (BACKUP_LOG_FILE) shows why each one did."
    # Once it works again, and after the tries of a first day, the past is a warning.
    runs = view.facts.last_backups
    lasts = not runs or runs[0].outcome == "failed"
    yield Reason("success_rate", "critical" if rate < 50 and lasts else "warning", message, hint)


def grew(view: View, limits: HealthLimits) -> Iterator[Reason]:
    newest, usual = view.newest, view.usual_size
    if newest is None or not usual or newest.size <= usual * (1 + limits.growth / 100):
        return
    more = 100 * (newest.size / usual - 1)
    message = (
        f"{newest.name} has {mb_of(newest.size)}, {more:,.0f} % more than the usual {mb_of(usual)} of the last 30 days."
    )
    hint = (
        f"`resurgam show {newest.name}` says what it holds. If it is meant to be so, raise BACKUP_EXPECTED_GROWTH "
        f"(now {limits.growth} %)."
    )
    yield Reason("grew", "warning", message, hint)


def shrank(view: View, limits: HealthLimits) -> Iterator[Reason]:
    newest = view.newest
    if newest is None:
        return
    pairs = (
        (newest.name, newest.size, view.usual_size),
        (f"The database in {newest.name}", newest.database_size, view.usual_database_size),
    )
    small = [
        f"{what} has {mb_of(size)}; usual are {mb_of(usual)}."
        for what, size, usual in pairs
        if size is not None and usual is not None and size < usual / 2
    ]
    if small:
        hint = f"Is data missing? `resurgam show {newest.name}` says what it holds; older backups are still there."
        yield Reason("shrank", "warning", " ".join(small), hint)


def low_space(view: View, limits: HealthLimits) -> Iterator[Reason]:
    disk, worth = view.facts.disk, view.worth
    if disk is None or disk.total <= 0:
        return
    share = disk.free / disk.total
    if share >= _LOW and disk.free >= 2 * worth:
        return
    message = f"{mb_of(disk.free)} ({share:.0%}) are free in {view.facts.disk_path}"
    if disk.free < 2 * worth:
        message += (
            f", less than {'one backup needs' if disk.free < worth else 'two backups need'} ({mb_of(worth)} each)"
        )
    hint = "Lower BACKUP_RETENTION_DAYS or MAX_BACKUPS and run `resurgam prune`, or use a larger disk."
    yield Reason("low_space", "critical" if disk.free < worth else "warning", f"{message}.", hint)


def remote_behind(view: View, limits: HealthLimits) -> Iterator[Reason]:
    remote = view.facts.remote
    if remote is None:
        return
    if remote.problem:
        hint = f"Mount REMOTE_BACKUP_PATH {remote.path} again; the next backup copies what it lacks."
        yield Reason("remote_behind", "warning", remote.problem, hint)
        return
    behind = view.not_copied
    # The copy of a backup that is under way comes last.
    if not behind or (len(behind) == 1 and any(one.kind == "backup" for one in view.facts.running)):
        return
    message = f"{count_of(len(behind), 'backup')} not copied to {remote.path}: {names_of(behind)}."
    hint = "The next `resurgam backup` copies what is missing; `resurgam doctor` looks at the folder."
    yield Reason("remote_behind", "warning", message, hint)


def damaged_backup(view: View, limits: HealthLimits) -> Iterator[Reason]:
    if len(view.good) == len(view.facts.backups):
        return
    damaged = [one for one in view.facts.backups if one.condition == "damaged"]
    message = f"{count_of(len(damaged), 'backup')} damaged: {names_of(damaged)}."
    mended = "; the next `resurgam backup` may mend it" if damaged[0].copies[0].location == "repository" else ""
    hint = f"`resurgam show {damaged[0].name}` says how{mended}; `resurgam delete {damaged[0].name}`"
    yield Reason("damaged_backup", "warning", message, hint)


def verify_failed(view: View, limits: HealthLimits) -> Iterator[Reason]:
    """What was found of a backup holds until that one is verified again: another's success says nothing of it."""
    names = {one.name for one in view.facts.backups}
    settled: set[str] = set()
    for run in view.facts.last_verifies:
        if run.outcome == "failed":
            found = {run.target} if run.target != _ALL else {name for name in names if name in run.reason}
            unsound = (found & names) - settled
            if unsound or (run.target == _ALL and run.code not in (*UNSOUND, "not_found")):
                newest = run.code in UNSOUND and view.newest is not None and view.newest.name in unsound
                hint = run.hint or "`resurgam verify NAME` looks again; `resurgam backup` takes another."
                message = f"A verification failed: {run.reason}"
                yield Reason("verify_failed", "critical" if newest else "warning", message, hint)
                return
        if run.target == _ALL:
            return
        settled.add(run.target)


def verify_old(view: View, limits: HealthLimits) -> Iterator[Reason]:
    """Only where verifying is scheduled: nobody is nagged for what nobody planned."""
    schedule = view.facts.schedule
    if schedule is None or not schedule.verifies or not view.good:
        return
    hint = "`resurgam verify NAME` does it now. Does `resurgam serve` run at the times of BACKUP_VERIFY_SCHEDULE?"
    last = view.facts.last_success.get("verify")
    if last is None:
        if view.age(view.good[-1].taken_at) > _VERIFY.total_seconds():
            yield Reason("never_verified", "warning", "No backup was ever verified, and the first is a week old.", hint)
    elif view.age(last.finished_at) > _VERIFY.total_seconds():
        days = view.age(last.finished_at) / _DAY.total_seconds()
        yield Reason("verify_old", "warning", f"The last successful verification is {days:.0f} days ago.", hint)


def drill_failed(view: View, limits: HealthLimits) -> Iterator[Reason]:
    drill = view.facts.last_drill
    if drill is None or drill.outcome not in ("failed", "error"):
        return
    told = " ".join(str(one) for one in drill.report.get("differences", ())[:3]) or "no reason was kept."
    if drill.outcome == "error":
        message = f"The last drill, of {drill.backup}, could not be carried out: {told}"
        yield Reason("drill_failed", "warning", message, "Mend the cause, and repeat it: `resurgam drill`.")
        return
    hint = f"`resurgam drill {drill.backup}` repeats it; is another backup sound? `resurgam drill NAME`"
    yield Reason("drill_failed", "critical", f"The last drill, of {drill.backup}, failed: {told}", hint)


def drill_as_superuser(view: View, limits: HealthLimits) -> Iterator[Reason]:
    drill = view.facts.last_drill
    if drill is not None and drill.report.get("rights") == "superuser":
        message = f"The last drill, of {drill.backup}, loaded it as a superuser: whatever is in it had all rights."
        hint = (
            "Let roles named *_drill_* log in by password from here (pg_hba.conf), set DRILL_SERVER=embedded, or name "
            "a role without superuser rights in DRILL_DATABASE_URL; then `resurgam drill`."
        )
        yield Reason("drill_as_superuser", "warning", message, hint)


def drill_old(view: View, limits: HealthLimits) -> Iterator[Reason]:
    """Where drills are scheduled, or one was ever done."""
    schedule, drill = view.facts.schedule, view.facts.last_drill
    if drill is None or drill.finished_at is None:
        if schedule is not None and schedule.drills and view.good and view.age(view.good[-1].taken_at) > _DRILL:
            message = "No backup was ever restored by a drill, and the first is five weeks old."
            yield Reason("drill_old", "warning", message, "`resurgam drill` does it now.")
    elif view.age(drill.finished_at) > _DRILL:
        days = view.age(drill.finished_at) / _DAY.total_seconds()
        hint = "`resurgam drill` does it now; BACKUP_DRILL_SCHEDULE every month."
        yield Reason("drill_old", "warning", f"The last drill is {days:.0f} days ago.", hint)


def expiry_frozen(view: View, limits: HealthLimits) -> Iterator[Reason]:
    if told := view.facts.frozen:
        more = f" And {len(told) - 3} more." if len(told) > 3 else ""
        message = f"No backup expires any more: {' '.join(told[:3])}{more}"
        hint = "Is that as it should be? Then `resurgam prune --accept`; else an older backup has what is missing."
        yield Reason("expiry_frozen", "warning", message, hint)


def schedule_not_running(view: View, limits: HealthLimits) -> Iterator[Reason]:
    schedule = view.facts.schedule
    if schedule is None or not view.facts.enabled:
        return
    hint = (
        "Start `resurgam serve`, and look at its log. Where cron or systemd makes the backups, unset BACKUP_SCHEDULE."
    )
    if schedule.heartbeat is None:
        yield _not_running("BACKUP_SCHEDULE is set, but no service has run it yet.", hint)
        return
    # One of the future is left from before the clock was set back: a loop that lives would have replaced it.
    if abs(view.now - schedule.heartbeat) > _HEARTBEAT:
        ago = hours_of(abs((view.now - schedule.heartbeat).total_seconds()))
        yield _not_running(f"BACKUP_SCHEDULE is set, but its service was last seen {ago} ago.", hint)
        return
    passed = sorted((due, task) for task, due in schedule.overdue.items() if view.now - due > _OVERDUE)
    if passed:
        due, task = passed[0]
        late = hours_of((view.now - due).total_seconds())
        yield _not_running(f"The scheduled {task} of {moment_of(due)} is {late} late.", hint)


def clock_jumped(view: View, limits: HealthLimits) -> Iterator[Reason]:
    recent = [jump for jump in view.facts.clock_jumps if abs(view.now - jump.at) <= _DAY]
    if recent:
        jump = max(recent, key=lambda one: one.at)
        way = "back" if jump.seconds < 0 else "ahead"
        message = f"The clock was set {way} by {duration_of(abs(jump.seconds))} at {moment_of(jump.at)}."
        yield Reason("clock_jumped", "warning", message, "Run NTP. `resurgam doctor` compares the clocks.")


def clock_ahead(view: View, limits: HealthLimits) -> Iterator[Reason]:
    ahead = [one for one in view.good if one.taken_at > view.now + SKEW]
    if not ahead:
        return
    first = max(ahead, key=lambda one: one.taken_at)
    message = f"{first.name} is dated {hours_of((first.taken_at - view.now).total_seconds())} in the future"
    if view.dated is None:
        message += ", as are all others: how old they are can not be said"
    hint = "Is this machine's clock right? `resurgam doctor` compares the clocks; `resurgam backup` takes a backup."
    yield Reason("clock_ahead", "warning" if view.dated else "critical", f"{message}.", hint)


def channel_failing(view: View, limits: HealthLimits) -> Iterator[Reason]:
    if labels := ", ".join(view.facts.channels_failing):
        message = f"Messages do not arrive by {labels}."
        yield Reason("channel_failing", "warning", message, "`resurgam notify test` tries each of BACKUP_NOTIFY_URLS.")


def restore_unfinished(view: View, limits: HealthLimits) -> Iterator[Reason]:
    if names := ", ".join(view.facts.unfinished_restores):
        message = f"A restore did not end ({names}): the application may be between two states."
        hint = "The next backup or restore finishes it or puts everything back: `resurgam backup`."
        yield Reason("restore_unfinished", "critical", message, hint)


def kept_changed(view: View, limits: HealthLimits) -> Iterator[Reason]:
    """What undo could bring back is never removed if it changed, and then fills the disk until somebody looks."""
    if stays := [one for one in view.facts.kept if one.problem]:
        first = stays[0]
        more = f", and {len(stays) - 1:,} more" if len(stays) > 1 else ""
        message = f"{first.place}, kept by a restore, stays though its time is over: {first.problem}{more}."
        hint = "Look at it, and remove it by hand: `resurgam doctor` shows the command."
        yield Reason("kept_changed", "warning", message, hint)


def key_unproven(view: View, limits: HealthLimits) -> Iterator[Reason]:
    if doubt := view.facts.key_doubt:
        hint = "Set BACKUP_ENCRYPTION_IDENTITY_FILE for one `resurgam drill`, and unset it again."
        yield Reason("key_unproven", "warning", doubt, hint)


RULES: tuple[Rule, ...] = (
    troubles,
    setting_unavailable,
    restore_unfinished,
    repository_unwell,
    no_backup,
    backup_too_old,
    last_run_failed,
    schedule_not_running,
    success_rate,
    verify_failed,
    drill_failed,
    drill_as_superuser,
    damaged_backup,
    clock_ahead,
    clock_jumped,
    low_space,
    remote_behind,
    last_run_degraded,
    expiry_frozen,
    shrank,
    grew,
    verify_old,
    drill_old,
    key_unproven,
    kept_changed,
    channel_failing,
)


def _not_running(message: str, hint: str) -> Reason:
    return Reason("schedule_not_running", "critical", message, hint)
