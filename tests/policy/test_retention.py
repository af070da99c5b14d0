"""Retention: the manual's examples by hand, and what must hold for any set of backups."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from resurgam.policy.retention import Candidate, Decision, RetentionRules, plan_retention

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def daily(count: int, start: int = 0) -> list[Candidate]:
    """A good backup a day, `start` days old and older; the oldest has sequence 1."""
    days = range(start, start + count)
    return [Candidate(f"b{day:04}", start + count - day, NOW - timedelta(days=day), good=True) for day in days]


def kept(decisions: tuple[Decision, ...]) -> set[str]:
    return {decision.name for decision in decisions if decision.keep}


def reason(decisions: tuple[Decision, ...], name: str) -> str:
    return next(decision.reason for decision in decisions if decision.name == name)


def test_days_delete_what_is_as_old_as_the_limit() -> None:
    plan = plan_retention(daily(40), RetentionRules(days=30, max_backups=50), NOW)
    assert kept(plan) == {f"b{day:04}" for day in range(30)}
    assert reason(plan, "b0003") == "kept: 3 days old, younger than 30 days and number 4 of at most 50"
    assert reason(plan, "b0030") == "deleted: 30 days old, not younger than 30 days"


def test_the_cap_deletes_young_ones_beyond_it() -> None:
    plan = plan_retention(daily(10), RetentionRules(days=30, max_backups=4), NOW)
    assert kept(plan) == {"b0000", "b0001", "b0002", "b0003"}
    assert reason(plan, "b0004") == "deleted: 4 days old, younger than 30 days, but at most 4 backups may stay"


def test_the_manuals_best_practice_keeps_thirty_days_twelve_weeks_and_twelve_months() -> None:
    rules = RetentionRules(days=30, max_backups=54, daily=30, weekly=12, monthly=12)
    plan = plan_retention(daily(400), rules, NOW)
    dates = {NOW - timedelta(days=int(name[1:])) for name in kept(plan)}
    assert len({f"{date:%Y-%m}" for date in dates}) == 12
    assert len({f"{date:%G-%V}" for date in dates}) >= 12
    assert {NOW - timedelta(days=day) for day in range(30)} <= dates
    assert reason(plan, "b0056") == "kept: the newest of the week 2026-W39 and number 35 of at most 54"


def test_a_flood_of_another_series_pushes_out_nothing() -> None:
    rules = RetentionRules(days=30, max_backups=4, monthly=1)
    own = daily(10)
    flood = [Candidate(f"f{n}", 1000 + n, NOW - timedelta(seconds=n), good=True, series="other") for n in range(500)]
    alone = plan_retention(own, rules, NOW)
    plan = plan_retention([*flood, *own], rules, NOW)
    assert [one for one in plan if one.name.startswith("b")] == list(alone)
    assert kept(plan) == kept(alone) | {"f499", "f498", "f497", "f496"}
    assert [one.name for one in plan[:2]] == ["f499", "f498"]  # newest first, whoever took it


def test_many_backups_of_one_day_do_not_push_out_a_monthly_one() -> None:
    hourly = [Candidate(f"h{n}", 100 + n, NOW - timedelta(minutes=60 - n), good=True) for n in range(50)]
    old = Candidate("last-year", 1, NOW - timedelta(days=300), good=True)
    plan = plan_retention([old, *hourly], RetentionRules(days=30, max_backups=10, monthly=2), NOW)
    assert "last-year" in kept(plan)
    assert len(kept(plan)) == 10


def test_the_newest_good_one_stays_however_old() -> None:
    plan = plan_retention(daily(3, start=90), RetentionRules(days=30, max_backups=50), NOW)
    assert kept(plan) == {"b0090"}
    assert "never deleted" in reason(plan, "b0090")


def test_a_newer_damaged_one_does_not_protect_in_its_place() -> None:
    damaged = Candidate("damaged", 1000, NOW, good=False)
    plan = plan_retention([damaged, *daily(2, start=90)], RetentionRules(days=30, max_backups=1), NOW)
    assert kept(plan) == {"damaged", "b0090"}
    assert reason(plan, "damaged") == "kept: it is not a good backup, and only you delete those"


def test_pinned_ones_stay_and_are_not_counted() -> None:
    pinned = Candidate("pinned", 1, NOW - timedelta(days=900), good=True, pinned=True)
    plan = plan_retention([pinned, *daily(5)], RetentionRules(days=30, max_backups=2), NOW)
    assert kept(plan) == {"pinned", "b0000", "b0001"}


def test_disagreeing_clocks_delete_nothing_by_age_but_the_cap_still_holds() -> None:
    plan = plan_retention(daily(10, start=60), RetentionRules(days=30, max_backups=6), NOW, clocks_agree=False)
    assert kept(plan) == {f"b{day:04}" for day in range(60, 66)}
    assert "the clocks disagree" in reason(plan, "b0065")


def test_a_date_in_the_future_is_neither_young_nor_old() -> None:
    ahead = Candidate("ahead", 1, NOW + timedelta(days=400), good=True)
    plan = plan_retention([ahead, *daily(3, start=40)], RetentionRules(days=30, max_backups=5, monthly=1), NOW)
    assert "ahead" in kept(plan)
    assert "dated in the future" in reason(plan, "ahead")
    # It takes no place in the KEEP rules, whose month it does not prove.
    assert "b0040" in kept(plan)


def test_order_is_by_sequence_when_a_clock_was_set_back() -> None:
    newer = Candidate("newer", 2, NOW - timedelta(days=20), good=True)
    older = Candidate("older", 1, NOW - timedelta(days=1), good=True)
    assert kept(plan_retention([older, newer], RetentionRules(days=30, max_backups=1), NOW)) == {"newer"}


def test_nothing_to_decide() -> None:
    assert plan_retention([], RetentionRules(days=1, max_backups=1), NOW) == ()


@st.composite
def sets(draw: st.DrawFn) -> list[Candidate]:
    hours = draw(st.lists(st.integers(-500, 24 * 800), max_size=40))
    return [
        Candidate(
            f"b{index:03}",
            draw(st.integers(0, 30)),
            NOW - timedelta(hours=age),
            good=draw(st.integers(0, 5)) > 0,
            pinned=draw(st.integers(0, 7)) == 0,
        )
        for index, age in enumerate(hours)
    ]


counts = st.integers(0, 6)
rules_of_any_kind = st.builds(
    RetentionRules,
    days=st.integers(1, 400),
    max_backups=st.integers(1, 30),
    daily=counts,
    weekly=counts,
    monthly=counts,
)


def newest_first(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda one: (one.sequence, one.taken_at, one.name), reverse=True)


@given(sets(), rules_of_any_kind, st.booleans())
def test_what_always_holds(candidates: list[Candidate], rules: RetentionRules, clocks_agree: bool) -> None:
    plan = plan_retention(candidates, rules, NOW, clocks_agree)
    stay = kept(plan)
    assert [decision.name for decision in plan] == [one.name for one in newest_first(candidates)]
    assert all(decision.reason.startswith("kept: " if decision.keep else "deleted: ") for decision in plan)
    good = [one for one in newest_first(candidates) if one.good]
    assert not good or good[0].name in stay
    assert {one.name for one in candidates if one.pinned or not one.good} <= stay
    counted = [one.name for one in good if not one.pinned]
    assert len(stay & set(counted)) <= rules.max_backups
    if not clocks_agree:
        # Only the cap deletes then.
        assert len(stay & set(counted)) == min(len(counted), rules.max_backups)


@given(sets(), rules_of_any_kind, st.booleans())
def test_applied_and_planned_again_it_deletes_nothing(
    candidates: list[Candidate], rules: RetentionRules, clocks_agree: bool
) -> None:
    stay = kept(plan_retention(candidates, rules, NOW, clocks_agree))
    left = [one for one in candidates if one.name in stay]
    assert kept(plan_retention(left, rules, NOW, clocks_agree)) == stay


@given(sets(), st.integers(1, 400), st.integers(1, 30), st.integers(1, 24 * 900))
def test_an_older_backup_never_changes_the_fate_of_newer_ones(
    candidates: list[Candidate], days: int, cap: int, age: int
) -> None:
    rules = RetentionRules(days=days, max_backups=cap)
    older = Candidate("older", -1, NOW - timedelta(hours=age), good=True)
    before = plan_retention(candidates, rules, NOW)
    after = plan_retention([*candidates, older], rules, NOW)
    if any(one.good for one in candidates):
        assert after[: len(before)] == before
    assert kept(before) <= kept(after)


@given(sets(), rules_of_any_kind, st.integers(1, 24 * 900))
def test_with_keep_rules_an_older_backup_changes_no_newer_fate_below_the_cap(
    candidates: list[Candidate], rules: RetentionRules, age: int
) -> None:
    roomy = RetentionRules(rules.days, 1000, rules.daily, rules.weekly, rules.monthly)
    older = Candidate("older", -1, NOW - timedelta(hours=age), good=True)
    plan = kept(plan_retention([*candidates, older], roomy, NOW))
    assert kept(plan_retention(candidates, roomy, NOW)) <= plan | {
        one.name for one in _same_day_later(candidates, older)
    }


def _same_day_later(candidates: list[Candidate], older: Candidate) -> list[Candidate]:
    """Backups of lower dates than the older one by sequence: a clock set back can put it into a later period."""
    return [one for one in candidates if one.taken_at < older.taken_at]


@given(sets(), rules_of_any_kind)
def test_keep_rules_hold_while_the_cap_allows_their_sum(candidates: list[Candidate], rules: RetentionRules) -> None:
    total = rules.daily + rules.weekly + rules.monthly
    fitting = RetentionRules(rules.days, max(rules.max_backups, total + 1), rules.daily, rules.weekly, rules.monthly)
    stay = kept(plan_retention(candidates, fitting, NOW))
    counted = [one for one in newest_first(candidates) if one.good and not one.pinned and one.taken_at <= NOW]
    months: dict[str, Candidate] = {}
    for one in counted:
        months.setdefault(f"{one.taken_at:%Y-%m}", one)
    assert {months[month].name for month in sorted(months, reverse=True)[: rules.monthly]} <= stay


def drilled(one: Candidate) -> Candidate:
    return replace(one, drilled=True)


def test_the_newest_three_drilled_ones_stay_however_old_and_whatever_the_cap() -> None:
    old = [drilled(one) for one in daily(5, start=200)]
    plan = plan_retention([*daily(10), *old], RetentionRules(days=30, max_backups=2), NOW)
    assert kept(plan) == {"b0000", "b0200", "b0201", "b0202"}
    assert "a drill restored" in reason(plan, "b0200")
    plan = plan_retention([*daily(10), *old], RetentionRules(days=30, max_backups=50), NOW)
    assert kept(plan) == {*(f"b{day:04}" for day in range(10)), "b0200", "b0201", "b0202"}


def test_while_it_is_frozen_nothing_is_deleted() -> None:
    plan = plan_retention(daily(60), RetentionRules(days=30, max_backups=5), NOW, frozen=True)
    assert len(kept(plan)) == 60
    assert reason(plan, "b0050") == "kept: nothing expires until somebody has looked (prune --accept)"


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        name=st.text("abc", min_size=1, max_size=4),
        sequence=st.integers(0, 30),
        taken_at=st.integers(-400, 5).map(lambda days: NOW + timedelta(days=days)),
        good=st.booleans(),
        pinned=st.booleans(),
        drilled=st.booleans(),
    ),
    max_size=20,
    unique_by=lambda one: one.name,
)


@given(CANDIDATES, st.integers(1, 40), st.integers(1, 6), st.booleans())
def test_drilled_ones_of_any_set(candidates: list[Candidate], days: int, most: int, agree: bool) -> None:
    rules = RetentionRules(days=days, max_backups=most)
    stay = kept(plan_retention(candidates, rules, NOW, agree))
    ordered = sorted(candidates, key=lambda one: (one.sequence, one.taken_at, one.name), reverse=True)
    assert {one.name for one in [one for one in ordered if one.good and one.drilled][:3]} <= stay
    assert {one.name for one in candidates} == kept(plan_retention(candidates, rules, NOW, agree, frozen=True))
    again = [one for one in candidates if one.name in stay]
    assert kept(plan_retention(again, rules, NOW, agree)) == stay
