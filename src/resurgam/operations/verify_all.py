"""Verify every backup there is, as the weekly schedule does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resurgam.errors import KeyRefused, NotFoundError, ResurgamError, VerifyFailed
from resurgam.operations.inventory import Inventory
from resurgam.operations.progress import Progress
from resurgam.operations.verify_share import verify_record


@dataclass(frozen=True, slots=True)
class VerifyAllResult:
    """The names of the backups that passed, the newest first; `size`: how many bytes were read. `repository`: what was
    found of one."""

    sound: tuple[str, ...]
    size: int
    repository: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        counted = {"sound": list(self.sound), "backups": len(self.sound), "size_bytes": self.size}
        return {"success": True, **counted, "repository": self.repository}


def verify_all(inventory: Inventory, progress: Progress, now: datetime, *, full: bool) -> VerifyAllResult:
    """Read each backup's best copy whole, or not `full` as `verify_record` does it.

    One that is not sound does not keep the others from being read. VerifyFailed names all that are not sound, or
    says how many no key opened; NotFoundError if there is no backup at all.
    """
    inventory.refresh()
    sound, size, problems, locked = [], 0, [], []
    records = inventory.records()
    together = inventory.holdings.verify_all(progress, now, full=full)
    if together is not None and records:
        whole = tuple(record.name for record in records if record.name in together.whole)
        return VerifyAllResult(whole, together.bytes_read, together.to_json())
    for record in records:
        try:
            size += verify_record(inventory, record, progress, now, full=full).size
            sound.append(record.name)
        except KeyRefused as error:
            locked.append(error)
        except (ResurgamError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                continue  # retention deleted it meanwhile
            problems.append(f"{record.name}: {error.message if isinstance(error, ResurgamError) else error.strerror}")
    if not records:
        raise NotFoundError("There is no backup to verify.", "`resurgam backup` takes one.")
    if problems:
        unknown = f" {len(locked)} could not be opened." if locked else ""
        raise VerifyFailed(
            f"{len(problems)} of {len(records)} backups are not sound. {' '.join(problems)}{unknown}",
            "Take a new backup now; `resurgam show NAME` says where other copies are.",
        )
    if locked:
        raise VerifyFailed(
            f"{len(locked)} of {len(records)} backups could not be opened, so nothing is known of them. "
            f"{locked[0].message}",
            locked[0].hint,
        )
    return VerifyAllResult(tuple(sound), size)
