"""`resurgam backup`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.face import Face, JsonOption, QuietOption
from resurgam.cli.wording import seconds_text, size_text
from resurgam.counting import count_text

WaitOption = Annotated[
    bool, typer.Option("--wait", help="While another run is at work, stand in line rather than being refused.")
]

if TYPE_CHECKING:
    from resurgam.operations.backup import BackupResult


def backup(
    json: JsonOption = False,
    quiet: QuietOption = False,
    wait: WaitOption = False,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="With a repository: read also files that look unchanged.")
    ] = False,
) -> int:
    """Take a backup, copy it, prune.

    Database, configuration and files are one recovery point: it is whole, or there is none.
    """
    from resurgam.service import DISABLED

    face = Face(json, quiet)
    with face.service() as service:
        if not service.settings.backup_enabled:
            face.answer({"success": True, "skipped": True, "message": DISABLED}, DISABLED)
            return exits.OK
        service.read_all = read_all
        if service.repository is not None:
            service.repository.open_ahead()
        result = service.backup(wait=wait)
    face.warn(*result.warnings)
    face.answer(result.to_json(), _text(result))
    return exits.DEGRADED if result.failures else exits.OK


def _text(result: BackupResult) -> str:
    lines = [
        f"Backup {result.name} is complete.",
        f"  {result.archive_path}",
        f"  {size_text(result.size)} from {size_text(result.metadata.get('backup_size_bytes'))}, "
        f"{count_text(int(result.metadata.get('total_files', 0)), 'file')}, in {seconds_text(result.seconds)}",
    ]
    if result.added is not None:
        lines.append(f"  {size_text(result.added)} of it are new in the repository.")
    lines += [f"  Copied {name} to the remote folder." for name in result.copied]
    lines += [f"  Retention deleted {one.decision.name} ({one.location})." for one in result.pruned.deleted]
    if result.failures:
        lines.append("Degraded: the backup itself is whole, but")
        lines += [f"  - {failure}" for failure in result.failures]
    return "\n".join(lines)
