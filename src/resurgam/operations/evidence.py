"""Evidence: what was backed up, verified, drilled and restored in a period, failures included, for whoever must judge.

A value that is plain JSON. It ends in the audit log's head, and its own digest goes into the audit log in turn, so that
neither can be changed later without the other telling (`evidence_page.py` draws it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from resurgam import __version__
from resurgam.catalog.drills import Drill
from resurgam.catalog.jobs import Job
from resurgam.catalog.moments import to_us
from resurgam.catalog.state import State
from resurgam.policy.drills import digest_of

FORMAT = 1
QUARTER = timedelta(days=92)
_AUDITED = 1_000_000


def gather_evidence(
    state: State, application: str, since: datetime, until: datetime, now: datetime, max_age: float | None
) -> dict[str, Any]:
    """The report on what was begun from `since` on and before `until`. `max_age`: BACKUP_MAX_AGE in seconds."""
    jobs = {kind: _jobs(state, kind, since, until) for kind in ("backup", "verify", "restore", "undo")}
    # How old the newest backup was at the beginning is a part of the loss that was possible.
    before = [job for job in state.jobs.since(to_us(since - QUARTER), "backup") if job.started_at < since]
    check = state.audit.verify()
    anchored = {
        str(entry.details.get("digest"))
        for entry in state.audit.page(_AUDITED)
        if entry.action == "drill evidence" and entry.outcome in ("ok", "failed")
    }
    drills = [_drill(drill, anchored) for drill in state.drills.between(since, until)]
    report: dict[str, Any] = {
        "format": FORMAT,
        "resurgam_version": __version__,
        "application": application,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "made_at": now.isoformat(timespec="seconds"),
        "backups": [_run(job) for job in jobs["backup"]],
        "verifications": [_run(job) for job in jobs["verify"]],
        "drills": drills,
        "restores": [_run(job) for job in (*jobs["restore"], *jobs["undo"])],
        "counts": {
            **{kind: _counted(job.outcome for job in found) for kind, found in jobs.items()},
            "drill": _counted(drill["outcome"] for drill in drills),
        },
        "rpo": _rpo([*before, *jobs["backup"]], since, min(until, now), max_age),
        "rto": _rto(drills),
        "audit": check.to_json(),
    }
    return {**report, "digest": digest_of(report)}


def _jobs(state: State, kind: str, since: datetime, until: datetime) -> list[Job]:
    found = state.jobs.since(to_us(since), kind)
    return [job for job in found if job.started_at < until and job.outcome is not None]


def _run(job: Job) -> dict[str, Any]:
    result = job.details.get("result")
    result = result if isinstance(result, dict) else {}
    begun = job.begun_at or job.started_at
    return {
        "job_id": job.id,
        "kind": job.kind,
        "target": str(result.get("backup_name") or job.target),
        "started_at": job.started_at.isoformat(timespec="seconds"),
        "seconds": round(max(0.0, ((job.finished_at or begun) - begun).total_seconds()), 1),
        "outcome": job.outcome,
        "size_bytes": result.get("size_bytes"),
        "reason": job.reason,
        "asked_by": f"{job.origin} {job.actor}".strip(),
    }


def _drill(drill: Drill, anchored: set[str]) -> dict[str, Any]:
    """`intact`: the kept report still has its digest; `anchored`: the audit log names that digest."""
    report = drill.report
    return {
        "drill_id": drill.id,
        "backup_name": drill.backup,
        "started_at": drill.started_at.isoformat(timespec="seconds"),
        "outcome": drill.outcome,
        "rto_seconds": drill.rto,
        "rpo_seconds": drill.rpo,
        "rows": report.get("rows"),
        "files": report.get("files"),
        "fingerprint": report.get("fingerprint"),
        "assertions": len(report.get("assertions", ())),
        "differences": report.get("differences", []),
        "not_loaded": report.get("not_loaded", []),
        "rights": report.get("rights"),
        "phases": report.get("phases", {}),
        "digest": drill.digest,
        "intact": bool(drill.digest) and digest_of(report) == drill.digest,
        "anchored": drill.digest in anchored,
    }


def _counted(outcomes: Iterable[str | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[str(outcome)] = counts.get(str(outcome), 0) + 1
    return counts


def _rpo(backups: Sequence[Job], since: datetime, end: datetime, max_age: float | None) -> dict[str, Any]:
    """The longest time without a new backup within the period; None where none was whole."""
    moments = sorted(job.started_at for job in backups if job.outcome in ("ok", "degraded") and job.started_at <= end)
    within = [moment for moment in moments if moment >= since]
    earlier = [moment for moment in moments if moment < since]
    marks = [*(earlier[-1:]), *within]
    gaps = [later - max(first, since) for first, later in pairwise([*marks, end])]
    longest = max((gap.total_seconds() for gap in gaps), default=None)
    met = None if longest is None or max_age is None else longest <= max_age
    return {
        "longest_seconds": None if longest is None else round(max(0.0, longest), 1),
        "at_the_end_seconds": round((end - marks[-1]).total_seconds(), 1) if marks else None,
        "wanted_seconds": max_age,
        "met": met,
    }


def _rto(drills: Sequence[dict[str, Any]]) -> dict[str, Any]:
    taken = [
        drill["rto_seconds"] for drill in drills if drill["outcome"] == "passed" and drill["rto_seconds"] is not None
    ]
    if not taken:
        return {"shortest_seconds": None, "median_seconds": None, "longest_seconds": None}
    return {
        "shortest_seconds": round(min(taken), 3),
        "median_seconds": round(float(median(taken)), 3),
        "longest_seconds": round(max(taken), 3),
    }
