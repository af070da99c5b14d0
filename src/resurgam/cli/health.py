"""`resurgam health`: does it go well, what does not, and what to do about it."""

from __future__ import annotations

from typing import Any

from resurgam.cli import exits
from resurgam.cli.face import Face, JsonOption
from resurgam.cli.wording import columns, moment_text, printable, seconds_text, size_text
from resurgam.counting import count_text

_CODES = {"healthy": exits.OK, "disabled": exits.OK, "warning": exits.DEGRADED, "critical": exits.FAILED}


def health(json: JsonOption = False) -> int:
    """Say whether the backups are well.

    Every reason why not, with what to do, and the figures. Exits 0 if healthy (or if BACKUP_ENABLED is false),
    3 with a warning, 1 if critical. Changes nothing.
    """
    face = Face(json)
    with face.service() as service:
        report = service.health()
    answer = report.to_json()
    face.answer(answer, "" if json else _text(answer))
    return _CODES[report.status]


def _text(answer: dict[str, Any]) -> str:
    lines = [f"Status: {answer['status']}"]
    for reason in answer["reasons"]:
        lines += [f"  {reason['severity'].upper():<8}  {reason['message']}", f"            {reason['hint']}"]
    return "\n".join(map(printable, [*lines, "", *columns(("FIGURE", ""), _figures(answer)).splitlines()[1:]]))


_KITS = {
    "none": "none was made: the passphrase alone opens the repository",
    "unproven": "never proven",
    "proven": "proven",
}


def _figures(answer: dict[str, Any]) -> list[tuple[str, str]]:
    newest, trend, disk, last = (answer[key] for key in ("most_recent_backup", "trend", "disk", "last_run"))
    total = f"{count_text(answer['total_backups'], 'backup')}, {_mb(answer['total_size_mb'])}"
    repository = answer["repository"]
    place = answer["backup_directory"] if repository is None else repository["url"]
    rows = [("backups", f"{total} in {place}")]
    if newest:
        taken = f"{moment_text(newest['datetime'])}, {_mb(newest['size_mb'])}"
        rows += [
            ("newest", f"{newest['backup_name']}, {taken}"),
            ("a restore loses", f"what was done in the last {seconds_text(answer['rpo_seconds'])}"),
        ]
    if last:
        took = seconds_text(last["duration_seconds"])
        rows.append(("last run", f"{last['outcome']}, {_moment(last['finished_at'])}, took {took}"))
    if trend["success_rate_30_days"] is not None:
        runs = count_text(trend["runs_30_days"], "run")
        rows.append(("last 30 days", f"{trend['success_rate_30_days']:g} % of {runs} succeeded"))
    if trend["growth_percent_30_days"] is not None:
        rows.append(("growth", f"{trend['growth_percent_30_days'] or 0.0:+g} % in 30 days"))
    if answer["last_verified_at"]:
        rows.append(("last verified", _moment(answer["last_verified_at"])))
    if answer["next_scheduled_at"]:
        rows.append(("next scheduled", _moment(answer["next_scheduled_at"])))
    if disk:
        share = disk["free_bytes"] / disk["total_bytes"] if disk["total_bytes"] else 0
        rows.append(("free", f"{size_text(disk['free_bytes'])} ({share:.0%})"))
    if repository is not None:
        held = f"{size_text(repository['size_bytes'])}, in which they share what is the same"
        rows += [("repository", held), ("recovery kit", _KITS[repository["recovery_kit"]])]
    if trend["projected_days_until_full"] is not None:
        rows.append(("full in", f"{trend['projected_days_until_full']:g} d, if it goes on like this"))
    if answer["running_job_id"] is not None:
        rows.append(("under way", f"job {answer['running_job_id']}"))
    return rows


def _mb(megabytes: float) -> str:
    return size_text(round(megabytes * (1 << 20)))


def _moment(iso: str) -> str:
    return moment_text(iso.partition("+")[0].partition(".")[0])
