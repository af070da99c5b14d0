"""Verify every backup there is, as the weekly schedule does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resurgam.errors import NotFoundError, ResurgamError, VerifyFailed
from resurgam.operations.inventory import Inventory
from resurgam.operations.progress import Progress
from resurgam.operations.verify import verify


@dataclass(frozen=True, slots=True)
class VerifyAllResult:
    """The names of the backups that passed, the newest first; `size` is their archives' bytes."""

    sound: tuple[str, ...]
    size: int

    def to_json(self) -> dict[str, Any]:
        return {"success": True, "sound": list(self.sound), "backups": len(self.sound), "size_bytes": self.size}


def verify_all(inventory: Inventory, progress: Progress) -> VerifyAllResult:
    """Read each backup's best copy whole. One that is not sound does not keep the others from being read.

    VerifyFailed names all that are not sound; NotFoundError if there is no backup at all.
    """
    inventory.refresh()
    sound, size, problems = [], 0, []
    records = inventory.records()
    for record in records:
        try:
            with inventory.open(record) as archive:
                size += verify(archive, progress).size
            sound.append(record.name)
        except (ResurgamError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                continue  # retention deleted it meanwhile
            problems.append(f"{record.name}: {error.message if isinstance(error, ResurgamError) else error.strerror}")
    if not records:
        raise NotFoundError("There is no backup to verify.", "`resurgam backup` takes one.")
    if problems:
        raise VerifyFailed(
            f"{len(problems)} of {len(records)} backups are not sound. {' '.join(problems)}",
            "Take a new backup now; `resurgam show NAME` says where other copies are.",
        )
    return VerifyAllResult(tuple(sound), size)
