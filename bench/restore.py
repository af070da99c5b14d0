"""Restoring the database: against `psql -f` of the same dump, and beside pg_restore with two jobs."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg

from bench import measure, report
from bench.backup import RESURGAM
from bench.lab import DATABASE, Lab

_FORMS = ("c", "d")


def run(lab: Lab, pairs: int, peers: int) -> list[report.Line]:
    """Measure in rounds whose order alternates; every restore meets the live database, as in an accident."""
    name, _ = make_backup(lab)
    ours, plain, full, peaks = [], [], [], []
    forms: dict[str, list[float]] = {form: [] for form in _FORMS if peers}
    for form in forms:
        measure.run(["pg_dump", f"-F{form}", "-d", DATABASE, "-f", _custom(lab, form)], lab.environment())
    _psql(lab)  # not counted: the first of all meets memory that the system has yet to get
    for number in range(pairs):
        if number % 2:
            plain.append(_psql(lab))
        done = _restore(lab, name)
        ours.append(done.seconds)
        peaks.append(done.memory)
        if not number % 2:
            plain.append(_psql(lab))
        done = _restore(lab, name, "--check", "full")
        full.append(done.seconds)
        peaks.append(done.memory)
        for form, times in forms.items():
            times.append(_pg_restore(lab, form))
        said = f"ours {ours[-1]:.2f} s, with the whole fingerprint {full[-1]:.2f} s, psql {plain[-1]:.2f} s"
        others = "".join(f", pg_restore -F{form} {times[-1]:.2f} s" for form, times in forms.items())
        print(f"  pair {number + 1}: {said}{others}", flush=True)
    return [
        report.ratio("restore of the database / psql -X -q -f", ours, plain, 0.75),
        report.ratio("restore --check full / psql -X -q -f", full, plain, 1.0),
        report.memory("restore, peak memory of our processes", peaks, 256),
        *(report.ratio(f"restore / pg_restore -j2 from -F{form}", ours, times, 1.0) for form, times in forms.items()),
    ]


def make_backup(lab: Lab) -> tuple[str, measure.Run]:
    """Take a backup; its name, and how it went."""
    (lab.work / "backups").mkdir(exist_ok=True)
    done = measure.run([*RESURGAM, "backup", "--json"], lab.environment())
    name = json.loads(done.output[done.output.index("{") : done.output.rindex("}") + 1])["backup_name"]
    assert isinstance(name, str)
    return name, done


def _restore(lab: Lab, name: str, *more: str) -> measure.Run:
    """Without the backup of the present state that a restore takes first: the others take none either."""
    lab.sql("CHECKPOINT")
    environment = {**lab.environment(), "RESTORE_SAFETY_BACKUP": "false"}
    done = measure.run([*RESURGAM, "restore", name, "--yes", "--only", "database", *more], environment)
    # What it kept for an undo goes, so that every run meets the same disk.
    with psycopg.connect(lab.server.dsn(), autocommit=True) as session:
        rows = session.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %s", (DATABASE + r"\_previous\_%",)
        ).fetchall()
    lab.sql(*[f'DROP DATABASE "{previous}" WITH (FORCE)' for (previous,) in rows], "CHECKPOINT")
    return done


def _fresh(lab: Lab) -> None:
    lab.sql("DROP DATABASE IF EXISTS other WITH (FORCE)", "CREATE DATABASE other TEMPLATE template0", "CHECKPOINT")


def _psql(lab: Lab) -> float:
    _fresh(lab)
    command: list[str | Path] = ["psql", "-X", "-q", "-d", "other", "-f", lab.dump]
    seconds = measure.run(command, lab.environment()).seconds
    lab.sql("DROP DATABASE other WITH (FORCE)", "CHECKPOINT")
    return seconds


def _custom(lab: Lab, form: str) -> Path:
    return lab.work / f"dump-{form}"


def _pg_restore(lab: Lab, form: str) -> float:
    _fresh(lab)
    command: list[str | Path] = ["pg_restore", "-j2", "-d", "other", _custom(lab, form)]
    seconds = measure.run(command, lab.environment()).seconds
    lab.sql("DROP DATABASE other WITH (FORCE)", "CHECKPOINT")
    return seconds
