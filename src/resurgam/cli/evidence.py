"""`resurgam evidence`: backups, verifications and drills of a period, for whoever must judge them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import Face, JsonOption
from resurgam.errors import StorageError, UsageError


def evidence(
    since: Annotated[str, typer.Option(metavar="DATE", help="From this day on (UTC); else a quarter back.")] = "",
    until: Annotated[str, typer.Option(metavar="DATE", help="To this day's end (UTC); else to now.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the page to this file, rather than to stdout.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Report backups, verifications, drills, RPO and RTO of a period as one HTML page.

    With what it shows of the HIPAA Security Rule and what it does not, failures included. Its digest goes into the
    audit log.
    """
    from resurgam.operations.evidence import QUARTER, gather_evidence
    from resurgam.operations.evidence_page import evidence_page

    face = Face(json)
    with face.service() as service:
        now = service.clock.now()
        end = _day(until, "--until") + timedelta(days=1) if until else now
        begin = _day(since, "--since") if since else end - QUARTER
        if begin >= end:
            raise UsageError("The period ends before it begins; nothing was done.", "Give --since before --until.")
        settings = service.settings
        asked = {"since": begin.isoformat(), "until": end.isoformat()}
        with audited(service, "evidence", settings.app_name, asked) as noted:
            report = gather_evidence(service.state, settings.app_name, begin, end, now, settings.health.max_age)
            noted["digest"] = report["digest"]
            page = evidence_page(report)
            if out is not None:
                _write(out, page)
    told = (
        page.rstrip("\n")
        if out is None
        else f"{out}: the evidence of {settings.app_name}, {begin:%Y-%m-%d} to {end:%Y-%m-%d}."
    )
    face.answer(report, told)
    return exits.OK


def _day(text: str, option: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(f"{option} must be a day as 2026-01-31; nothing was done.") from None


def _write(path: Path, page: str) -> None:
    from resurgam.durable import replace_file

    try:
        replace_file(path, page.encode())
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror}.", "Choose another --out.") from None
