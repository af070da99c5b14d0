"""Health: each reason at its boundaries, and what must hold whatever the facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.catalog.drills import Drill, DrillOutcome
from resurgam.catalog.jobs import Outcome
from resurgam.operations.inventory import megabytes
from resurgam.policy.health import HealthFacts, HealthLimits, assess
from resurgam.policy.health_facts import (
    ClockJump,
    Disk,
    KeptAside,
    RemoteFacts,
    RepositoryFacts,
    Running,
    ScheduleFacts,
    Trouble,
)
from tests.policy.health_scenes import LIMITS, MB, NOW, ago, backup, daily, found, judged, run, well

MANUAL = (
    "backup_enabled",
    "backup_directory",
    "total_backups",
    "total_size_mb",
    "retention_days",
    "max_backups",
    "most_recent_backup",
    "hours_since_last_backup",
    "remote_backup_enabled",
    "status",
)


def failing(*ended: datetime) -> dict[str, Any]:
    return {"last_backups": tuple(run("failed", moment, reason="pg_dump failed.") for moment in ended)}


def rate(ok: int, failed: int) -> dict[str, Any]:
    return {"counts": {("backup", "ok"): ok, ("backup", "failed"): failed, ("backup", "refused"): 99}}


def newest_of(size: int, database_size: int | None = 200 * MB) -> dict[str, Any]:
    return {"backups": (backup(ago(hours=1), size, database_size), *daily(5))}


JUST_NOW = ago(seconds=20)


def scheduled(heartbeat: datetime | None = JUST_NOW, **more: Any) -> dict[str, Any]:
    return {"schedule": ScheduleFacts(heartbeat, **more)}


def drill(outcome: DrillOutcome, **old: float) -> Drill:
    report = {"differences": ["The table public.reports differs."]}
    return Drill(1, "radiology_backup_20261101_000000", ago(**old), ago(**old), outcome, 3.0, 60.0, report, "", None)


def superuser_drill() -> Drill:
    passed = drill("passed", days=1)
    return replace(passed, report={**passed.report, "rights": "superuser"})


def remote(*locations: tuple[str, ...], problem: str = "") -> dict[str, Any]:
    records = tuple(backup(ago(days=day), locations=where) for day, where in enumerate(locations))
    return {"backups": records, "remote": RemoteFacts("/mnt/remote", problem), "remote_enabled": True}


BOTH, LOCAL = ("local", "remote"), ("local",)
NEWEST, OLDER = (one.name for one in daily(2))
UNSOUND = replace(run("failed", ago(hours=1), "verify", NEWEST, "It is not."), code="verify_failed")
OLD_UNSOUND = replace(UNSOUND, target=OLDER)
ALL_UNSOUND = replace(UNSOUND, target="all", reason=f"1 of 10 backups are not sound. {NEWEST}: It is not.")
VERIFY_FAILED = {"last_verifies": (UNSOUND,)}
CASES: tuple[tuple[str, dict[str, Any], dict[str, str]], ...] = (
    ("well", {}, {}),
    ("no backup", {"backups": ()}, {"no_backup": "critical"}),
    ("others only", {"backups": (), "others": 3}, {"no_backup": "critical"}),
    ("48 h to the second", {"backups": (backup(ago(hours=48)),)}, {}),
    ("older than 48 h", {"backups": (backup(ago(hours=48, seconds=1)),)}, {"backup_too_old": "critical"}),
    ("the last run failed", failing(ago(hours=1)), {"last_run_failed": "warning"}),
    ("twice in a row", failing(ago(hours=1), ago(hours=2)), {"last_run_failed": "critical"}),
    (
        "failed, and nothing within the age",
        {"backups": (backup(ago(hours=50)),), **failing(ago(hours=1))},
        {"backup_too_old": "critical", "last_run_failed": "critical"},
    ),
    ("degraded", {"last_backups": (run("degraded", ago(hours=1), reason="x"),)}, {"last_run_degraded": "warning"}),
    ("4 runs say nothing", rate(0, 4), {}),
    ("90 %", rate(9, 1), {}),
    ("under 90 %", rate(89, 11), {"success_rate": "warning"}),
    ("50 %", rate(5, 5), {"success_rate": "warning"}),
    (
        "under 50 %",
        {**rate(49, 51), **failing(ago(hours=1))},
        {"success_rate": "critical", "last_run_failed": "warning"},
    ),
    ("it works after the tries of a first day", rate(1, 5), {"success_rate": "warning"}),
    ("50 % larger", newest_of(60 * MB), {}),
    ("more than 50 % larger", newest_of(60 * MB + 1), {"grew": "warning"}),
    ("half", newest_of(20 * MB), {}),
    ("under half", newest_of(20 * MB - 1), {"shrank": "warning"}),
    ("the database under half", newest_of(40 * MB, 99 * MB), {"shrank": "warning"}),
    ("a database of unknown size", newest_of(40 * MB, None), {}),
    ("two others are no habit", {"backups": (backup(ago(hours=1), MB), *daily(2))}, {}),
    ("20 % free", {"disk": Disk(200, 1000), "backups": daily(1, size=10)}, {}),
    ("under 20 % free", {"disk": Disk(199, 1000), "backups": daily(1, size=10)}, {"low_space": "warning"}),
    ("two backups' worth", {"disk": Disk(80 * MB, 100 * MB)}, {}),
    ("under two backups' worth", {"disk": Disk(80 * MB - 1, 100 * MB)}, {"low_space": "warning"}),
    ("under one backup's worth", {"disk": Disk(40 * MB - 1, 50 * MB)}, {"low_space": "critical"}),
    ("copied", remote(BOTH, BOTH), {}),
    ("the newest not copied", remote(LOCAL, BOTH), {"remote_behind": "warning"}),
    ("its copy is under way", {**remote(LOCAL, BOTH), "running": (Running(7, "backup"),)}, {}),
    ("an older one not copied", remote(BOTH, LOCAL), {}),
    ("remote unreadable", remote(BOTH, problem="It is not mounted."), {"remote_behind": "warning"}),
    ("damaged", {"backups": (*daily(3), backup(ago(days=5), condition="damaged"))}, {"damaged_backup": "warning"}),
    (
        "all damaged",
        {"backups": (backup(ago(days=1), condition="damaged"),)},
        {"no_backup": "critical", "damaged_backup": "warning"},
    ),
    ("a foreign one counts", {"backups": (backup(ago(hours=1), condition="foreign"),)}, {}),
    ("the newest fails to verify", VERIFY_FAILED, {"verify_failed": "critical"}),
    ("an older one fails to verify", {"last_verifies": (OLD_UNSOUND,)}, {"verify_failed": "warning"}),
    (
        "another passes after it",
        {"last_verifies": (run("ok", ago(minutes=5), "verify", OLDER), UNSOUND)},
        {"verify_failed": "critical"},
    ),
    ("it passes the next time", {"last_verifies": (run("ok", ago(minutes=5), "verify", NEWEST), UNSOUND)}, {}),
    ("all pass the next time", {"last_verifies": (run("ok", ago(minutes=5), "verify", "all"), UNSOUND)}, {}),
    ("of all the newest fails", {"last_verifies": (ALL_UNSOUND,)}, {"verify_failed": "critical"}),
    (
        "of all the newest fails, and passes the next time",
        {"last_verifies": (run("ok", ago(minutes=5), "verify", NEWEST), ALL_UNSOUND)},
        {},
    ),
    ("of all one fails that is gone", {"last_verifies": (ALL_UNSOUND,), "backups": (backup(ago(hours=1)),)}, {}),
    (
        "Ctrl-C while the newest is verified",
        {"last_verifies": (replace(UNSOUND, code="", reason="KeyboardInterrupt."),)},
        {"verify_failed": "warning"},
    ),
    (
        "a restart while all are verified",
        {"last_verifies": (replace(UNSOUND, target="all", code="", reason="KeyboardInterrupt."),)},
        {"verify_failed": "warning"},
    ),
    ("there was nothing to verify", {"last_verifies": (replace(ALL_UNSOUND, code="not_found", reason="None."),)}, {}),
    ("what failed to verify is gone", {**VERIFY_FAILED, "backups": (backup(ago(hours=1)),)}, {}),
    ("the loop lives", scheduled(), {}),
    ("no loop yet", scheduled(None), {"schedule_not_running": "critical"}),
    ("silent for 5 min", scheduled(ago(minutes=5)), {}),
    ("silent for longer", scheduled(ago(minutes=5, seconds=1)), {"schedule_not_running": "critical"}),
    ("a heartbeat of the future", scheduled(ago(minutes=-6)), {"schedule_not_running": "critical"}),
    ("due for an hour", scheduled(overdue={"backup": ago(hours=1)}), {}),
    ("due for longer", scheduled(overdue={"backup": ago(hours=1, seconds=1)}), {"schedule_not_running": "critical"}),
    ("a fresh install is not nagged to verify", {**scheduled(verifies=True), "backups": daily(3)}, {}),
    ("a drill passed", {"last_drill": drill("passed", days=34)}, {}),
    ("a drill failed", {"last_drill": drill("failed", days=1)}, {"drill_failed": "critical"}),
    ("a drill was not possible", {"last_drill": drill("error", days=1)}, {"drill_failed": "warning"}),
    ("a superuser drilled", {"last_drill": superuser_drill()}, {"drill_as_superuser": "warning"}),
    ("the last drill is old", {"last_drill": drill("passed", days=36)}, {"drill_old": "warning"}),
    ("drills are scheduled and new", {**scheduled(drills=True), "backups": daily(9)}, {}),
    ("never drilled, as planned", {**scheduled(drills=True), "backups": daily(37)}, {"drill_old": "warning"}),
    ("never drilled, as nobody planned", {"backups": daily(37)}, {}),
    ("a restore keeps something", {"kept": (KeptAside("database", "x_previous_1", 5, ago(hours=-1)),)}, {}),
    ("it changed", {"kept": (KeptAside("files", "/x", 5, ago(hours=1), "it changed"),)}, {"kept_changed": "warning"}),
    ("expiry is frozen", {"frozen": ("x has 3 rows, 99 % fewer than y (300).",)}, {"expiry_frozen": "warning"}),
    ("never verified", {**scheduled(verifies=True), "backups": daily(9)}, {"never_verified": "warning"}),
    ("verifying is not scheduled", {**scheduled(), "backups": daily(9)}, {}),
    (
        "verified long ago",
        {**scheduled(verifies=True), "last_success": {"verify": run("ok", ago(days=8, seconds=1), "verify")}},
        {"verify_old": "warning"},
    ),
    ("a jump", {"clock_jumps": (ClockJump(ago(hours=24), -3600),)}, {"clock_jumped": "warning"}),
    ("a jump long ago", {"clock_jumps": (ClockJump(ago(hours=24, seconds=1), -3600),)}, {}),
    ("five minutes ahead", {"backups": (backup(ago(minutes=-5)), *daily(3))}, {}),
    ("dated in the future", {"backups": (backup(ago(minutes=-6)), *daily(3))}, {"clock_ahead": "warning"}),
    ("all in the future", {"backups": (backup(ago(days=-9)),)}, {"clock_ahead": "critical"}),
    (
        "one of the future does not hide that the others are old",
        {"backups": (backup(ago(days=-300)), backup(ago(hours=49)))},
        {"clock_ahead": "warning", "backup_too_old": "critical"},
    ),
    ("a channel fails", {"channels_failing": ("slack",)}, {"channel_failing": "warning"}),
    ("a restore died", {"unfinished_restores": ("20261123_1",)}, {"restore_unfinished": "critical"}),
    ("a repository without a kit", {"repository": RepositoryFacts("/r")}, {}),
    ("a kit that nobody proved", {"repository": RepositoryFacts("/r", "unproven")}, {"kit_unproven": "critical"}),
    ("a proven kit", {"repository": RepositoryFacts("/r", "proven", ago(days=1))}, {}),
    (
        "a manifest does not open",
        {"repository": RepositoryFacts("/r", troubles=("One.", "Another."))},
        {"repository_trouble": "warning"},
    ),
    (
        "a write-only host lists nothing",
        {
            "repository": RepositoryFacts("/r", troubles=("It reads none.",), writes_only=True),
            "backups": (),
            "last_success": {"backup": run("ok", ago(hours=1))},
        },
        {},
    ),
    (
        "a write-only host that took none",
        {"repository": RepositoryFacts("/r", writes_only=True), "backups": (), "last_success": {}},
        {"no_backup": "critical"},
    ),
    ("a feature is missing", {"unavailable": ("BACKUP_ENCRYPTION",)}, {"setting_unavailable": "critical"}),
    ("the state is broken", {"troubles": (Trouble("state_unreadable", "x.", ""),)}, {"state_unreadable": "critical"}),
    (
        "who can't look does not say that there is nothing",
        {"troubles": (Trouble("folder_hangs", "x.", ""),), "backups": ()},
        {"folder_hangs": "critical"},
    ),
)


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_reason_at_its_boundary(changes: dict[str, Any], expected: dict[str, str]) -> None:
    facts = well(**changes)
    assert found(facts) == expected
    worst = "critical" if "critical" in expected.values() else "warning" if expected else "healthy"
    assert judged(facts).status == worst
    off = judged(replace(facts, enabled=False))
    assert off.status == "disabled"
    assert {reason.code for reason in off.reasons} == set(expected) - {"schedule_not_running"}


def test_every_reason_has_figures_or_names_and_a_next_step() -> None:
    for _, changes, _ in CASES:
        for reason in judged(well(**{**changes, "troubles": ()})).reasons:
            assert reason.hint
            assert reason.message.endswith(".") or reason.code == "last_run_degraded"
            assert any(mark in reason.hint for mark in ("`", "BACKUP_", "MAX_BACKUPS", "NTP", "Unset"))


def test_the_limits_are_the_settings() -> None:
    old = well(backups=(backup(ago(days=20)),))
    assert found(old, HealthLimits(max_age=None)) == {}
    assert found(well(**newest_of(60 * MB)), HealthLimits(growth=49)) == {"grew": "warning"}


def test_the_answer_has_the_manuals_keys_first() -> None:
    answer = judged(well()).to_json()
    assert tuple(answer)[: len(MANUAL)] == MANUAL
    assert answer["total_size_mb"] == 400.0
    assert answer["most_recent_backup"] == {
        "backup_name": "radiology_backup_20261123_100000",
        "datetime": "2026-11-23T10:00:00",
        "size_mb": 40.0,
    }
    assert answer["hours_since_last_backup"] == 2.0
    assert answer["rpo_seconds"] == 7200.0
    assert answer["checked_at"] == "2026-11-23T12:00:00.000+00:00"
    assert answer["last_run"]["outcome"] == "ok"
    assert answer["trend"]["success_rate_30_days"] == 100.0


def test_without_a_backup_there_are_nulls() -> None:
    answer = judged(HealthFacts("radiology", True, "/app/backups", 30, 50)).to_json()
    nulls = {key for key, value in answer.items() if value is None}
    assert nulls >= {"most_recent_backup", "hours_since_last_backup", "rpo_seconds", "last_run", "last_success_at"}
    assert answer["total_backups"] == 0
    assert answer["status"] == "critical"


def test_sizes_are_rounded_as_in_the_list() -> None:
    for size in (1, 524, 525, 47496167, 47500493, 2**53 + 1):
        assert judged(well(backups=(backup(NOW, size),))).to_json()["total_size_mb"] == megabytes(size)


def test_ages_are_never_negative_when_the_clock_went_back() -> None:
    answer = judged(well(backups=(backup(ago(hours=-5)),))).to_json()
    assert answer["hours_since_last_backup"] == 0.0
    assert answer["rpo_seconds"] == 0.0


def test_the_trend_says_when_the_disk_is_full() -> None:
    growing = tuple(backup(ago(days=day, hours=2), (100 - day) * MB) for day in range(31))
    # 30 backups are kept, one more a day; each is a MB larger than the one before: 30 MB a day.
    trend = judged(well(backups=growing[:30], disk=Disk(3000 * MB, 9000 * MB))).to_json()["trend"]
    assert trend["size_change_mb_per_day"] == 1.0
    assert trend["growth_percent_30_days"] == 40.8
    assert trend["average_size_mb_7_days"] == 97.0
    assert trend["projected_days_until_full"] == pytest.approx(100, abs=4)
    # Ten are there, and twenty more of 100 MB are to come: 500 MB are full after five days.
    filling = judged(well(backups=growing[:10], disk=Disk(500 * MB, 9000 * MB))).to_json()["trend"]
    assert filling["projected_days_until_full"] == 5.0
    assert judged(well(backups=daily(30))).to_json()["trend"]["projected_days_until_full"] is None


moments = st.integers(-400 * 86400, 400 * 86400).map(lambda seconds: NOW - timedelta(seconds=seconds))
sizes = st.sampled_from([0, 1, 5 * MB, 40 * MB, 2**60])
records = st.builds(
    backup,
    moments,
    sizes,
    st.none() | sizes,
    st.sampled_from(["good", "foreign", "damaged"]),
    st.sampled_from([LOCAL, BOTH, ("remote",)]),
)
outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["ok", "failed", "degraded"])
runs = st.builds(run, outcomes, moments)
facts_of_any_kind = st.builds(
    well,
    enabled=st.booleans(),
    backups=st.lists(records, max_size=12).map(tuple),
    disk=st.none() | st.builds(Disk, sizes, sizes),
    remote=st.none() | st.builds(RemoteFacts, st.just("/r"), st.sampled_from(["", "gone."])),
    last_backups=st.lists(runs, max_size=4).map(tuple),
    last_verifies=st.lists(runs, max_size=4).map(tuple),
    last_success=st.dictionaries(st.sampled_from(["backup", "verify"]), runs),
    last_end=st.dictionaries(st.sampled_from(["backup", "verify"]), runs),
    counts=st.dictionaries(st.tuples(st.just("backup"), outcomes), st.integers(0, 50)),
    schedule=st.none()
    | st.builds(ScheduleFacts, st.none() | moments, overdue=st.dictionaries(st.just("backup"), moments)),
    clock_jumps=st.lists(st.builds(ClockJump, moments, st.floats(-1e6, 1e6)), max_size=2),
    max_backups=st.integers(1, 100),
)
limits_of_any_kind = st.builds(
    HealthLimits, st.none() | st.integers(1, 10**7).map(float), st.sampled_from([1, 50, 10_000])
)
RANK = {"healthy": 0, "warning": 1, "critical": 2}


@given(facts_of_any_kind, limits_of_any_kind)
def test_whatever_the_facts_it_answers(facts: HealthFacts, limits: HealthLimits) -> None:
    report = assess(facts, limits, NOW)
    answer = report.to_json()
    codes = [reason.code for reason in report.reasons]
    assert len(codes) == len(set(codes))
    assert (answer["hours_since_last_backup"] is None) == (answer["most_recent_backup"] is None)
    assert (answer["hours_since_last_backup"] or 0) >= 0
    assert (answer["rpo_seconds"] or 0) >= 0
    assert (report.status == "healthy") == (facts.enabled and not codes)
    assert [reason.severity for reason in report.reasons] == sorted(reason.severity for reason in report.reasons)


@given(facts_of_any_kind, limits_of_any_kind, st.integers(0, 10**7))
def test_a_smaller_disk_or_a_stricter_age_is_never_better(facts: HealthFacts, limits: HealthLimits, less: int) -> None:
    enabled = replace(facts, enabled=True)
    before = RANK[assess(enabled, limits, NOW).status]
    if facts.disk is not None:
        tighter = replace(enabled, disk=Disk(max(0, facts.disk.free - less), facts.disk.total))
        assert RANK[assess(tighter, limits, NOW).status] >= before
    stricter = HealthLimits(max(1.0, (limits.max_age or 10**8) - less), limits.growth)
    assert RANK[assess(enabled, stricter, NOW).status] >= before
    worse = replace(enabled, last_backups=(run("failed", NOW), *facts.last_backups))
    codes = {reason.code for reason in assess(worse, limits, NOW).reasons}
    assert "last_run_failed" in codes


def test_the_last_run_failed_says_how_often_and_why() -> None:
    (reason,) = judged(well(**failing(ago(hours=1), ago(hours=2), ago(hours=3)))).reasons
    assert reason.message == "The last 3 backups failed, the latest 1.0 h ago: pg_dump failed."
    assert LIMITS.max_age == 172800.0


def test_of_a_repository_its_own_place_is_named() -> None:
    here, cloud = RepositoryFacts("/mnt/r"), RepositoryFacts("s3://b/r")
    full = {"disk": Disk(40 * MB - 1, 50 * MB)}
    assert "free in /mnt/r," in judged(well(**full, repository=here)).reasons[0].message
    assert "s3:" not in judged(well(**full, repository=cloud)).reasons[0].message
    assert judged(well(backups=(), repository=cloud)).reasons[0].message.endswith(" in s3://b/r.")
