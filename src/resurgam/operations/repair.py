"""Settle what a repository has lost for good, so that it can be pruned again; what can be made again is (57, 60).

Nothing that is there is removed: outcomes that others know are put again, what is gone is noted as gone, and backups
that it hurts are named. To delete those is the user's decision.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resurgam.operations.losses import find_losses
from resurgam.operations.progress import Progress
from resurgam.operations.verify_repository import verify_repository
from resurgam.repository.layout import new_id, outcome_key, record_key
from resurgam.repository.manifests import COMMITTED
from resurgam.repository.removals import encode_removal
from resurgam.repository.repository import Repository
from resurgam.repository.sealing import Kind, Sealer


@dataclass(frozen=True, slots=True)
class RepairResult:
    """`lost` in words; `mended`: what was, or would be, put again; `hurt`: backups that can't be restored whole."""

    dry_run: bool
    lost: tuple[str, ...]
    mended: tuple[str, ...]
    problems: tuple[str, ...]
    hurt: tuple[str, ...]
    whole: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "success": True,
            "dry_run": self.dry_run,
            "lost": list(self.lost),
            "mended": list(self.mended),
            "problems": list(self.problems),
            "hurt": list(self.hurt),
            "whole": list(self.whole),
        }


def repair(
    repository: Repository,
    heal_keys: Callable[[], tuple[str, ...]],
    *,
    today: datetime,
    progress: Progress,
    dry_run: bool = False,
    remembered: frozenset[bytes] = frozenset(),
) -> RepairResult:
    """Look at everything, then settle what is lost; `heal_keys` mends the key ring's copies, and says what it did.
    `remembered`: manifests that this machine has seen, whose absence stops a prune as well.

    DamagedError where so much is broken that nothing can be told.
    """
    repository.index.reload()
    lost = find_losses(repository, repository.standing(), remembered)
    words, mended = lost.words, tuple(f"the outcome {one.hex()}" for one in sorted(lost.outcomes))
    if not dry_run:
        sealer, store = Sealer(repository.keys), repository.store
        text = json.dumps({"outcome": COMMITTED}).encode()
        for manifest in lost.outcomes:
            store.delete(outcome_key(manifest))  # where one lies there, nobody can believe it
            store.put(outcome_key(manifest), sealer.seal_text(Kind.OUTCOME, manifest, text))
        if lost.outcomes:  # what those backups name counts again
            lost = find_losses(repository, repository.standing(), remembered)
            words += [one for one in lost.words if one not in words]
        if gone := lost.removals:
            record = new_id()
            store.put(record_key(record), encode_removal(sealer, record, "lost", gone))
        mended = (*mended, *heal_keys())
    verdict = verify_repository(repository, full=False, today=today, progress=progress)
    return RepairResult(dry_run, tuple(words), mended, verdict.problems, verdict.hurt, verdict.whole)
