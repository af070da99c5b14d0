"""/metrics: health as Prometheus reads it. Every answer has a registry of its own, so nothing outlives it.

Moments are told as seconds since 1970, and ages left to the rules: `time() - moment` goes on growing when nobody
answers. deploy/prometheus-alerts.yml and deploy/grafana-dashboard.json are written to these names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from resurgam import __version__
from resurgam.catalog.history import KINDS
from resurgam.policy.health import STATUSES, HealthReport

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_OUTCOMES = ("ok", "degraded", "failed", "refused", "cancelled")

Samples = Iterable[tuple[tuple[str, ...], float]]


def render(report: HealthReport) -> bytes:
    """The metrics of one application in Prometheus' text format (`CONTENT_TYPE`)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(report))
    return generate_latest(registry)


class _Collector:
    def __init__(self, report: HealthReport) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        yield from self._status()
        yield from self._backups()
        yield from self._runs()
        yield from self._drills()
        yield from self._surroundings()

    def _gauge(self, name: str, documentation: str, labels: tuple[str, ...], samples: Samples) -> Metric:
        family = GaugeMetricFamily(f"resurgam_{name}", documentation, labels=("application", *labels))
        for values, value in samples:
            family.add_metric((self._report.facts.application, *values), value)
        return family

    def _status(self) -> Iterator[Metric]:
        report = self._report
        yield self._gauge("up", "1: this Resurgam answers.", (), [((), 1)])
        yield self._gauge("build_info", "Which Resurgam answers.", ("version",), [((__version__,), 1)])
        yield self._gauge(
            "health_status",
            "1 for the present status, 0 for the others.",
            ("status",),
            [((status,), float(status == report.status)) for status in STATUSES],
        )
        yield self._gauge(
            "health_reason",
            "1 for each reason why it is not healthy.",
            ("code", "severity"),
            [(pair, 1) for pair in sorted({(one.code, one.severity) for one in report.reasons})],
        )
        yield self._gauge("checked_timestamp_seconds", "When this was found.", (), _moment(report.checked_at))

    def _backups(self) -> Iterator[Metric]:
        report, facts = self._report, self._report.facts
        newest = report.newest
        yield self._gauge("backups", "How many backups there are.", (), [((), len(facts.backups))])
        total = sum(one.size for one in facts.backups)
        yield self._gauge("backups_size_bytes", "The size of all backups.", (), [((), total)])
        yield self._gauge(
            "last_backup_timestamp_seconds",
            "The moment to which the newest backup brings the data back.",
            (),
            _moment(report.recovered_to),
        )
        yield self._gauge(
            "rpo_age_seconds",
            "How much work a restore would lose.",
            (),
            [((), report.rpo_seconds)] if report.rpo_seconds is not None else [],
        )
        yield self._gauge(
            "max_age_seconds",
            "How old the newest backup may be (BACKUP_MAX_AGE); none: as old as it likes.",
            (),
            [((), report.max_age)] if report.max_age is not None else [],
        )
        sizes: tuple[tuple[str, str, int | None], ...] = (
            ("last_backup_size_bytes", "The size of the newest backup.", newest.size if newest else None),
            (
                "last_backup_database_size_bytes",
                "The size of the database's dump in the newest backup.",
                newest.database_size if newest else None,
            ),
        )
        for name, documentation, size in sizes:
            yield self._gauge(name, documentation, (), [] if size is None else [((), size)])

    def _runs(self) -> Iterator[Metric]:
        facts = self._report.facts
        yield self._gauge(
            "last_success_timestamp_seconds",
            "When a run of this kind last succeeded.",
            ("kind",),
            [((kind,), run.finished_at.timestamp()) for kind, run in sorted(facts.last_success.items())],
        )
        yield self._gauge(
            "last_run_duration_seconds",
            "How long the last run of this kind took.",
            ("kind",),
            [((kind,), run.seconds) for kind, run in sorted(facts.last_end.items())],
        )
        yield self._gauge(
            "last_run_failed",
            "1 if the last run of this kind failed.",
            ("kind",),
            [((kind,), float(run.outcome == "failed")) for kind, run in sorted(facts.last_end.items())],
        )
        yield self._gauge(
            "runs_30_days",
            "Runs of the last 30 days.",
            ("kind", "outcome"),
            [((kind, how), facts.counts.get((kind, how), 0)) for kind in KINDS for how in _OUTCOMES],
        )
        running = {job.kind for job in facts.running}
        yield self._gauge(
            "job_running",
            "1 while a job of this kind is under way.",
            ("kind",),
            [((kind,), float(kind in running)) for kind in sorted({*KINDS, *running})],
        )

    def _drills(self) -> Iterator[Metric]:
        drill = self._report.facts.last_drill
        yield self._gauge(
            "last_drill_timestamp_seconds",
            "When the last drill ended, whatever came of it.",
            (),
            _moment(drill.finished_at if drill else None),
        )
        yield self._gauge(
            "last_drill_success",
            "1 if the last drill gave back what was backed up.",
            (),
            [((), float(drill.outcome == "passed"))] if drill else [],
        )
        yield self._gauge(
            "drill_rto_seconds",
            "How long a restore takes, by the last drill.",
            (),
            [((), drill.rto)] if drill and drill.rto is not None else [],
        )

    def _surroundings(self) -> Iterator[Metric]:
        facts, schedule = self._report.facts, self._report.facts.schedule
        disks = [("local", facts.disk), ("remote", facts.remote.disk if facts.remote else None)]
        known = [(location, disk) for location, disk in disks if disk is not None]
        yield self._gauge(
            "disk_free_bytes", "The free room.", ("location",), [((where,), disk.free) for where, disk in known]
        )
        yield self._gauge(
            "disk_total_bytes", "All the room.", ("location",), [((where,), disk.total) for where, disk in known]
        )
        yield self._gauge(
            "remote_behind",
            "How many of the newest backups have no remote copy.",
            (),
            [((), self._report.behind)] if facts.remote else [],
        )
        yield self._gauge(
            "remote_readable",
            "1 if the remote folder can be read.",
            (),
            [((), float(not facts.remote.problem))] if facts.remote else [],
        )
        yield self._gauge(
            "schedule_next_timestamp_seconds",
            "When the built-in schedule runs this task next.",
            ("task",),
            [((task,), due.timestamp()) for task, due in sorted(schedule.next_due.items())] if schedule else [],
        )
        yield self._gauge(
            "schedule_heartbeat_timestamp_seconds",
            "When the service's loop was last seen alive.",
            (),
            _moment(schedule.heartbeat if schedule else None),
        )
        yield self._gauge(
            "channel_failing", "How many channels for messages fail.", (), [((), len(facts.channels_failing))]
        )


def _moment(moment: datetime | None) -> list[tuple[tuple[str, ...], float]]:
    return [] if moment is None else [((), moment.timestamp())]
