"""Prune: what retention no longer keeps goes, in each location by its own rules; other files are never touched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resurgam.catalog.catalog import BackupRecord
from resurgam.errors import NotFoundError, ResurgamError
from resurgam.operations.inventory import Inventory, megabytes
from resurgam.policy.retention import Candidate, Decision, RetentionRules, plan_retention


@dataclass(frozen=True, slots=True)
class Pruned:
    """One decision for one location; `size` in bytes; `error` if a deletion failed."""

    location: str
    decision: Decision
    size: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class PruneResult:
    """Every decision, newest first; with `dry_run` nothing was deleted."""

    dry_run: bool
    decisions: tuple[Pruned, ...]

    @property
    def deleted(self) -> tuple[Pruned, ...]:
        return tuple(one for one in self.decisions if not one.decision.keep and not one.error)

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(one.error for one in self.decisions if one.error)

    def to_json(self) -> dict[str, Any]:
        return {
            "success": not self.errors,
            "dry_run": self.dry_run,
            "deleted": len(self.deleted),
            "freed_mb": megabytes(sum(one.size for one in self.deleted)),
            "plan": [
                {
                    "backup_name": one.decision.name,
                    "location": one.location,
                    "action": "keep" if one.decision.keep else "delete",
                    "reason": one.decision.reason,
                    "size_mb": megabytes(one.size),
                    **({"error": one.error} if one.error else {}),
                }
                for one in self.decisions
            ],
        }


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules of both locations, and whose backups they are for."""

    app_name: str
    local: RetentionRules
    remote: RetentionRules


def prune(
    inventory: Inventory,
    retention: Retention,
    pinned: frozenset[str],
    now: datetime,
    *,
    clocks_agree: bool = True,
    dry_run: bool = False,
) -> PruneResult:
    """Plan for each location, then delete once. The caller holds the folder's lock and has refreshed the inventory."""
    decisions = list(_prune_one(inventory, "local", retention, pinned, now, clocks_agree, dry_run))
    if inventory.remote is not None and inventory.remote_readable:
        decisions += _prune_one(inventory, "remote", retention, pinned, now, clocks_agree, dry_run)
    return PruneResult(dry_run, tuple(decisions))


def kept_remotely(inventory: Inventory, retention: Retention, pinned: frozenset[str], now: datetime) -> frozenset[str]:
    """The local backups that the remote rules would keep if every one of them were copied."""
    records = [record for record in inventory.records() if _ours(record, retention.app_name)]
    plan = plan_retention([_candidate(record, pinned) for record in records], retention.remote, now)
    local = {record.name for record in records if "local" in record.locations and record.condition != "damaged"}
    return frozenset(decision.name for decision in plan if decision.keep and decision.name in local)


def _prune_one(
    inventory: Inventory,
    location: str,
    retention: Retention,
    pinned: frozenset[str],
    now: datetime,
    clocks_agree: bool,
    dry_run: bool,
) -> list[Pruned]:
    records = {
        record.name: record
        for record in inventory.records()
        if location in record.locations and _ours(record, retention.app_name)
    }
    candidates = [_candidate(record, pinned, location) for record in records.values()]
    rules = retention.local if location == "local" else retention.remote
    decided = []
    for decision in plan_retention(candidates, rules, now, clocks_agree):
        size = next(copy.size for copy in records[decision.name].copies if copy.location == location)
        error = ""
        if not decision.keep and not dry_run:
            error = _delete(inventory, location, decision.name)
        decided.append(Pruned(location, decision, size, error))
    return decided


def _delete(inventory: Inventory, location: str, name: str) -> str:
    """Delete one copy; answers what went wrong, so that the others are still tried."""
    try:
        if location == "remote" and inventory.remote is not None:
            inventory.remote.delete(name)
        else:
            inventory.folder.delete(name)
    except NotFoundError:
        pass  # somebody was quicker
    except ResurgamError as error:
        return error.message
    inventory.catalog.forget(location, name)
    return ""


def _ours(record: BackupRecord, app_name: str) -> bool:
    return record.name.rpartition("_backup_")[0] == app_name


def _candidate(record: BackupRecord, pinned: frozenset[str], location: str | None = None) -> Candidate:
    conditions = [copy.condition for copy in record.copies if location in (None, copy.location)]
    good = any(condition != "damaged" for condition in conditions)
    return Candidate(record.name, record.sequence, record.taken_at, good, record.name in pinned)
