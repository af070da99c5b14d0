"""Delete one backup: everywhere, or its local copy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resurgam.errors import NotFoundError, StorageError, UsageError
from resurgam.operations.inventory import Inventory, megabytes


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What was deleted, and where copies remain; `freed` in bytes."""

    name: str
    deleted: tuple[str, ...]
    remaining: tuple[str, ...]
    freed: int
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "success": True,
            "message": f"Backup {self.name} {'would be deleted' if self.dry_run else 'deleted successfully'}",
            "backup_name": self.name,
            "deleted": list(self.deleted),
            "remaining": list(self.remaining),
            "freed_mb": megabytes(self.freed),
            "dry_run": self.dry_run,
        }


def delete(inventory: Inventory, pinned: frozenset[str], name: str, *, local_only: bool, dry_run: bool) -> DeleteResult:
    """Delete a backup. NotFoundError if it is unknown; UsageError if it is pinned; StorageError if a copy remains.

    The remote copy goes first: if that fails, the local one is still there. The caller holds the folder's lock.
    """
    inventory.refresh()
    record = inventory.find(name)
    if record.name in pinned:
        raise UsageError(f"The backup {record.name} is pinned.", f"`resurgam pin {record.name} --remove` first.")
    if not local_only and inventory.remote is not None and not inventory.remote_readable:
        raise StorageError(
            f"The remote folder can not be read, so a copy of {record.name} may be there; nothing was deleted.",
            "Mount it, or delete the local copy alone with --local.",
        )
    wanted = [copy for copy in record.copies if copy.location != "remote" or not local_only]
    if not wanted:
        raise NotFoundError(
            f"The backup {record.name} has no local copy.", "Without --local its remote copy is deleted."
        )
    for copy in sorted(wanted, key=lambda copy: copy.location != "remote"):
        if dry_run:
            continue
        if copy.location == "remote" and inventory.remote is not None:
            inventory.remote.delete(record.name)
        else:
            inventory.holdings.delete(record.name)
        inventory.catalog.forget(copy.location, record.name)
    remaining = tuple(copy.location for copy in record.copies if copy not in wanted)
    return DeleteResult(
        record.name, tuple(copy.location for copy in wanted), remaining, sum(copy.size for copy in wanted), dry_run
    )
