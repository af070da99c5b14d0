"""`resurgam audit`: who did what, and whether the log of it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resurgam.cli import exits
from resurgam.cli.face import Face, JsonOption
from resurgam.cli.wording import columns, printable
from resurgam.counting import count_text
from resurgam.errors import ResurgamError

if TYPE_CHECKING:
    from resurgam.catalog.audit import AuditEntry
    from resurgam.catalog.audit_chain import AuditCheck
    from resurgam.service import Service


app = typer.Typer(name="audit", help="Who did what, by an audit log.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="How many of the latest.")] = 100,
    json: JsonOption = False,
) -> int:
    """List who did what, or was refused it, the newest first."""
    face = Face(json)
    with face.service() as service:
        entries = service.state.audit.page(limit)
    face.answer([entry.to_json() for entry in entries], _list_text(entries))
    return exits.OK


@app.command()
def verify(json: JsonOption = False) -> int:
    """Check that no entry was edited, deleted, reordered or put in.

    Exits 1 with every problem. Keep the last id and digest that it prints somewhere else: who may write the state could
    make all of it anew.
    """
    face = Face(json)
    with face.service() as service:
        check = service.state.audit.verify()
    face.answer(check.to_json(), _check_text(check))
    return exits.FAILED if check.problems else exits.OK


@contextmanager
def audited(
    service: Service, action: str, target: str, details: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Note that whoever runs this command does something, before it is done, and how it ended.

    What the block puts into the given dict are the second entry's details. Where nothing can be noted nothing is done:
    ResurgamError, which is in the log too.
    """
    from resurgam.catalog.audit import local_actor

    actor = local_actor()
    try:
        service.folder.prepare()
        audit = service.state.audit
        audit.append(actor.name, actor.role, actor.origin, action, target, "accepted", details)
    except ResurgamError as error:
        service.log.error(f"{action} {target}: failed: {error.message}")
        raise
    with audit.noting(actor, action, target) as noted:
        yield noted


def _list_text(entries: tuple[AuditEntry, ...]) -> str:
    if not entries:
        return "Nothing was done yet that the audit log keeps."
    rows = [
        (
            str(entry.id),
            f"{entry.at.astimezone():%Y-%m-%d %H:%M:%S %Z}",
            *map(printable, (entry.actor, entry.role, entry.origin, entry.action, entry.target, entry.outcome)),
        )
        for entry in entries
    ]
    return columns(("ID", "TIME", "ACTOR", "ROLE", "BY", "ACTION", "TARGET", "OUTCOME"), rows, frozenset({0}))


def _check_text(check: AuditCheck) -> str:
    counted = count_text(check.entries, "entry", "entries")
    last = "" if check.last is None else f" The last is {check.last.id}, {check.last.digest}."
    if not check.problems:
        return f"The audit log is whole: {counted}.{last}"
    lines = [f"The audit log was tampered with, or damaged ({counted}):"]
    return "\n".join([*lines, *(f"  - {problem}" for problem in check.problems)])
