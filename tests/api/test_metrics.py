"""/metrics: what Prometheus reads is what health found."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import prometheus_client
from prometheus_client.parser import text_string_to_metric_families

from resurgam.api.metrics import render
from resurgam.policy.health import HealthFacts, HealthReport
from resurgam.policy.health_facts import Disk, RemoteFacts, Running, ScheduleFacts
from tests.policy.health_scenes import MB, NOW, ago, backup, daily, judged, run, well


def samples(report: HealthReport) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Name and labels (without the application's, which all have) to value."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(render(report).decode()):
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("application") == report.facts.application
            key = (sample.name, frozenset(labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(report: HealthReport, name: str, **labels: str) -> float | None:
    return samples(report).get((f"resurgam_{name}", frozenset(labels.items())))


def rich() -> HealthFacts:
    return replace(
        well(backups=daily(3, size=7 * MB, locations=("local", "remote")), disk=Disk(600 << 30, 1000 << 30)),
        remote=RemoteFacts("/mnt/remote", disk=Disk(10, 100)),
        schedule=ScheduleFacts(ago(seconds=30), {"backup": ago(hours=-14), "verify": ago(days=-3)}),
        last_success={"backup": run("ok", ago(hours=2)), "verify": run("ok", ago(days=1), "verify")},
        running=(Running(9, "restore"),),
        channels_failing=("mail", "slack"),
        counts={("backup", "ok"): 29, ("backup", "failed"): 1},
    )


def test_the_figures_are_those_of_health() -> None:
    report = judged(rich())
    expected: list[tuple[float, str, dict[str, str]]] = [
        (1, "up", {}),
        (0, "health_status", {"status": "healthy"}),
        (1, "health_status", {"status": "warning"}),
        (1, "health_reason", {"code": "channel_failing", "severity": "warning"}),
        (3, "backups", {}),
        (21 * MB, "backups_size_bytes", {}),
        (ago(hours=2).timestamp(), "last_backup_timestamp_seconds", {}),
        (7200, "rpo_age_seconds", {}),
        (7 * MB, "last_backup_size_bytes", {}),
        (200 * MB, "last_backup_database_size_bytes", {}),
        (ago(days=1).timestamp(), "last_success_timestamp_seconds", {"kind": "verify"}),
        (30, "last_run_duration_seconds", {"kind": "backup"}),
        (0, "last_run_failed", {"kind": "backup"}),
        (29, "runs_30_days", {"kind": "backup", "outcome": "ok"}),
        (1, "runs_30_days", {"kind": "backup", "outcome": "failed"}),
        (0, "runs_30_days", {"kind": "restore", "outcome": "cancelled"}),
        (1, "job_running", {"kind": "restore"}),
        (0, "job_running", {"kind": "backup"}),
        (600 << 30, "disk_free_bytes", {"location": "local"}),
        (100, "disk_total_bytes", {"location": "remote"}),
        (0, "remote_behind", {}),
        (1, "remote_readable", {}),
        (ago(hours=-14).timestamp(), "schedule_next_timestamp_seconds", {"task": "backup"}),
        (ago(seconds=30).timestamp(), "schedule_heartbeat_timestamp_seconds", {}),
        (2, "channel_failing", {}),
        (NOW.timestamp(), "checked_timestamp_seconds", {}),
    ]
    assert [(value(report, name, **labels), name) for _, name, labels in expected] == [
        (wanted, name) for wanted, name, _ in expected
    ]


def test_what_is_not_known_is_left_out_rather_than_zero() -> None:
    report = judged(HealthFacts("radiology", True, "/app/backups", 30, 50))
    names = {name for name, _ in samples(report)}
    for absent in ("last_backup_timestamp_seconds", "last_backup_size_bytes", "disk_free_bytes", "remote_behind"):
        assert f"resurgam_{absent}" not in names
    assert value(report, "backups") == 0


def test_exactly_one_status_holds() -> None:
    changes: tuple[dict[str, Any], ...] = ({}, {"backups": ()}, {"enabled": False}, {"channels_failing": ("x",)})
    for change in changes:
        report = judged(well(**change))
        held = [dict(labels)["status"] for (name, labels), one in samples(report).items() if "status" in name and one]
        assert held == [report.status]


def test_a_date_of_the_future_does_not_hide_the_age_of_the_others() -> None:
    report = judged(well(backups=(backup(ago(days=-90)), backup(ago(hours=60)))))
    assert value(report, "last_backup_timestamp_seconds") == ago(hours=60).timestamp()
    assert value(report, "rpo_age_seconds") == 60 * 3600


def test_any_name_is_a_label() -> None:
    report = judged(well(application='a"b\\c\nd'))
    assert value(report, "up") == 1


def test_nothing_is_kept_between_answers() -> None:
    before = prometheus_client.generate_latest()
    for _ in range(3):
        render(judged(rich()))
    assert b"resurgam_" not in prometheus_client.generate_latest()
    assert before.count(b"# TYPE") == prometheus_client.generate_latest().count(b"# TYPE")
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one).__name__ == "_Collector"]
