"""The service's part that gives backups out, takes archives in, and looks into them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resurgam.operations.browse import Page
    from resurgam.operations.transfer import ExportResult, ImportResult
    from resurgam.service import Service


def export_backup(service: Service, name: str, target: Path) -> ExportResult:
    """Write a backup as one archive, into a new file or a folder (`operations.transfer`)."""
    from resurgam.operations import transfer

    return transfer.export_backup(service.inventory, name, target, service.progress)


def import_archive(service: Service, path: Path) -> ImportResult:
    """Take an archive among the backups, under its name, after it was verified whole."""
    from resurgam.operations import transfer

    service.folder.prepare()
    with service.folder.lock():
        return transfer.import_archive(service.inventory, path, service.progress)


def browse(service: Service, name: str, path: str, limit: int, after: str | None) -> tuple[str, Page]:
    """The backup's name, and what stands in one of its folders; no content is read."""
    from resurgam.operations.browse import browse

    inventory = service.inventory
    inventory.refresh()
    record = inventory.find(name)
    with inventory.open(record) as archive:
        return record.name, browse(archive, path, limit, after)
