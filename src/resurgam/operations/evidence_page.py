"""Draws the evidence as one HTML file that fetches nothing, escapes all text, and prints well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from resurgam.counting import count_text

_STYLE = """
body { font: 11pt/1.45 Georgia, serif; color: #1b1f24; max-width: 62em; margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.7em; margin-bottom: 0; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #bbb; }
p.lead { color: #555; margin-top: .2em; } table { border-collapse: collapse; width: 100%; font-size: .85em; }
th, td { text-align: left; vertical-align: top; padding: .25em .6em .25em 0; border-bottom: 1px solid #ddd; }
td.number { text-align: right; white-space: nowrap; } code { font-size: .85em; overflow-wrap: anywhere; }
.good { color: #1a6b2f; } .bad { color: #a3191f; font-weight: bold; } .weak { color: #8a5a00; }
@media print { body { margin: 0; max-width: none; } h2 { page-break-after: avoid; } tr { page-break-inside: avoid; } }
"""
_GOOD = frozenset({"ok", "passed"})
_BAD = frozenset({"failed", "died"})

# Rule, what it asks for, what this report shows of it, what it does not.
_RULES = (
    (
        "164.308(a)(7)(ii)(A)",
        "Data backup plan: exact copies of electronic protected health information can be retrieved.",
        "That backups were taken, when, and with what result; that drills retrieved them, and whether what came back "
        "was equal to what was backed up.",
        "That everything that must be backed up is named in the settings.",
    ),
    (
        "164.308(a)(7)(ii)(B)",
        "Disaster recovery plan: procedures to restore any loss of data.",
        "That the restore itself was carried out (drills, restores), and how long it took.",
        "The written procedure, who carries it out, and where the replacement machine comes from.",
    ),
    (
        "164.308(a)(7)(ii)(C)",
        "Emergency mode operation plan: critical processes go on while in emergency mode.",
        "How long the data would be away (RTO) and how much could be lost (RPO).",
        "How the organisation works in the meantime: that is no matter of backups.",
    ),
    (
        "164.308(a)(7)(ii)(D)",
        "Testing and revision of contingency plans.",
        "Each test of the restore by a drill, with its date, its assertions, and every difference; failed ones too.",
        "That the plan was revised after a failure.",
    ),
    (
        "164.312(b)",
        "Audit controls.",
        "Whether the audit log of backups and restores is whole, and its last digest.",
        "Access to the application and to the database, which have logs of their own; and, without a copy of that "
        "digest kept elsewhere, that nobody with access to the state file made the whole log anew.",
    ),
    (
        "164.312(c)(1), (c)(2)",
        "Integrity: data were not altered or destroyed; mechanisms to authenticate them.",
        "Verifications of stored backups to the last byte; comparisons of restored data with what was backed up.",
        "That the data were right when they were backed up; and who made a backup, as archives are not signed.",
    ),
    (
        "164.312(a)(2)(iv), (e)(2)(ii)",
        "Encryption, at rest and in transmission (addressable).",
        "Nothing.",
        "Encryption of the disks that hold backups, and of the connection to the database: see how they are set up.",
    ),
)


def evidence_page(report: dict[str, Any]) -> str:
    """The page, as text."""
    title = f"Backup evidence: {report['application']}"
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{_day(report["since"])} to {_day(report["until"])}; made {_moment(report["made_at"])} '
        f"by Resurgam {escape(report['resurgam_version'])}</p>",
        *_summary(report),
        *_rules(),
        *_runs("Backups", report["backups"]),
        *_runs("Verifications", report["verifications"]),
        *_drills(report["drills"]),
        *_runs("Restores", report["restores"]),
        *_chain(report),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _summary(report: dict[str, Any]) -> Iterable[str]:
    rpo, rto, counts = report["rpo"], report["rto"], report["counts"]
    met = {True: "as wanted", False: "MORE than wanted", None: "no limit was set"}[rpo["met"]]
    rows = [
        ("Backups", _outcomes(counts["backup"])),
        ("Verifications", _outcomes(counts["verify"])),
        ("Drills", _outcomes(counts["drill"])),
        ("Longest time without a new backup (RPO)", _text(f"{_duration(rpo['longest_seconds'])} ({met})")),
        ("Restore time by drills that passed (RTO), median", _text(_duration(rto["median_seconds"]))),
        ("Restore time, longest", _text(_duration(rto["longest_seconds"]))),
    ]
    yield "<h2>Summary</h2><table>"
    yield from (f"<tr><th>{escape(head)}</th><td>{value}</td></tr>" for head, value in rows)
    yield "</table>"


def _rules() -> Iterable[str]:
    yield "<h2>What this shows, and what it does not (HIPAA Security Rule, 45 CFR)</h2>"
    yield from _table(
        ("Section", "Asks for", "Shown here", "Not shown"),
        ([_text(cell) for cell in rule] for rule in _RULES),
    )


def _runs(title: str, runs: Sequence[dict[str, Any]]) -> Iterable[str]:
    yield f"<h2>{escape(title)}</h2>"
    if not runs:
        yield "<p>None in this period.</p>"
        return
    yield from _table(
        ("Begun (UTC)", "Backup", "Result", "Time", "Size", "By", "Reason"),
        (
            [
                _moment(run["started_at"]),
                f"<code>{_text(run['target'])}</code>",
                _result(run["outcome"]),
                _text(_duration(run["seconds"])),
                _text(_size(run["size_bytes"])),
                _text(run["asked_by"]),
                _text(run["reason"]),
            ]
            for run in runs
        ),
    )


def _drills(drills: Sequence[dict[str, Any]]) -> Iterable[str]:
    yield "<h2>Drills</h2>"
    if not drills:
        yield "<p>None in this period: no restore was rehearsed.</p>"
        return
    yield from _table(
        ("Begun (UTC)", "Backup", "Result", "RTO", "RPO", "Found", "Differences", "Evidence (SHA-256)"),
        (
            [
                _moment(drill["started_at"]),
                f"<code>{_text(drill['backup_name'])}</code>",
                _result(drill["outcome"]),
                _text(_duration(drill["rto_seconds"])),
                _text(_duration(drill["rpo_seconds"])),
                _text(_found(drill)),
                _text(" ".join(map(str, drill["differences"])) or "none"),
                f"<code>{_text(drill['digest'] or 'none')}</code> {_anchor(drill)}",
            ]
            for drill in drills
        ),
    )


def _found(drill: dict[str, Any]) -> str:
    rows, files = drill["rows"], drill["files"]
    counted = [
        count_text(rows, "row") if type(rows) is int else "",
        count_text(files, "file") if type(files) is int else "",
    ]
    asked = count_text(drill["assertions"], "assertion") if drill["assertions"] else ""
    unloaded = (
        f"{count_text(len(drill['not_loaded']), 'kind')} of things compared by their text alone"
        if drill["not_loaded"]
        else ""
    )
    rights = "loaded as a superuser" if drill["rights"] == "superuser" else ""
    parts = (*counted, asked, f"fingerprint {drill['fingerprint']}", unloaded, rights)
    return ", ".join(part for part in parts if part)


def _anchor(drill: dict[str, Any]) -> str:
    if not drill["digest"]:
        return ""
    if not drill["intact"]:
        return '<span class="bad">the kept report was changed</span>'
    if not drill["anchored"]:
        return '<span class="bad">the audit log does not name it</span>'
    return '<span class="good">named in the audit log</span>'


def _chain(report: dict[str, Any]) -> Iterable[str]:
    audit = report["audit"]
    last = audit["last"]
    yield "<h2>Digests</h2><table>"
    whole = '<span class="good">whole</span>' if audit["success"] else '<span class="bad">not whole</span>'
    yield f"<tr><th>Audit log</th><td>{whole}, {count_text(audit['entries'], 'entry', 'entries')}</td></tr>"
    for problem in audit["problems"]:
        yield f'<tr><th></th><td class="bad">{_text(problem)}</td></tr>'
    if last is not None:
        yield f"<tr><th>Its last entry</th><td>{last['id']}, <code>{_text(last['digest'])}</code></td></tr>"
    own = f"<code>{_text(report['digest'])}</code>, which the audit log's next entries name"
    yield f"<tr><th>This report</th><td>{own}</td></tr>"
    yield "</table><p>Keep the last entry's number and digest outside of this machine: who may write the state file"
    yield "could make all of the log anew. <code>resurgam evidence --json</code> has the same figures for programs.</p>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """`rows` are cells of HTML."""
    yield f"<table><thead><tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr></thead><tbody>"
    yield from (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    yield "</tbody></table>"


def _outcomes(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {_result(outcome)}" for outcome, count in sorted(counts.items())) or "none"


def _result(outcome: str) -> str:
    kind = "good" if outcome in _GOOD else "bad" if outcome in _BAD else "weak"
    return f'<span class="{kind}">{_text(outcome)}</span>'


def _text(value: object) -> str:
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value)))


def _moment(text: str) -> str:
    return _text(text[:19].replace("T", " "))


def _day(text: str) -> str:
    return _text(text[:10])


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: object) -> str:
    return f"{size / 1048576:,.1f} MB" if type(size) is int else ""
