"""Which backups are kept: a decision without I/O, with a reason for each.

Rules:
1. A backup that is not good is neither counted nor deleted: it may be all that is left of something.
2. A pinned one is kept and not counted.
3. The newest good one is never deleted.
4. Wanted is what is younger than `days` or selected by a KEEP rule. Where the clocks disagree, or a backup is dated in
   the future, age proves nothing, and it counts as wanted. What is not wanted is deleted.
5. Of the wanted at most `max_backups` stay: the newest good one, then the KEEP selections, then the rest; within each
   the newest first. Selections come before the rest because settings refuse a cap below their sum: so a day of many
   backups can not push out last year's. Without KEEP rules this is "the newest `max_backups`".
6. Backups of another `series` are counted by themselves, by all these rules: what a write-only host adds must not
   push out what others took. (Not host by host: any of them can name any host, and a container has another name each
   day.)

"Newest" goes by sequence number, then time, then name: a clock that was set back does not make a new backup an old one.
A plan is stable: applied and made again it deletes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from resurgam.counting import count_text

# How many of the newest drilled backups stay.
PROVED = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup as retention sees it. `taken_at` is aware; `good`: complete and readable, foreign ones too;
    `drilled`: its latest drill passed; `series`: what it is counted with."""

    name: str
    sequence: int
    taken_at: datetime
    good: bool
    pinned: bool = False
    drilled: bool = False
    series: str = ""


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """`days` and `max_backups` are 1 or more; the others count days, ISO weeks and months (UTC), 0 for none."""

    days: int
    max_backups: int
    daily: int = 0
    weekly: int = 0
    monthly: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The fate of one backup; `reason` is a sentence without its full stop that begins `kept: ` or `deleted: `."""

    name: str
    keep: bool
    reason: str


def plan_retention(
    candidates: Iterable[Candidate],
    rules: RetentionRules,
    now: datetime,
    clocks_agree: bool = True,
    *,
    frozen: bool = False,
) -> tuple[Decision, ...]:
    """The fate of every candidate, newest first. `clocks_agree`: local, server's and store's, within an hour."""
    ordered = sorted(candidates, key=lambda one: (one.sequence, one.taken_at, one.name), reverse=True)
    decided: dict[str, Iterator[Decision]] = {}
    for series in {one.series for one in ordered}:
        own = [one for one in ordered if one.series == series]
        decided[series] = iter(_plan_series(own, rules, now, clocks_agree, frozen))
    return tuple(next(decided[one.series]) for one in ordered)


def _plan_series(
    ordered: list[Candidate], rules: RetentionRules, now: datetime, clocks_agree: bool, frozen: bool
) -> list[Decision]:
    newest_good = next((one for one in ordered if one.good), None)
    counted = [one for one in ordered if one.good and not one.pinned]
    selected = _selections([one for one in counted if one.taken_at <= now], rules)
    proved = [one for one in ordered if one.good and one.drilled][:PROVED]
    wanted: dict[Candidate, str] = {}
    for one in counted:
        why = _why_wanted(one, rules, now, clocks_agree) or selected.get(one)
        if why is None and one in proved:
            why = "one of the newest that a drill restored"
        if why is None and one is newest_good:
            why = f"the newest good backup, which is never deleted, although {_age(one, now)} old"
        if why is not None:
            wanted[one] = why
    # sorted() is stable: within each rank the newest stay first.
    claims = sorted(wanted, key=lambda one: (one is not newest_good, one not in proved, one not in selected))
    least = sum(1 for one in claims if one is newest_good or one in proved)
    within_cap = set(claims[: max(rules.max_backups, least)])
    decisions, number = [], 0
    for one in ordered:
        if not one.good:
            decision = Decision(one.name, True, "kept: it is not a good backup, and only you delete those")
        elif one.pinned:
            decision = Decision(one.name, True, "kept: it is pinned")
        elif one in within_cap:
            number += 1
            why = f"kept: {wanted[one]} and number {number} of at most {rules.max_backups}"
            decision = Decision(one.name, True, why)
        elif frozen:
            decision = Decision(one.name, True, "kept: nothing expires until somebody has looked (prune --accept)")
        elif one in wanted:
            why = f"deleted: {wanted[one]}, but at most {count_text(rules.max_backups, 'backup')} may stay"
            decision = Decision(one.name, False, why)
        else:
            decision = Decision(one.name, False, f"deleted: {_age(one, now)} old, not younger than {_days(rules)}")
        decisions.append(decision)
    return decisions


def _why_wanted(one: Candidate, rules: RetentionRules, now: datetime, clocks_agree: bool) -> str | None:
    """Why its age does not delete it, or None."""
    if one.taken_at > now:
        return f"dated in the future ({one.taken_at:%Y-%m-%d %H:%M} UTC), so of unknown age,"
    if now - one.taken_at < timedelta(days=rules.days):
        return f"{_age(one, now)} old, younger than {_days(rules)}"
    if not clocks_agree:
        return "the clocks disagree, so that no age is believed,"
    return None


def _selections(newest_first: list[Candidate], rules: RetentionRules) -> dict[Candidate, str]:
    """What the KEEP rules select, each with its reason: the newest of each of the last days, weeks, months that have
    one."""
    periods: tuple[tuple[int, str, Callable[[datetime], str]], ...] = (
        (rules.daily, "day", lambda moment: f"{moment:%Y-%m-%d}"),
        (rules.weekly, "week", lambda moment: f"{moment:%G-W%V}"),
        (rules.monthly, "month", lambda moment: f"{moment:%Y-%m}"),
    )
    selected: dict[Candidate, str] = {}
    for count, unit, name_of in periods:
        newest: dict[str, Candidate] = {}
        for one in newest_first:
            newest.setdefault(name_of(one.taken_at.astimezone(UTC)), one)
        for period in sorted(newest, reverse=True)[:count]:
            selected.setdefault(newest[period], f"the newest of the {unit} {period}")
    return selected


def _age(one: Candidate, now: datetime) -> str:
    age = now - one.taken_at
    if age >= timedelta(days=1):
        return count_text(age.days, "day")
    hours, seconds = divmod(age.seconds, 3600)
    return count_text(hours, "hour") if hours else count_text(seconds // 60, "minute")


def _days(rules: RetentionRules) -> str:
    return count_text(rules.days, "day")
