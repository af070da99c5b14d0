"""Prune: what retention no longer keeps goes, in each location by its own rules; other files are never touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.state import State
from resurgam.operations.holdings import Collected, delete_each
from resurgam.operations.inventory import Inventory, megabytes
from resurgam.operations.progress import Progress
from resurgam.policy.health_reasons import UNSOUND
from resurgam.policy.interlock import Standing, suspicions
from resurgam.policy.retention import Candidate, Decision, RetentionRules, plan_retention

# Signs of the state: the newest backup when somebody last looked; why nothing expires.
ACCEPTED = "retention accepted"
FROZEN = "retention frozen"
# Verifications that are looked at for what they found of a backup.
_VERIFIES = 200


@dataclass(frozen=True, slots=True)
class Pruned:
    """One decision for one location; `size` in bytes; `error` if a deletion failed."""

    location: str
    decision: Decision
    size: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class PruneResult:
    """Every decision, newest first; with `dry_run` nothing was deleted. `frozen`: why nothing expires, if so.
    `collected`: what a repository freed."""

    dry_run: bool
    decisions: tuple[Pruned, ...]
    frozen: tuple[str, ...] = ()
    collected: Collected | None = None

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
            "frozen": list(self.frozen),
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
            "repository": None if self.collected is None else self.collected.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules of both locations, and whose backups they are for. `shrink_limit`: percent (policy/interlock.py)."""

    app_name: str
    local: RetentionRules
    remote: RetentionRules
    shrink_limit: int = 50


def prune(
    inventory: Inventory,
    retention: Retention,
    state: State,
    now: datetime,
    *,
    clocks_agree: bool = True,
    dry_run: bool = False,
    accept: bool = False,
) -> PruneResult:
    """Plan for each location, then delete once. The caller holds the folder's lock and has refreshed the inventory.

    While a backup is suspicious nothing is deleted; with `accept` somebody has looked, and it counts like any other.
    """
    if accept and not dry_run:
        _accept(inventory, retention, state)
    suspects = {} if accept else _suspects(inventory, retention, state)
    if not dry_run:
        _note_frozen(state, suspects)
    verdicts = state.drills.verdicts()
    known = _Known(
        state.pinned(), frozenset(name for name, how in verdicts.items() if how == "passed"), frozenset(suspects)
    )
    here = inventory.holdings.location
    decisions = list(_prune_one(inventory, here, retention, known, now, clocks_agree, dry_run))
    if inventory.remote is not None and inventory.remote_readable:
        decisions += _prune_one(inventory, "remote", retention, known, now, clocks_agree, dry_run)
    return PruneResult(dry_run, tuple(decisions), tuple(suspects.values()))


def prune_and_collect(
    inventory: Inventory,
    retention: Retention,
    state: State,
    now: datetime,
    progress: Progress,
    *,
    clocks_agree: bool = True,
    dry_run: bool = False,
    accept: bool = False,
) -> PruneResult:
    """The same, and what they alone needed is freed. CollectionRefused, with nothing deleted, if that were too much."""
    parts, holdings = (inventory, retention, state, now), inventory.holdings
    planned = prune(*parts, clocks_agree=clocks_agree, dry_run=True, accept=accept)
    doomed = [one.decision.name for one in planned.deleted if one.location == holdings.location]
    foreseen = None
    if doomed or dry_run:
        foreseen = holdings.foresee(doomed, progress, accept=accept, refuse=not dry_run)
    if dry_run:
        return replace(planned, collected=foreseen)
    pruned = prune(*parts, clocks_agree=clocks_agree, accept=accept)
    return replace(pruned, collected=holdings.collect(progress, accept=accept, checked=bool(doomed)))


@dataclass(frozen=True, slots=True)
class _Known:
    """What the state knows of backups, by name."""

    pinned: frozenset[str]
    drilled: frozenset[str]
    suspects: frozenset[str]


def _own(inventory: Inventory, retention: Retention) -> list[BackupRecord]:
    """Whole backups of the application, the newest first."""
    return [one for one in inventory.records() if _ours(one, retention.app_name) and one.condition != "damaged"]


def _suspects(inventory: Inventory, retention: Retention, state: State) -> dict[str, str]:
    verdicts = state.drills.verdicts()
    unsound = _unsound(state)
    standings = []
    for record in _own(inventory, retention):
        failed = f"The drill of {record.name} failed." if verdicts.get(record.name) == "failed" else ""
        failed = failed or (f"The verification of {record.name} failed." if record.name in unsound else "")
        rows = _rows(inventory.catalog.metadata(record.name))
        standings.append(Standing(record.name, record.sequence, record.taken_at, record.database_size, rows, failed))
    return suspicions(standings, retention.shrink_limit, _accepted(state))


def _unsound(state: State) -> set[str]:
    """Backups whose own latest verification failed for what they are, not for what kept them from being read."""
    settled: dict[str, bool] = {}
    for run in state.history.last("verify", ("ok", "failed"), _VERIFIES):
        settled.setdefault(run.target, run.outcome == "failed" and run.code in UNSOUND)
    return {name for name, bad in settled.items() if bad}


def _rows(metadata: Mapping[str, Any] | None) -> int | None:
    """The rows that the metadata lists of its tables; None if it does not."""
    database = (metadata or {}).get("database")
    tables = database.get("tables") if isinstance(database, dict) else None
    if not isinstance(tables, list):
        return None
    counts = [one[2] for one in tables if isinstance(one, list) and len(one) == 3 and type(one[2]) is int]
    return sum(counts) if len(counts) == len(tables) else None


def _accepted(state: State) -> tuple[int, datetime, str] | None:
    sign = state.signs.get(ACCEPTED)
    if sign is None:
        return None
    return int(sign.data["sequence"]), datetime.fromisoformat(sign.data["taken_at"]), str(sign.data["name"])


def _accept(inventory: Inventory, retention: Retention, state: State) -> None:
    newest = next(iter(_own(inventory, retention)), None)
    if newest is not None:
        taken_at = newest.taken_at.isoformat()
        state.signs.put(ACCEPTED, {"sequence": newest.sequence, "taken_at": taken_at, "name": newest.name})


def _note_frozen(state: State, suspects: Mapping[str, str]) -> None:
    """For health, which has no time to read the metadata of every backup each minute."""
    before = state.signs.get(FROZEN)
    reasons = list(suspects.values())
    if reasons != ([] if before is None else before.data.get("reasons")):
        state.signs.put(FROZEN, {"reasons": reasons})


def kept_remotely(inventory: Inventory, retention: Retention, pinned: frozenset[str], now: datetime) -> frozenset[str]:
    """The local backups that the remote rules would keep if every one of them were copied."""
    records = [record for record in inventory.records() if _ours(record, retention.app_name)]
    plan = plan_retention([_candidate(record, pinned) for record in records], retention.remote, now)
    here = inventory.holdings.location
    local = {record.name for record in records if here in record.locations and record.condition != "damaged"}
    return frozenset(decision.name for decision in plan if decision.keep and decision.name in local)


def _prune_one(
    inventory: Inventory,
    location: str,
    retention: Retention,
    known: _Known,
    now: datetime,
    clocks_agree: bool,
    dry_run: bool,
) -> list[Pruned]:
    records = {
        record.name: record
        for record in inventory.records()
        if location in record.locations and _ours(record, retention.app_name)
    }
    series_of = inventory.holdings.series_of if location == inventory.holdings.location else _one_series
    candidates = [
        replace(
            _candidate(record, known.pinned, location),
            drilled=record.name in known.drilled,
            series=series_of(record.name),
        )
        for record in records.values()
    ]
    rules = retention.remote if location == "remote" else retention.local
    decisions = plan_retention(candidates, rules, now, clocks_agree, frozen=bool(known.suspects))
    doomed = [one.name for one in decisions if not one.keep and not dry_run]
    errors = _delete(inventory, location, doomed) if doomed else {}
    decided = []
    for decision in decisions:
        size = next(copy.size for copy in records[decision.name].copies if copy.location == location)
        decided.append(Pruned(location, decision, size, errors.get(decision.name, "")))
    return decided


def _one_series(_: str) -> str:
    return ""


def _delete(inventory: Inventory, location: str, names: Sequence[str]) -> dict[str, str]:
    """Delete copies; answers what went wrong, by name."""
    if location == "remote" and inventory.remote is not None:
        errors = delete_each(inventory.remote.delete, names)
    else:
        errors = inventory.holdings.delete_all(names)
    inventory.catalog.forget(location, *(name for name in names if name not in errors))
    return errors


def _ours(record: BackupRecord, app_name: str) -> bool:
    return record.name.rpartition("_backup_")[0] == app_name


def _candidate(record: BackupRecord, pinned: frozenset[str], location: str | None = None) -> Candidate:
    conditions = [copy.condition for copy in record.copies if location in (None, copy.location)]
    good = any(condition != "damaged" for condition in conditions)
    return Candidate(record.name, record.sequence, record.taken_at, good, record.name in pinned)
